"""Find the stretches of a video that stand still, and those that come again: frozen and looping video.

Frames are reduced to SHORT_SIDE pixels on the short side, so that grain and a codec's noise average out. Two frames are
the same where no pixel of that, in no channel, differs by more than SAME. A frozen frame is the same as the one before
it. A loop is a stretch that comes again after `period_frames` for at least one whole period, with something moving in
it: what stands still is frozen and no loop.

A scene in which nothing moves is frozen by this measure, and what swings by itself (a pendulum, a bouncing ball) loops:
whether it should is for the prompt to say. Movement by less than a tenth of a pixel of the reduced frame per frame goes
unseen, and so does a loop whose second round is not the first one again. Its own definition; at which length a freeze
and a loop are first seen stands in tests/engine/measure/test_still.py.
"""

from dataclasses import dataclass

import torch

from .metrics import reduced

SHORT_SIDE = 16  # pixels
SAME = 0.02  # of the range 0..1
SHORTEST_PERIOD = 4  # frames
LONGEST_PERIOD = 256  # frames


@dataclass(frozen=True)
class Stretch:
    """This is a run of frames [start, stop) of a video."""

    start: int
    stop: int

    @property
    def frames(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Still:
    """`frozen` [F] bool says which frames are the same as the one before; `share` of them among all that have one,
    0..1; `longest` is the longest run of frames that look the same, None where each frame differs.
    """

    frozen: torch.Tensor
    share: float
    longest: Stretch | None


@dataclass(frozen=True)
class Loop:
    """Frames [start, stop) repeat themselves every `period_frames`: each but those of the first round is the same as
    the one a period before it.
    """

    start: int
    stop: int
    period_frames: int


def find_still(video: torch.Tensor) -> Still:
    """Find the frozen frames of a video [F, H, W, C], values 0..1.

    Raises:
        ValueError: not a video, or fewer than 2 frames.
    """
    frames = _small(video)
    same = same_frames(frames, 1)
    frozen = torch.cat([torch.zeros(1, dtype=torch.bool), same])
    run = longest_run(same)
    return Still(frozen, float(same.float().mean()), None if run is None else Stretch(run.start, run.stop + 1))


def find_loop(video: torch.Tensor) -> Loop | None:
    """Find the longest stretch of a video [F, H, W, C], values 0..1, that comes again, or None; among equally long
    ones that of the shortest period, SHORTEST_PERIOD to LONGEST_PERIOD frames.

    Raises:
        ValueError: not a video, or fewer than 2 frames.
    """
    return loop_of(_small(video))


def loop_of(frames: torch.Tensor) -> Loop | None:
    """Return `find_loop` of frames that are reduced to SHORT_SIDE already, [F, n], values 0..1."""
    moves = ~same_frames(frames, 1)
    best: Loop | None = None
    for period in range(SHORTEST_PERIOD, min(LONGEST_PERIOD, len(frames) // 2) + 1):
        run = longest_run(same_frames(frames, period))
        if run is None or run.frames < period:
            continue
        # Half of a round has to move: in a clip that stands still every period would do.
        if int(moves[run.start : run.stop].sum()) * 2 < run.frames:
            continue
        if best is None or run.frames + period > best.stop - best.start:
            best = Loop(run.start, run.stop + period, period)
    return best


def _small(video: torch.Tensor) -> torch.Tensor:
    if video.ndim != 4 or len(video) < 2:
        raise ValueError(f"needs a video [F, H, W, C] of at least 2 frames, got {list(video.shape)}")
    return reduced(video, SHORT_SIDE).flatten(1)


def same_frames(frames: torch.Tensor, apart: int) -> torch.Tensor:
    """Return for each frame but the last `apart` whether the one so many frames on looks the same, [F - apart]."""
    return (frames[apart:] - frames[:-apart]).abs().amax(1) <= SAME


def longest_run(flags: torch.Tensor) -> Stretch | None:
    """Return the first of the longest runs of True in [F] bool, or None."""
    best, start = None, None
    for place, flag in enumerate([*flags.tolist(), False]):
        if flag and start is None:
            start = place
        elif not flag and start is not None:
            if best is None or place - start > best.frames:
                best = Stretch(start, place)
            start = None
    return best
