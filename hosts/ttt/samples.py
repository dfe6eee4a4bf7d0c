"""Stories that the student tells as it is at a moment of its training: pictures to watch, not the final sampler.

Fixed noise, so that two pages of one run differ by what was learned in between alone. Steps are Euler's for flow
matching and DDIM's for CogVideoX (engine/sampling/denoising.py), with plain guidance. When pages are made is the
trainer's matter.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from ...engine.ttt.order import Range
from ..prompts.conditioning import FRAME_RATE
from .student import TTTStudent

Conditioning = Mapping[str, torch.Tensor]


class Geometry(Protocol):
    """The sizes of the clips that a run trains on (training/dataset.Geometry)."""

    def latent_shape(self, segments: int) -> tuple[int, int, int, int]:
        """[C, F, h, w] of so many segments."""

    def windows(self, segments: int) -> tuple[Range, ...]:
        """The latent frames of each segment."""


class Clips(Protocol):
    """The clips that a run trains on (training/stage_clips.StageClips), cut into parts of several segments."""

    geometry: Geometry

    def last_parts(self, count: int) -> Sequence[Any]:
        """The parts of the last stage to watch a run by; each has `segments`."""

    def conditioning(self, part: Any, unconditional: bool = False) -> Conditioning:
        """Every tensor [n, ...] of the prompts of a part's n segments, or of as many empty prompts."""


def sampler_of_clips(
    student: TTTStudent, vae: object, clips: Clips, *, count: int, steps: int, cfg: float, seed: int
) -> Callable[[], list[torch.Tensor]]:
    """A sampler that tells `count` stories with the prompts of the last clips, as long as those of the last stage.

    It asks for the prompts' conditioning when it is called: at the start of a run no clip is encoded yet.
    """

    def sample() -> list[torch.Tensor]:
        parts = clips.last_parts(count)
        segments = parts[0].segments
        stories = StorySampler(
            student,
            vae,
            [clips.conditioning(part) for part in parts],
            clips.conditioning(parts[0], unconditional=True),
            clips.geometry.latent_shape(segments),
            clips.geometry.windows(segments),
            steps,
            cfg,
            seed,
        )
        return stories()

    return sample


@dataclass(frozen=True)
class StorySampler:
    """training/student.Sampler. vae: ComfyUI's. stories: of each its prompts' conditioning [n, ...], unconditional: of
    as many empty prompts. latent_shape: [C, F, h, w]. windows: latent frames of each segment. steps: 1 or more; cfg:
    guidance, 1 for none. seed: of the noise."""

    student: TTTStudent
    vae: object
    stories: Sequence[Conditioning]
    unconditional: Conditioning
    latent_shape: tuple[int, int, int, int]
    windows: tuple[Range, ...]
    steps: int = 20
    cfg: float = 5.0
    seed: int = 0

    def __call__(self) -> list[torch.Tensor]:
        """A video [pixel frames, H, W, 3] in 0..1 for each story."""
        generator = torch.Generator().manual_seed(self.seed)
        return [
            self._decode(self._latent(story, torch.randn(1, *self.latent_shape, generator=generator)))
            for story in self.stories
        ]

    @torch.no_grad()
    def _latent(self, story: Conditioning, noise: torch.Tensor) -> torch.Tensor:
        objective, x = self.student.objective, noise.to(self.student.device)
        levels = objective.descent(self.steps)
        told = {FRAME_RATE: story[FRAME_RATE]} if FRAME_RATE in story else {}
        nothing_said = {**self.unconditional, **told}  # at the frame rate of the story
        for level, to in itertools.pairwise(levels):
            said = self._predict(x, level, story)
            if self.cfg != 1:
                unconditional = self._predict(x, level, nothing_said)
                said = unconditional + self.cfg * (said - unconditional)
            x = objective.step(x, said, level, to)
        return x

    def _predict(self, x: torch.Tensor, level: float, heard: Conditioning) -> torch.Tensor:
        one_story = {name: value[None] for name, value in heard.items()}
        return self.student.predict(x, torch.tensor([level]), one_story, self.windows)

    def _decode(self, latent: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            pixels = self.vae.decode(self.student.patcher.model.process_latent_out(latent.cpu()))
        return pixels.flatten(0, -4).clamp(0, 1).cpu().clone()
