"""Give the shots of a timeline that have a seed their own noise, which stays what it is whatever else changes."""

import torch

from ...engine.plan.sound import SoundPlan, sound_of
from ...engine.plan.timeline import Timeline
from .checks import check_latent_frames
from .segment_window import FRAME_AXIS

SOUND_SEED = 2**32  # from a shot's seed to that of its sound's noise


def noise_of_streams(streams: list[torch.Tensor], timeline: Timeline) -> list[torch.Tensor]:
    """Return the noise of a video and, beside it, of its sound [B, C, T, frequencies], as `noise_of_shots` does."""
    video, *others = streams
    plan = sound_of(timeline)
    return [noise_of_shots(video, timeline), *(_of_sound(noise, timeline, plan) for noise in others if plan)]


def _of_sound(noise: torch.Tensor, timeline: Timeline, plan: SoundPlan) -> torch.Tensor:
    if not noise.any():
        return noise
    noise = noise.clone()
    for planned in timeline.shots:
        if planned.shot.seed is not None:
            generator = torch.Generator().manual_seed((planned.shot.seed + SOUND_SEED) % 2**63)
            first, last = plan.between(planned.start_frame, planned.end_frame)
            own = noise[:, :, first:last]
            own[:] = torch.randn(own.shape, generator=generator).to(noise)
    return noise


def noise_of_shots(noise: torch.Tensor, timeline: Timeline) -> torch.Tensor:
    """Return the sampler's noise [B, C, F, H, W], except in shots that have a seed: theirs depends on that seed alone.

    Noise that is all zero (a sampler that adds none) stays so. Raises ValueError for noise of another length.
    """
    seeded = [planned for planned in timeline.shots if planned.shot.seed is not None]
    if not seeded or not noise.any():
        return noise
    if noise.shape[FRAME_AXIS] < timeline.latent_frames:
        check_latent_frames(noise.shape[FRAME_AXIS], timeline)
    noise = noise.clone()
    for planned in seeded:
        generator = torch.Generator().manual_seed(planned.shot.seed % 2**63)
        shape = (*noise.shape[:FRAME_AXIS], planned.latent_frames, *noise.shape[FRAME_AXIS + 1 :])
        noise[:, :, planned.start_frame : planned.end_frame] = torch.randn(shape, generator=generator).to(noise)
    return noise
