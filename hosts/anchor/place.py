"""The whole way of Longreel Anchor Frame: from what is wired, a picture, a latent or a storyboard, to anchors on a
MODEL.

Each source says at which frames its anchors stand (engine/plan/anchor.py) and makes their latents
(hosts/anchor/picture.py) once all places are known to be possible; hosts/anchor/frame.py then holds them while a
sampler works.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from ...engine.plan.anchor import Anchor, check_anchors, choose_mode, describe, of_length, place_anchor, place_in_shot
from ...engine.plan.facts import ModelFacts
from ...engine.plan.timeline import Timeline
from ...engine.storyboard.media import resolve_anchors
from ..families import facts_of
from ..types import ModelPatcher
from .frame import Anchored, attach, is_trained
from .picture import encode_picture, load_picture

Place = tuple[Anchor, Callable[[], torch.Tensor]]  # where an anchor stands, and what makes its latent


@dataclass(frozen=True)
class Video:
    """The video that anchors stand in, and how they are held there.

    timeline: None where none is wired. mode: CLEAN or INPAINT. strength: 0..1. fps: frames per second in which seconds
    are counted; 0 for the timeline's, or without one the family's.
    """

    facts: ModelFacts
    timeline: Timeline | None
    mode: str
    strength: float
    fps: float

    @property
    def latent_frames(self) -> int | None:
        """The video's length, None where it is not known yet."""
        return None if self.timeline is None else self.timeline.latent_frames

    def anchor_at(self, seconds: float) -> Anchor:
        """Return the anchor at `seconds` from the start. Raises ValueError for a time that the video does not have."""
        fps = self.fps or (self.facts.native_fps if self.timeline is None else self.timeline.fps)
        asked = 0.0 if self.timeline is None else sum(shot.shot.seconds for shot in self.timeline.shots)
        return place_anchor(seconds, fps, self.facts, self.mode, self.strength, self.latent_frames, asked)


class Source(Protocol):
    """Where anchors come from."""

    def places(self, video: Video) -> list[Place]:
        """Return each anchor with what makes its latent. Raises ValueError for one that `video` has no place for."""


@dataclass(frozen=True)
class OnePicture:
    """A picture [1, H, W, C] in 0..1 at `seconds`; width and height in pixels, 0 for the timeline's, or its own, are
    rounded as the plan rounds them.
    """

    image: torch.Tensor
    vae: Any  # comfy.sd.VAE
    seconds: float
    width: int = 0
    height: int = 0

    def places(self, video: Video) -> list[Place]:
        """See Source."""
        anchor, timeline = video.anchor_at(self.seconds), video.timeline
        own = (self.image.shape[2], self.image.shape[1]) if timeline is None else (timeline.width, timeline.height)
        width, height = video.facts.nearest_size(self.width or own[0], self.height or own[1])
        return [(anchor, lambda: encode_picture(self.vae, self.image, anchor, video.facts, width, height))]


@dataclass(frozen=True)
class OneLatent:
    """An encoded picture or clip [1 or B, C, F, H, W] that begins at `seconds`."""

    samples: torch.Tensor
    seconds: float

    def places(self, video: Video) -> list[Place]:
        """See Source."""
        anchor = video.anchor_at(self.seconds)
        if self.samples.ndim == 5:  # others are refused when they are attached
            anchor = of_length(anchor, self.samples.shape[2])
        return [(anchor, lambda: self.samples)]


@dataclass(frozen=True)
class StoryboardPictures:
    """All pictures that the timeline's storyboard names in its shots' anchors; `folder` is where they lie."""

    vae: Any  # comfy.sd.VAE
    folder: str | Path

    def places(self, video: Video) -> list[Place]:
        """See Source."""
        timeline = video.timeline
        if timeline is None:
            raise ValueError(
                "the anchors of a storyboard stand on a timeline, and none is wired; wire the timeline of Longreel Plan"
            )
        paths = resolve_anchors(timeline.storyboard, self.folder)
        found = [
            self._place(
                place_in_shot(timeline, shot, one.at, video.mode, video.strength),
                paths[one.image],
                f"shot {shot.index + 1}, anchor {number + 1}: image",
                timeline,
            )
            for shot in timeline.shots
            for number, one in enumerate(shot.shot.anchors)
        ]
        if not found:
            raise ValueError(
                f'none of the {len(timeline.shots)} shots of the storyboard has anchors; write "anchors" in a shot, or '
                f"choose picture image"
            )
        return found

    def _place(self, anchor: Anchor, path: Path, field: str, timeline: Timeline) -> Place:
        def make_latent() -> torch.Tensor:
            image = load_picture(path, field)
            return encode_picture(self.vae, image, anchor, timeline.facts, timeline.width, timeline.height)

        return anchor, make_latent


def place(
    model: ModelPatcher,
    source: Source,
    *,
    mode: str,
    strength: float = 1.0,
    timeline: Timeline | None = None,
    fps: float = 0.0,
) -> tuple[Any, str]:
    """Return (a clone of `model` that holds the anchors of `source`, a report with one line for each anchor).

    mode: CLEAN, INPAINT or AUTO (engine/plan/anchor.py). strength, fps: see Video.

    Raises ValueError for a timeline of another family, for anchors that stand where the video or the model cannot have
    them, and for pictures or latents that do not fit.
    """
    facts = facts_of(model)
    if timeline is not None and timeline.facts != facts:
        raise ValueError(
            f"the timeline is planned for {timeline.facts.family} and the model is {facts.family}; wire this model "
            f"into Longreel Plan"
        )
    mode, reason = choose_mode(mode, facts, is_trained(model))
    video = Video(facts, timeline, mode, strength, fps)
    places = source.places(video)
    check_anchors([anchor for anchor, _ in places], facts, video.latent_frames)
    anchored = [Anchored(anchor, make_latent()) for anchor, make_latent in places]
    report = "\n".join(describe(anchor, facts, reason) for anchor, _ in places)
    return attach(model, anchored), report
