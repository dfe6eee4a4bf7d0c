"""Sample a whole timeline as the TTT paper does: all segments in one forward of the network, at every step.

Source: One-Minute Video Generation with Test-Time Training (arXiv 2504.05298, section 3). A model without TTT layers is
sampled too; its segments then meet in shared frames alone.
"""

from ...engine.plan.timeline import Timeline
from ..ttt import timeline as ttt_timeline
from ..types import ModelPatcher
from .joint import sample_attached
from .settings import Sampling


def sample_ttt(model: ModelPatcher, timeline: Timeline, latent: dict, sampling: Sampling, lead_frames: int = 0) -> dict:
    """Sample all segments in one forward of the network at every step, and return a LATENT.

    latent: as long as the timeline; a noise_mask in it is honoured. Without add_noise it is taken as noisy already.
    lead_frames: see hosts/ttt/timeline.attach.

    Raises ValueError as hosts/ttt/timeline.attach does.
    """
    return sample_attached(ttt_timeline.attach(model, timeline, lead_frames), timeline, latent, sampling)
