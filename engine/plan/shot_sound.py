"""Say which part of which sound file lies under which frames of the video, in whole frames.

A shot's `audio` begins where the shot does, `offset` seconds into its file. A shot that names the file of the shot
before it and no offset goes on where that one has stopped, to the frame: the plan has rounded its seconds. Networks
count frames in their own ways, so the caller says where a latent frame begins. How long a file is, is not known here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .timeline import Timeline


@dataclass(frozen=True)
class Laid:
    """The sound of one shot (from 0) lies under frames [start, end) and begins `first` frames into its file."""

    shot: int
    file: str
    first: int
    start: int
    end: int


def lay_sound(timeline: Timeline, begins: Callable[[int], int]) -> tuple[Laid, ...]:
    """Return the sound of each shot that has one. begins: (latent frame) -> the frame at which it begins."""
    found: list[Laid] = []
    ends = [*(planned.start_frame for planned in timeline.shots[1:]), timeline.latent_frames]
    for planned, last in zip(timeline.shots, ends, strict=True):
        sound = planned.shot.audio
        if sound is None:
            continue
        before = found[-1] if found and found[-1].shot == planned.index - 1 else None
        goes_on = sound.offset is None and before is not None and before.file == sound.file
        first = before.first + before.end - before.start if goes_on and before else 0
        first = first if sound.offset is None else round(sound.offset * timeline.fps)
        found.append(Laid(planned.index, sound.file, first, begins(planned.start_frame), begins(last)))
    return tuple(found)
