"""Ask ComfyUI the plan's two questions: how much memory the model wants for one segment, and where empty
latents live.
"""

import torch

import comfy.model_management

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


def empty_latent(timeline: Timeline) -> dict:
    """Return a LATENT of the whole timeline, all zero [1, C, F, H, W]."""
    return {
        "samples": torch.zeros(empty_shape(timeline), device=comfy.model_management.intermediate_device()),
        "downscale_ratio_spacial": timeline.facts.spatial_stride,
    }
