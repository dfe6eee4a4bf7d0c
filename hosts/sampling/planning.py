"""Ask ComfyUI the plan's two questions: how much memory the model wants for one segment, and where empty
latents live.
"""

import torch

import comfy.model_management
from comfy_execution.graph_utils import ExecutionBlocker

from ...engine.plan.timeline import Timeline
from ..types import ModelPatcher

WORKING_COPIES = 5  # latent-sized float32 tensors at once: noise, x, x0 and the two sums of the blend


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
    return int(model.model.memory_required(shape))


def latent_bytes(timeline: Timeline) -> int:
    """Return the bytes of the whole timeline's working copies, [1, C, F, H, W] each."""
    return empty_shape(timeline).numel() * 4 * WORKING_COPIES


def empty_shape(timeline: Timeline) -> torch.Size:
    """Return the shape of the whole timeline's latent, [1, C, F, H, W]."""
    facts = timeline.facts
    return torch.Size(
        (
            1,
            facts.latent_channels,
            timeline.latent_frames,
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
    return {"samples": torch.zeros(shape, device=device), "downscale_ratio_spacial": timeline.facts.spatial_stride}
