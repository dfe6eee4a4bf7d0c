"""Modules that ComfyUI loads beside the network of a MODEL: TTT layers and trained memories.

They stand in a patcher of the class that core itself uses for what its nodes load (a ControlNet, for instance): its
dynamic loader where that runs, or else the one that loads a model as a whole, so that eight gigabytes of layers do not
push the network out. On a CPU core's class is always the second: what is written here of the first was read in core's
code, not run.
"""

from functools import partial

import torch

import comfy.model_patcher

from ..types import ModelPatcher


def patcher_of(module: torch.nn.Module, model: ModelPatcher, name: str) -> ModelPatcher:
    """Return a patcher of `module` on the devices of `model`; `name` is said where it cannot be had on a second one."""
    patcher = comfy.model_patcher.CoreModelPatcher(module, model.load_device, model.offload_device)
    patcher.cached_patcher_init = (partial(_on_one_device, name), ())  # core's factory of clones for further devices
    return patcher


def _on_one_device(name: str) -> None:
    raise ValueError(
        f"{name} works on one device, and a node on this model (MultiGPU) makes clones of it for others; remove that "
        f"node"
    )
