"""Plan where an anchor stands and how it is kept: the picture that a video must show at a second, in plain integers.

Source: Factorized, now Anchored, Video Generation (arXiv 2512.16371): the clean latent of a picture takes the place of
one noisy latent frame. There the anchor begins the video; a later place is this pack's, and experimental.

There are two ways to keep it. CLEAN, the paper's: in every step the network sees the frame without noise and at time
0, which networks know that were trained with a time per frame, or for anchors. INPAINT needs no training: a known frame
as ComfyUI's noise masks keep it. Pictures, latents and networks are not known here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .facts import ModelFacts
from .timeline import PlannedShot, Timeline

CLEAN, INPAINT, AUTO = "clean", "inpaint", "auto"
MODES = (AUTO, CLEAN, INPAINT)


@dataclass(frozen=True)
class Anchor:
    """An anchor stands on latent frames [frame, frame + frames), which show what was asked for at `seconds`, at
    `pixel_frame`. `mode` is CLEAN or INPAINT; `strength` 0..1 is how firmly it is kept: 1 as it is, 0 not at all.
    """

    seconds: float
    pixel_frame: int
    frame: int
    mode: str
    strength: float
    frames: int = 1

    @property
    def end(self) -> int:
        return self.frame + self.frames


def place_anchor(
    seconds: float,
    fps: float,
    facts: ModelFacts,
    mode: str,
    strength: float,
    latent_frames: int | None = None,
    asked_seconds: float = 0.0,
) -> Anchor:
    """Return an anchor at `seconds` from the start of a video of `latent_frames` (None: not known yet). The video's end
    is its last frame, also where it is shorter than the `asked_seconds` from which it was rounded to latent frames.

    Raises ValueError for a time that the video does not have, and for a strength outside 0..1.
    """
    if seconds < 0 or fps <= 0:
        raise ValueError(
            f"an anchor at {seconds:g} s of {fps:g} frames per second is nowhere; use 0 s or more and "
            f"more than 0 frames per second"
        )
    pixel_frame = round(seconds * fps)
    if latent_frames is not None:
        last = facts.pixel_frames(latent_frames) - 1
        if pixel_frame > last and seconds <= max((last + 1) / fps, asked_seconds) + 0.5 / fps:
            seconds, pixel_frame = last / fps, last
    return _placed(seconds, pixel_frame, facts, mode, strength, latent_frames)


def place_in_shot(timeline: Timeline, shot: PlannedShot, at: float, mode: str, strength: float) -> Anchor:
    """Return an anchor at `at` seconds from the shot's start, as its storyboard says; the shot's end is its
    last frame.
    """
    first, stop = timeline.shot_pixel_frames(shot)
    frame = min(first + round(at * timeline.fps), stop - 1)
    return _placed(frame / timeline.fps, frame, timeline.facts, mode, strength, timeline.latent_frames)


def _placed(
    seconds: float, pixel_frame: int, facts: ModelFacts, mode: str, strength: float, latent_frames: int | None
) -> Anchor:
    if not 0 <= strength <= 1:
        raise ValueError(f"an anchor's strength {strength:g} is outside 0 to 1; use 1 to keep it as it is")
    frame = facts.latent_frame_of(pixel_frame)
    if latent_frames is not None and frame >= latent_frames:
        raise ValueError(_beyond(f"{seconds:g} s is pixel frame {pixel_frame}", facts.pixel_frames(latent_frames)))
    frames = facts.patch_frames if mode == CLEAN else 1  # a token has one time for all its latent frames
    return Anchor(seconds, pixel_frame, frame // frames * frames, mode, strength, frames)


def of_length(anchor: Anchor, latent_frames: int) -> Anchor:
    """Return the anchor with a clip of so many latent frames in the place of one picture."""
    if latent_frames % anchor.frames:
        raise ValueError(
            f"the anchor's latent has {latent_frames} frames, and the network's tokens have "
            f"{anchor.frames} each; use {latent_frames + 1} latent frames, or mode inpaint"
        )
    return replace(anchor, frames=latent_frames)


def choose_mode(asked: str, facts: ModelFacts, trained: bool) -> tuple[str, str]:
    """Return (CLEAN or INPAINT, why in words). `trained`: weights that were trained for anchors are on the model."""
    if asked == CLEAN:
        return CLEAN, "as asked for"
    if asked == INPAINT:
        same = f", which is the same as clean in {facts.family}: its masks show frames clean, at time 0"
        return INPAINT, "as asked for" + same * facts.knows_frame_times
    if asked != AUTO:
        raise ValueError(f'"{asked}" is not one of the {len(MODES)} modes of an anchor; use {", ".join(MODES)}')
    if facts.knows_frame_times:
        return CLEAN, f"{facts.family} was trained with a time for every frame"
    if trained:
        return CLEAN, "an anchor LoRA is on the model"
    return INPAINT, (
        f"plain {facts.family} has not learned a clean frame among noisy ones; clean is for weights trained for anchors"
    )


def check_anchors(anchors: Sequence[Anchor], facts: ModelFacts, latent_frames: int | None = None) -> None:
    """Raise ValueError where two stand on one latent frame, or one beyond a video of `latent_frames`."""
    holders: dict[int, Anchor] = {}
    for anchor in anchors:
        if latent_frames is not None and anchor.end > latent_frames:
            at = f"the anchor at {anchor.seconds:g} s reaches latent frame {anchor.end - 1}"
            raise ValueError(_beyond(at, latent_frames, "latent"))
        for frame in range(anchor.frame, anchor.end):
            if frame in holders:
                other = holders[frame]
                raise ValueError(
                    f"the anchors at {other.seconds:g} s and {anchor.seconds:g} s (pixel frames "
                    f"{other.pixel_frame} and {anchor.pixel_frame}) stand on the same latent frame, "
                    f"{frame}, which holds {facts.temporal_stride * (frame > 0) or 1} pixel frames; move "
                    "one of them"
                )
            holders[frame] = anchor


def _beyond(found: str, frames: int, kind: str = "pixel") -> str:
    return f"{found}, beyond a video of {frames} {kind} frames; use up to {kind} frame {frames - 1}, or a longer video"


def describe(anchor: Anchor, facts: ModelFacts, reason: str) -> str:
    """Return one line: second -> pixel frame -> latent frames, how the anchor is kept and why."""
    first, stop = facts.first_pixel_frame(anchor.frame), facts.first_pixel_frame(anchor.end)
    shown = f"pixel frame {first}" if stop == first + 1 else f"pixel frames {first}-{stop - 1}"
    frames = f"latent frame {anchor.frame}" if anchor.frames == 1 else f"latent frames {anchor.frame}-{anchor.end - 1}"
    line = (
        f"anchor at {anchor.seconds:.3f} s = pixel frame {anchor.pixel_frame} = {frames} ({shown}); mode "
        f"{anchor.mode}: {reason}; strength {anchor.strength:g}"
    )
    if anchor.frame and anchor.strength:
        line += "; experimental: the method's own place is the first frame"
    return line + "; not held at all" * (anchor.strength == 0)
