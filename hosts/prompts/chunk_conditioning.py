"""Take the part of a CONDITIONING that belongs to one chunk of a rollout: the entries of its shots, and of what has a
time axis (hosts/prompts/time_axis.py) the frames of its window. Whatever else lies on the timeline and cannot be cut is
refused by name.

Nodes for Wan VACE and Animate put a reference picture into a latent frame of its own in front of the video's; what they
make is one frame longer than the video, and every chunk is shown that frame in front of its own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

from ...engine.plan.rollout_chunks import Chunk
from ...engine.plan.timeline import Timeline
from .. import keys
from .time_axis import (
    AREA,
    AUDIO,
    LATENT_AXES,
    MASK,
    PIXEL_FRAMES,
    WIRED,
    TimeAxis,
    check_mask_frames,
    check_reaches_end,
    time_axis_of,
)

UNCUT = ("control", "gligen", "keyframe_idxs", "guide_attention_entries", AUDIO)
MOTION = "reference_motion"  # of Wan S2V: the latent frames in front of the video's first
PICTURES = ("concat_latent_image", "concat_mask")  # beside the latent; Animate's begin with its reference
LEADING_FRAMES = 1  # that a reference picture takes


@dataclass(frozen=True)
class Window:
    """These are the latent frames [start, end) of a video of `frames`, led by so many of references."""

    start: int
    end: int
    frames: int
    leading: int = 0

    def places(self, found: int) -> list[int]:
        """Return which of `found` frames are the window's; those that are more than the video's stand in front of it
        and of every window.
        """
        in_front = found - self.frames
        return [*range(in_front), *range(self.start + in_front, self.end + in_front)]


@dataclass(frozen=True, eq=False)
class Uncut:
    """These are the values of an entry as they are wired: a context pass shows other frames than the chunk's."""

    options: Mapping[str, object]
    frames: int
    leading: int

    def of_frames(self, start: int, end: int) -> dict[str, object]:
        """Return the values that lie on the timeline, for its latent frames [start, end)."""
        window = Window(start, end, self.frames, self.leading)
        cut = {key: _cut(key, value, window) for key, value in self.options.items()}
        return {key: value for key, value in cut.items() if value is not self.options[key]}


def for_chunk(entries: list, chunk: Chunk, timeline: Timeline, shots: Iterable[int], leading: int = 0) -> list:
    """Return the entries of a CONDITIONING that belong to these shots (from 0), cut to the chunk's window.

    Entries that came from elsewhere than Longreel Encode belong to every chunk. leading: of `leading_frames`.

    Raises ValueError for what stands on the timeline and cannot be cut into chunks.
    """
    chosen = [entry for entry in entries if entry[1].get(keys.SHOT) is None or entry[1][keys.SHOT] in shots]
    if chunk.latent_frames == timeline.latent_frames:
        return chosen
    window = Window(chunk.start_frame, chunk.end_frame, timeline.latent_frames, leading)
    return [[text, _cut_options(options, window), *rest] for text, options, *rest in chosen]


def leading_frames(entries: list, frames: int) -> int:
    """Return how many latent frames of references a CONDITIONING has in front of a video of so many frames.

    For networks that are shown them so (hosts/families). Raises ValueError where it has frames of another video.
    """
    found = {
        (key, part.shape[2])
        for _, options, *_ in entries
        for key in ("vace_frames", *PICTURES)
        for part in _parts(options.get(key))
        if part.ndim == LATENT_AXES
    }
    for key, count in sorted(found):
        if count - frames not in (0, LEADING_FRAMES):
            raise ValueError(
                f"the conditioning has a {key} of {count} latent frames and the video has {frames}, or "
                f"{frames + LEADING_FRAMES} with a reference picture in front; give the node that makes it the "
                f"video's length, {_pixel_frames(frames)} pixel frames"
            )
    if len({count for _, count in found}) > 1:
        raise ValueError(
            f"some entries of the conditioning have a reference picture in front of the video's {frames} latent "
            f"frames and some have none; wire the same conditioning node to all of them"
        )
    return next((count - frames for _, count in found), 0)


