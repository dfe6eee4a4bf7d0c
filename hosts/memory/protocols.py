"""These protocols say what a rollout asks of features that remember, beside the features that answer (hosts/memory).

A rollout (hosts/sampling/rollout.py) hands known frames to each chunk, saves finished chunks under a hash of all that
they depend on, and lets features work on a chunk's new frames; a feature that has a say in one of these implements its
protocol. A run that wants finished frames shown to the network asks through
hosts/windows/context_pass.NeedsContextPasses.
"""

from typing import Protocol, runtime_checkable

import torch

from ...engine.plan.timeline import Timeline
from ..windows.chunk_handler import Remembered


@runtime_checkable
class HandsOver(Protocol):
    """This is a feature that says how firmly the known frames are kept."""

    def known_frames(self, timeline: Timeline) -> int:
        """Return how many latent frames each chunk takes over at least."""

    def keep_strength(self, chunks_back: int) -> float:
        """Return the keep strength, 0..1, of frames made so many chunks ago: 1 keeps them, 0 has them drawn anew."""


@runtime_checkable
class Remembers(Protocol):
    """This is a feature that reads finished frames. What it reads decides what a finished chunk depends on."""

    def frames_before(self, timeline: Timeline) -> int:
        """Return how many latent frames before the window it reads."""

    def reads_anchor(self) -> bool:
        """Tell whether it reads the first chunk of the take or of the video."""

    def reads_video(self) -> bool:
        """Tell whether it reads the first chunk of the video in every take, so that no take is made without it."""


@runtime_checkable
class Finishes(Protocol):
    """This is a feature that works on the new frames of a chunk before they are handed over."""

    def finish(self, new: torch.Tensor, remembered: Remembered) -> torch.Tensor:
        """Return what becomes of the new frames [B, C, F, H, W], in the same shape."""
