"""Ask ComfyUI the plan's questions: how much memory the model and its features want for one segment, and where empty
latents live.
"""

from dataclasses import replace
from itertools import product

import torch

import comfy.model_management
from comfy.nested_tensor import NestedTensor
from comfy_execution.graph_utils import ExecutionBlocker

from ...engine.plan.memory_table import WAYS, memory_table
from ...engine.plan.needs import CARD, EIGHT_BIT, FULL, MAIN_MEMORY, AttentionSize, Need
from ...engine.plan.sound import sound_of
from ...engine.plan.timeline import Timeline
from ..attention.attention_size import attention_size
from ..attention.patching import features_of
from ..attention.remedies import keep_of, keeping
from ..attention.reserve import RunMemory
from ..families import core_shape, family_of
from ..types import ModelPatcher


def segment_bytes(model: ModelPatcher, timeline: Timeline, guidance: bool) -> int:
    """Return ComfyUI's own estimate for one evaluation of the longest segment, with both prompts in one batch."""
    facts = timeline.facts
    frames = max(segment.latent_frames for segment in timeline.segments) + 1  # and the lead frame
    shape = [
        2 if guidance else 1,
        facts.latent_channels,
        frames,
        timeline.height // facts.spatial_stride,
        timeline.width // facts.spatial_stride,
    ]
    return int(model.model.memory_required(core_shape(model.model, shape)))


def memory_of(model: ModelPatcher, timeline: Timeline, guidance: bool) -> list[str]:
    """Return the lines of the memory table of sampling this timeline with the features that `model` carries.

    The window is a segment with the frame in front of it, as joint sampling shows it; a rollout's are a frame shorter.
    """
    family, shape = family_of(model), list(empty_shape(timeline))
    shape[2] = min(timeline.latent_frames, max(segment.latent_frames for segment in timeline.segments) + 1)
    features, prompts = features_of(model.model_options), 2 if guidance else 1
    size = attention_size(
        family,
        model.model.diffusion_model,
        shape,
        rows=prompts,
        text_tokens=family.TEXT_TOKENS,
        itemsize=model.model.get_dtype_inference().itemsize,
    )
    run = RunMemory(
        model,
        features,
        size=size,
        window=shape,
        prompts=prompts,
        latent_numbers=empty_shape(timeline).numel(),
        shorter=lambda frames: f"segment_frames {timeline.facts.pixel_frames(frames - 1)}",
    )
    windows = {
        shown: int(model.model.memory_required(core_shape(model.model, [rows, *shape[1:]])))
        for shown, rows in (("guidance", 2), ("one prompt", 1))
    }
    return memory_table(run.plan, windows, [_ways(feature, size) for feature in features], run.refused())


def _ways(feature, size: AttentionSize) -> dict[str, Need]:
    """Return the needs of a feature in every way of memory_table.WAYS; the one that it has where it has no choice."""
    keep = keep_of(feature)
    if keep is None:
        return {WAYS[0]: feature.need(size)}
    return {
        way: keeping(feature, replace(keep, place=place, form=form)).need(size)
        for way, (form, place) in zip(WAYS, product((FULL, EIGHT_BIT), (CARD, MAIN_MEMORY)), strict=True)
    }


def empty_shape(timeline: Timeline, latent_frames: int | None = None) -> torch.Size:
    """Return the shape of the latent of the whole timeline, or of so many of its frames, [1, C, F, H, W]."""
    facts = timeline.facts
    return torch.Size(
        (
            1,
            facts.latent_channels,
            timeline.latent_frames if latent_frames is None else latent_frames,
            timeline.height // facts.spatial_stride,
            timeline.width // facts.spatial_stride,
        )
    )


def check_interrupt() -> None:
    """Raise what ComfyUI stops a prompt with, where the user asked for it."""
    comfy.model_management.throw_exception_if_processing_interrupted()


def empty_latent(timeline: Timeline) -> dict | ExecutionBlocker:
    """Return a LATENT of the whole timeline, all zero [1, C, F, H, W].

    Where it does not fit into memory, what uses it is stopped with the bytes, and the plan's report is shown all the
    same.
    """
    shape, device = empty_shape(timeline), comfy.model_management.intermediate_device()
    needed, free = shape.numel() * 4, comfy.model_management.get_free_memory(device)
    if needed > free:
        return ExecutionBlocker(
            f"the latent of {timeline.latent_frames:,} latent frames at {timeline.width}x{timeline.height} pixels needs"
            f" {needed:,} bytes, and {free:,} are free on {device}; use fewer seconds or frames per second, a smaller "
            f"size, or several storyboards"
        )
    return _empty(timeline, shape)


def segment_latent(timeline: Timeline) -> dict:
    """Return an empty LATENT [1, C, F, H, W] of the longest segment: what the network sees at once.

    Schedulers that count tokens (LTXVScheduler, ModelSamplingLTXV) shift the noise levels for the clip that is denoised
    at once; with the timeline's own latent they shift beyond all measure.
    """
    longest = max(segment.latent_frames for segment in timeline.segments)
    return _empty(timeline, empty_shape(timeline, longest))


def _empty(timeline: Timeline, shape: torch.Size) -> dict:
    """Return an empty LATENT of this shape [1, C, F, H, W], with sound of the same seconds where the family makes it.

    Core scales an empty latent of pictures to a model's own; of video and sound together it says nothing of that kind.
    """
    device, sound = comfy.model_management.intermediate_device(), sound_of(timeline)
    video = torch.zeros(shape, device=device)
    if sound is None:
        return {"samples": video, "downscale_ratio_spacial": timeline.facts.spatial_stride}
    return {"samples": NestedTensor([video, torch.zeros(sound.shape(shape[2]), device=device)])}
