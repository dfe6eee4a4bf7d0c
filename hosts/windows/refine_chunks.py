"""Show the chunks of a refinement to the network by a context handler: it predicts the clean video (x0) of one chunk
after another, and randomized blending makes them one video before any sampler moves it.

Source: StreamingT2V (arXiv 2403.14773, section 4.3) as its public enhancer for ModelScope does it. Which frames a chunk
has, and which prompt, comes from a timeline (hosts/sampling/refine.py).
"""

import torch

from ...engine.plan.timeline import Segment, Timeline
from ...engine.sampling.refine import chunk_weights
from ..types import ContextHandler
from .latent_blend import TimelineHandler


class RefinedChunks(TimelineHandler):
    """Each overlap is cut at a new random frame, in a range of engine/sampling/refine.CUT_RANGES, at every
    evaluation."""

    def __init__(
        self, timeline: Timeline, cut_range: str, seed: int, lead_frame: bool, inside: ContextHandler | None = None
    ):
        super().__init__(timeline, "randomized", seed, lead_frame, inside)
        self.cut_range, self.steps = cut_range, 0

    def for_new_run(self) -> "RefinedChunks":
        return type(self)(self.timeline, self.cut_range, self.seed, self.lead_frame, self.inside)

    def shorter_windows(self, frames: int) -> str:
        return f"chunk_latent_frames {frames - self.lead_frame}"

    def weights_of_take(self, starts: list[int], lengths: list[int], seed: int) -> list[torch.Tensor]:
        return chunk_weights(starts, lengths, self.cut_range, seed, self.evaluation)

    def set_step(self, timestep: torch.Tensor, model_options: dict) -> None:
        super().set_step(timestep, model_options)
        self.steps = len(model_options["transformer_options"]["sample_sigmas"]) - 1

    def progress_of(self, number: int, segment: Segment) -> str:
        return f"chunk {number + 1}/{len(self.timeline.segments)}, step {self._step + 1}/{self.steps}"
