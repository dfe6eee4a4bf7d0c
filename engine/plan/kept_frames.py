"""Let the plan of a rollout give way to shots that keep their finished frames.

How many latent frames a shot has depends on where it stands: the first latent frame of a video is a single picture, and
boundaries are rounded one by one. A shot that is locked keeps the frames that it has on disk wherever it stands, so the
shots around it begin earlier or later by as much; only where no shot is left to give way does the video change its
length. Ints only; where the frames are kept is not known here (engine/runs/folder.py).
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from .timeline import PlannedShot, Timeline, cover_shots, takes_of

BY_PLACE = 2  # latent frames by which the length of a shot changes at most with its place


@dataclass(frozen=True)
class KeptFrames:
    """These are the finished frames of a shot.

    pieces: new latent frames of each of its chunks. is_complete: whether these are all. seconds, fps, family: that they
    were made for. None is not known.
    """

    pieces: tuple[int, ...]
    is_complete: bool | None = True
    seconds: float | None = None
    fps: float | None = None
    family: str | None = None

    @property
    def latent_frames(self) -> int:
        return sum(self.pieces)


@dataclass(frozen=True)
class ShotFrames:
    """These are the latent frames [start_frame, end_frame) that are made with a shot, shot after shot without a gap.

    The first `blend_frames` of them it shares with the shot before; they follow both prompts.
    """

    start_frame: int
    end_frame: int
    blend_frames: int = 0

    @property
    def latent_frames(self) -> int:
        return self.end_frame - self.start_frame


def shot_frames(timeline: Timeline) -> tuple[ShotFrames, ...]:
    """Return the frames that are made with each shot of a timeline."""
    shared = [(0, 0)] * len(timeline.shots)
    for take in takes_of(timeline.shots):
        for shot, later in itertools.pairwise(take):
            shared[later.index] = _shared(shot, later, timeline.transition_prompts)
    starts = [shot.start_frame - before for shot, (before, _) in zip(timeline.shots, shared, strict=True)]
    return tuple(
        ShotFrames(start, end, sum(blend))
        for start, end, blend in zip(starts, [*starts[1:], timeline.latent_frames], shared, strict=True)
    )


def keep_frames(timeline: Timeline, kept: Mapping[int, KeptFrames]) -> tuple[Timeline, tuple[ShotFrames, ...]]:
    """Return (the timeline, the frames that are made with each shot) in which shots keep what they have.

    kept: by shot from 0. Without any, and where all of them fit, it is `timeline` itself.

    Raises ValueError, naming the shot from 1, for a shot whose own length was changed since its frames were made.
    """
    frames = shot_frames(timeline)
    for number, one in sorted(kept.items()):
        _check(timeline, frames[number], number, one)
    least, fixed = [], []
    for number, shot in enumerate(frames):
        mine = kept.get(number)
        fixed.append(mine is not None and _is_complete(mine, shot, timeline))
        least.append(1 + shot.blend_frames if mine is None else mine.latent_frames)
    needed = sum(least)
    total = needed if all(fixed) else max(needed, timeline.latent_frames)
    moved: list[ShotFrames] = []
    start, latest = 0, total - needed
    for number, shot in enumerate(frames):
        latest += least[number]  # where this shot must end so that those behind it fit
        if fixed[number]:
            end = start + least[number]
        elif all(fixed[number + 1 :]):
            end = latest
        else:
            end = min(max(shot.end_frame, start + least[number]), latest)
        moved.append(replace(shot, start_frame=start, end_frame=end))
        start = end
    if tuple(moved) == frames:
        return timeline, frames
    return cover_shots(timeline, _moved(timeline, frames, moved)), tuple(moved)


def moved_frame(frame: int, before: Timeline, now: Timeline) -> int:
    """Return where a latent frame of `before` stands in `now`, the same shots moved; the last frame of its shot where
    that lost the frame.
    """
    shot = next(shot for shot in before.shots if frame < shot.end_frame)
    there = now.shots[shot.index]
    return min(there.start_frame + frame - shot.start_frame, there.end_frame - 1)


def _shared(shot: PlannedShot, later: PlannedShot, transition_prompts: int) -> tuple[int, int]:
    """Return the latent frames before and after a boundary that both shots share; each shot keeps at least one for
    itself.
    """
    if later.shot.transition != "blend" or not transition_prompts:
        return 0, 0
    # An odd frame is the earlier shot's, as in engine/plan/timeline.py.
    return (
        min(-(-later.overlap_frames // 2), (shot.latent_frames - 1) // 2),
        min(later.overlap_frames // 2, (later.latent_frames - 1) // 2),
    )


def _is_complete(one: KeptFrames, shot: ShotFrames, timeline: Timeline) -> bool:
    if one.is_complete is not None:
        return one.is_complete
    return one.latent_frames >= shot.latent_frames - _slack(timeline)


def _slack(timeline: Timeline) -> int:
    """Return by how many latent frames the frames made with a shot may differ where its neighbours changed."""
    return BY_PLACE + timeline.overlap_frames


def _check(timeline: Timeline, frames: ShotFrames, number: int, one: KeptFrames) -> None:
    shot = timeline.shots[number]
    for name, was, now in (
        ("seconds", one.seconds, shot.shot.seconds),
        ("fps", one.fps, timeline.fps),
        ("model family", one.family, timeline.facts.family),
    ):
        if was is not None and was != now:
            was, now = (f"{value:g}" if isinstance(value, (int, float)) else value for value in (was, now))
            raise ValueError(
                f"shot {number + 1} is locked and was made with {name} {was}, where {now} is asked for; set {name} to "
                f"{was} again, or unlock it to have it made again"
            )
    was, now = one.latent_frames, frames.latent_frames
    if (one.seconds is None and was - now > _slack(timeline)) or (one.is_complete and now - was > _slack(timeline)):
        raise ValueError(
            f"shot {number + 1} is locked with {was} latent frames, and its {shot.shot.seconds:g} s at "
            f"{timeline.fps:g} fps are {now} now; set its seconds and the fps back, or unlock it to have it made again"
        )


def _moved(timeline: Timeline, frames: Sequence[ShotFrames], moved: Sequence[ShotFrames]) -> tuple[PlannedShot, ...]:
    """Return the shots whose boundaries moved with the frames that are made with them."""
    starts = [  # each shot keeps a frame of its own
        new.start_frame + min(shot.start_frame - old.start_frame, new.latent_frames - 1)
        for shot, old, new in zip(timeline.shots, frames, moved, strict=True)
    ]
    return tuple(
        replace(shot, start_frame=start, end_frame=end)
        for shot, start, end in zip(timeline.shots, starts, [*starts[1:], moved[-1].end_frame], strict=True)
    )
