"""Sampling a whole timeline as the TTT paper does: all segments in one forward of the network, at every step.

Source: One-Minute Video Generation with Test-Time Training (arXiv 2504.05298, section 3). A model without TTT layers is
sampled too; its segments then meet in shared frames alone.
"""

import torch

from ...engine.plan.timeline import Timeline
from ..ttt import timeline as ttt_timeline
from .joint import sample_attached


def sample_ttt(
    model,
    timeline: Timeline,
    positive: list,
    negative: list,
    latent: dict,
    sampler,
    sigmas: torch.Tensor,
    cfg: float,
    seed: int,
    add_noise: bool = True,
) -> dict:
    """-> LATENT. `seed` draws the noise of shots without a seed of their own; a noise_mask in `latent` is honoured.
    Without `add_noise` the latent is taken as noisy already. Raises ValueError as hosts/ttt/timeline.attach does."""
    model = ttt_timeline.attach(model, timeline)
    return sample_attached(model, timeline, positive, negative, latent, sampler, sigmas, cfg, seed, add_noise)