def check_no_reference(entries: list[dict], frames: int) -> None:
    """Raise ValueError where entries have a reference picture in front of a video of so many latent frames.

    Segments that are sampled together do not have a frame for it. entries: as guiders hold them, before core processes
    them. Raises ValueError as `leading_frames` does.
    """
    if leading_frames([[None, entry] for entry in entries], frames):
        raise ValueError(
            "the conditioning is one latent frame longer than the video: a reference picture takes a frame of its own "
            "in front, which segments that are sampled together do not have; use mode rollout, or take the reference "
            "picture off the node that makes it"
        )


def with_motion(entries: list, motion: torch.Tensor | None) -> list:
    """Return entries that tell Wan S2V which finished frames [B, C, F, H, W] are in front of the window.

    None leaves the user's own, which are in front of the video's first frame.
    """
    if motion is None:
        return entries
    return [[text, {**options, MOTION: motion}, *rest] for text, options, *rest in entries]


def continues_sound(entries: list) -> bool:
    """Return whether a CONDITIONING is one of sound to video, whose later parts are told of the frames before."""
    return any(AUDIO in options or MOTION in options for _, options, *_ in entries)


def _cut_options(options: dict, window: Window) -> dict:
    cut = {key: _cut(key, value, window) for key, value in options.items()}
    if window.start and MOTION in cut:
        del cut[MOTION]
    if any(cut.get(key) is not value for key, value in options.items() if key != MASK):
        cut[keys.UNCUT] = Uncut(options, window.frames, window.leading)
    return {key: value for key, value in cut.items() if value is not None or options.get(key) is None}


def _cut(key: str, value: object, window: Window):
    """Return a value for a window: the same object where it lies on no frame, None where it does not reach it."""
    frames = window.frames
    if isinstance(value, torch.Tensor):
        if key == MASK and value.ndim in (3, 4):  # [F, H, W] or [B, F, H, W], as core reads it; F may be 1
            axis = value.ndim - 3
            check_mask_frames(value.shape[axis], frames)
            return value if value.shape[axis] == 1 else value.narrow(axis, window.start, window.end - window.start)
        axis = time_axis_of(key, value, WIRED)
        if axis is not None and (key in WIRED or key == AUDIO):
            return _cut_moving(key, value, axis, window)
        if axis is not None and value.shape[2] == frames:  # [B, C, F, H, W]
            return value[:, :, window.start : window.end]
        if axis is not None and key in PICTURES and window.leading and value.shape[2] == frames + window.leading:
            return value[:, :, window.places(value.shape[2])]
    if isinstance(value, (list, tuple)) and value and all(isinstance(part, torch.Tensor) for part in value):
        parts = [_cut(key, part, window) for part in value]
        return value if all(one is other for one, other in zip(parts, value, strict=True)) else parts
    if (key in UNCUT and value is not None) or (key == AREA and _has_time(value)):
        raise ValueError(
            f"the conditioning has a {key} for {frames} latent frames, and rollout "
            f"makes {window.end - window.start} at a time and cannot cut it; remove the node that adds it, or use "
            f"mode joint"
        )
    return value


def _cut_moving(key: str, value: torch.Tensor, axis: TimeAxis, window: Window) -> torch.Tensor | None:
    check_reaches_end(key, value, axis, max(window.frames, window.end))  # locked shots may make a video longer
    return axis.of_frames(value, window.places(value.shape[axis.axis] if axis.led else window.frames))


def _parts(value: object) -> list[torch.Tensor]:
    parts = value if isinstance(value, (list, tuple)) else [value]
    return [part for part in parts if isinstance(part, torch.Tensor)]


def _pixel_frames(frames: int) -> int:
    return (frames - 1) * PIXEL_FRAMES + 1


def _has_time(area: tuple) -> bool:
    """Return whether an area has time in front of its two axes; in parts of the whole a word goes before them."""
    return len([part for part in area if not isinstance(part, str)]) > 4
