"""Share what CAM and APM have in common on a MODEL: they are attached to a clone, and are no part of its network.

A memory's module lives in a ModelPatcher of its own that ComfyUI loads, casts and offloads beside the model, so it is
in no state dict of the model, no LoRA finds it, and no other clone sees it. A wrapper around the network puts it to
work. What a memory does there is its own file's matter (hosts/memory/cam.py, hosts/memory/apm.py).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

import comfy.ops
import comfy.patcher_extension as extension

from ...engine.memory.files import KINDS, LoadedMemory
from ...engine.runs.content_hash import content_hash
from ..attention.beside import patcher_of
from ..attention.feature import Bystander
from ..families import block_count, facts_of
from ..training import gradients
from ..training.fit import check_fit
from ..types import ModelPatcher


@dataclass(frozen=True)
class Carried:
    """This is what a clone has in its transformer_options."""

    memory: LoadedMemory
    module: torch.nn.Module
    strength: float


class TrainedMemoryRun(Bystander):
    """This is a run of a sampler with a memory that works around the network and has no business in its attention.

    latents: [B, C, F, H, W] as the network sees them, or None where there is nothing to remember yet."""

    needs_every_evaluation = True

    def __init__(self, latents: torch.Tensor | None):
        self.latents = latents

    def latents_like(self, x: torch.Tensor) -> torch.Tensor | None:
        """Return the latents on the device of x and in its dtype, where they stay for the run's later steps."""
        self.latents = None if self.latents is None else self.latents.to(x)
        return self.latents


def new_memory(model: ModelPatcher, kind: str, config, layers: frozenset[int]) -> LoadedMemory:
    """Return a neutral memory, as training begins; the rest is drawn the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = KINDS[kind][0](config, sorted(layers))
        module.start()
    weights = {
        name: value.detach() for name, value in module.to(model.model.get_dtype_inference()).state_dict().items()
    }
    return LoadedMemory(kind, config, weights, facts_of(model).family, block_count(model), tuple(sorted(layers)))


def carry(model: ModelPatcher, key: str, kind: str, memory: LoadedMemory, strength: float, evaluate: Callable):
    """Return a clone of `model` with a memory of `kind`; evaluate(executor, *args, **kwargs) stands around its network.

    Raises ValueError for a memory of the other kind, a second one, one of another family or size, and a strength out of
    range.
    """
    if memory.kind != kind:
        raise ValueError(
            f"this memory is {memory.kind.upper()}, and the node takes {kind.upper()}; CAM is for Longreel Short "
            f"Memory, APM for Longreel Long Memory"
        )
    if key in model.model_options["transformer_options"]:
        raise ValueError(
            f"this model carries a trained {memory.kind.upper()} already; wire the model from before that node"
        )
    if not 0 <= strength <= 1:
        raise ValueError(
            f"a strength of {strength:g} is not 0 to 1; use 0 for no memory, 1 for memory as it was trained"
        )
    check_fit(
        model, f"this {memory.kind.upper()} was", family=memory.family, width=memory.config.width, blocks=memory.blocks
    )
    module = memory.build(comfy.ops.manual_cast)
    model = model.clone()
    model.set_additional_models(key, [patcher_of(module, model, f"trained {kind.upper()}")])
    options = model.model_options["transformer_options"] = dict(model.model_options["transformer_options"])
    options[key] = Carried(memory, module, strength)
    model.add_wrapper_with_key(extension.WrappersMP.DIFFUSION_MODEL, key, evaluate)
    return model


def layers_asked(model: ModelPatcher, layers: frozenset[int]) -> frozenset[int]:
    """Return the layers asked for. Raises ValueError for a block that the network does not have, or none at all."""
    count = block_count(model)
    if not layers:
        raise ValueError(f"no block is asked for; use some of this model's {count}, counted from 0: 0 to {count - 1}")
    unknown = [number for number in sorted(layers) if not 0 <= number < count]
    if unknown:
        raise ValueError(
            f"block {unknown[0]} is asked for and this model has {count}, counted from 0; use some of 0 to {count - 1}"
        )
    return layers


def options_with(model: ModelPatcher, name: str, latents: torch.Tensor) -> dict:
    """Return the clone's transformer_options with its wrappers, as core makes them to sample, and `latents` as
    `name`."""
    options = model.model_options["transformer_options"]
    wrappers = extension.merge_nested_dicts(options.get("wrappers", {}), model.wrappers)
    return {**options, "wrappers": wrappers, name: latents}


@contextmanager
def training(model: ModelPatcher) -> Iterator[None]:
    """Stand around a trainer's steps, forward and backward.

    It sets core's own switch, without which rotary positions have no gradient; some blocks (HunyuanVideo,
    LTXV) overwrite tensors that gradients need, which are then copied first; and weights that ComfyUI loaded in
    inference mode, which can take part in no gradient, are copies meanwhile.
    """
    loaded = _made_in_inference(model.model.diffusion_model)
    try:
        with gradients.training(), torch.inference_mode(False):
            for held, name, weight in loaded:
                held[name] = _normal(weight)
            with torch.autograd.graph.allow_mutation_on_saved_tensors():
                yield
    finally:
        for held, name, weight in loaded:
            held[name] = weight


def parameters(model: ModelPatcher, key: str) -> dict[str, torch.nn.Parameter]:
    """Return what a trainer learns, by the names of the memory's weights; gradients are recorded from now on."""
    module = model.model_options["transformer_options"][key].module
    with torch.inference_mode(False):
        for held, name, weight in _made_in_inference(module):
            held[name] = _normal(weight)
        return dict(module.requires_grad_(True).named_parameters())


def _made_in_inference(module: torch.nn.Module) -> list[tuple[dict, str, torch.Tensor]]:
    """Return (dict that holds it, name, tensor) of each parameter and buffer that was made in inference mode."""
    return [
        (held, name, tensor)
        for part in module.modules()
        for held in (part._parameters, part._buffers)
        for name, tensor in held.items()
        if tensor is not None and tensor.is_inference()
    ]


def _normal(tensor: torch.Tensor) -> torch.Tensor:
    copy = tensor.detach().clone()
    return torch.nn.Parameter(copy, requires_grad=False) if isinstance(tensor, torch.nn.Parameter) else copy


def trained(model: ModelPatcher, key: str, title: str = "") -> LoadedMemory:
    """Return the memory as it is now, for engine/memory/files.save_memory; the weights are copies."""
    carried = model.model_options["transformer_options"][key]
    weights = {name: value.detach().cpu().clone() for name, value in carried.module.state_dict().items()}
    memory = carried.memory
    return LoadedMemory(memory.kind, memory.config, weights, memory.family, memory.blocks, memory.layers, title)


def fingerprint(memory: LoadedMemory) -> str:
    """Return what changes with any number of the memory: a chunk that was made with another one is made again."""
    return content_hash(memory.weights, "weights")
