"""The types of what ComfyUI hands to this pack and takes from it, under one name each.

Core annotates little of its own, so the aliases of containers say what they hold, and those of classes where they come
from. Nothing here has behaviour.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch

import comfy.clip_vision
import comfy.context_windows
import comfy.model_base
import comfy.model_patcher
import comfy.patcher_extension
import comfy.samplers
import comfy.sd
from comfy_api.latest import Input

ModelPatcher: TypeAlias = comfy.model_patcher.ModelPatcher  # a MODEL: weights, patches, options and wrappers
BaseModel: TypeAlias = comfy.model_base.BaseModel  # `ModelPatcher.model`: network, latent format and noise schedule
Network: TypeAlias = torch.nn.Module  # `BaseModel.diffusion_model`, of a class that its family knows
CLIP: TypeAlias = comfy.sd.CLIP
Video: TypeAlias = Input.Video
ClipVision: TypeAlias = comfy.clip_vision.ClipVisionModel
VAE: TypeAlias = comfy.sd.VAE
Guider: TypeAlias = comfy.samplers.CFGGuider
Sampler: TypeAlias = comfy.samplers.Sampler
Executor: TypeAlias = (
    comfy.patcher_extension.WrapperExecutor
)  # goes on to the next wrapper; `class_obj` is what is wrapped
ContextHandler: TypeAlias = comfy.context_windows.ContextHandlerABC
ContextWindow: TypeAlias = comfy.context_windows.ContextWindowABC

Latent: TypeAlias = dict[str, Any]  # a LATENT: "samples" [B, C, F, H, W], "noise_mask" and more
Conditioning: TypeAlias = list[list]  # a CONDITIONING: [text [1, tokens, width], {name: value}] for each entry
Entry: TypeAlias = dict[str, Any]  # one conditioning entry as core's guiders hold it
CondLists: TypeAlias = list[list[Entry] | None]  # entries of each prompt, by core's number of it; None for no prompt
ModelOptions: TypeAlias = dict[str, Any]  # with "transformer_options", and "context_handler" where there is one
CalcCondBatch: TypeAlias = Callable[
    ..., list[torch.Tensor]
]  # (model, conds, x, timestep, model_options) -> predictions
Attention: TypeAlias = Callable[..., torch.Tensor]  # (q, k, v, mask) -> [B, H, Sq, D], each [B, H, S, D]
CoreAttention: TypeAlias = Callable[..., torch.Tensor]  # core's own: (q, k, v, heads, mask=, ...) -> [B, Sq, H D]
Callback: TypeAlias = Callable[[int, torch.Tensor, torch.Tensor, int], object]  # (step, x0, x, steps)
