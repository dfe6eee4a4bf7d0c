"""Score joints of shots over all the frames that they reach, and find the worst pair of frames anywhere in a video.

engine/measure/metrics.py compares a planned boundary with the shots around it. That is blind where a transition breaks
some frames behind its boundary: the break counts as a shot then, and lowers the score. Here every neighbouring pair of
frames is asked how badly one follows from the other when each neighbourhood may move a little (`unexplained` there),
and so is every pair four frames apart at half size, which sees slow dissolves and ghosts.

A joint's score is its worst pair over floor + the median pair of the video outside all joints: a median does not grow
with a break elsewhere, so that one break cannot hide another. About 1 and less is what the shots do; several is a jump,
a tear, a ghost or a change of colour, shape or background somewhere within the joint's reach. Which frames a transition
reaches is known to engine/plan/transition_reach.py. The worst pair looks everywhere, needs no joints, and has no
denominator: 0 is a perfect match, 1 black against white.

It knows frames only. It does not know whether the object is the same after it was hidden; things that come and go
within EDGE pixels of the picture's edge, and movement of up to MOTION pixels, are explained. Faster movement counts as
a jump, in the shots as in the joints. Its own definition; where it first sees a jump, a doubled object and a change of
colour stands in tests/engine/measure/test_reach.py.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .metrics import FAR, SHORT_SIDE, reduced, unexplained

FLOOR = {1: 0.02, FAR: 0.1}  # of the range 0..1, by frames apart: what turns and bounces of rendered shots leave
MOTION = {1: 4, FAR: 6}  # pixels of SHORT_SIDE (for FAR at half size) that a neighbourhood may move, by frames apart
EDGE = {1: 4, FAR: 5}  # neighbourhoods centred closer to the picture's edge do not count, in the same pixels
BATCH = 32  # pairs that are compared at once: memory does not grow with the video
FEWEST_OUTSIDE = 8  # pairs outside all joints below which the median is that of all pairs


@dataclass(frozen=True)
class PairDifferences:
    """These are the unexplained differences, 0..1, of all pairs of neighbouring frames, `near` [F-1], and of all pairs
    FAR frames apart, `far` [F-FAR]. Entry t is the pair whose first frame is t.
    """

    near: torch.Tensor
    far: torch.Tensor

    def of(self, apart: int) -> torch.Tensor:
        return self.near if apart == 1 else self.far


@dataclass(frozen=True)
class WorstPair:
    """This is the neighbouring pair that a small movement explains least: its difference 0..1 and its later frame."""

    difference: float
    frame: int


@dataclass(frozen=True)
class ReachSeam:
    """This is a joint's `score` as defined above, the pair that decided (its first frame, how many `frames_apart`), and
    its unexplained difference 0..1.
    """

    score: float
    difference: float
    frame: int
    frames_apart: int


def pair_differences(video: torch.Tensor, check_interrupt: Callable[[], object] = lambda: None) -> PairDifferences:
    """Compare the frames of a video [F, H, W, C], values 0..1, with their neighbours and with those FAR frames on.
    check_interrupt: called now and then, to raise what ends the work.

    Raises:
        ValueError: not a video, or fewer than FAR + 1 frames.
    """
    if video.ndim != 4 or len(video) <= FAR:
        raise ValueError(f"pairs need a video [F, H, W, C] of at least {FAR + 1} frames, got {list(video.shape)}")
    found: dict[int, list[torch.Tensor]] = {1: [], FAR: []}
    for apart, first, last in _batches(len(video)):
        check_interrupt()
        frames = reduced(video[first : last + apart], SHORT_SIDE)
        frames = frames if apart == 1 else F.avg_pool2d(frames, 2)
        rest, _ = unexplained(frames[:-apart], frames[apart:], MOTION[apart])
        edge = min(EDGE[apart], min(rest.shape[-2:]) // 4)
        found[apart].append(rest[:, edge : rest.shape[1] - edge, edge : rest.shape[2] - edge].amax((1, 2)))
    return PairDifferences(torch.cat(found[1]), torch.cat(found[FAR]))


def _batches(frames: int) -> Iterator[tuple[int, int, int]]:
    """Yield (frames apart, first and last + 1 of the pairs' first frames) over all pairs."""
    for apart in (1, FAR):
        for first in range(0, frames - apart, BATCH):
            yield apart, first, min(first + BATCH, frames - apart)


def worst_pair(differences: PairDifferences, cuts: Collection[int] = ()) -> WorstPair:
    """Return the worst neighbouring pair; `cuts` are first frames of shots behind a cut, whose pairs do not count."""
    near = differences.near.clone()
    for cut in cuts:
        near[cut - 1] = -1
    at = int(near.argmax())
    return WorstPair(float(near[at].clamp(min=0)), at + 1)


def reach_seams(
    differences: PairDifferences, reaches: Sequence[tuple[int, int]], cuts: Collection[int] = ()
) -> list[ReachSeam]:
    """Score joints by the pixel frames [start, stop) that each one reaches, all in one video.

    Args:
        differences: of the whole video.
        reaches: of each joint; an empty one (start == stop) is a hard joint in front of that frame.
        cuts: first frames of shots behind a cut; no pair across one is compared. Joints with a planned cut do not
            belong into `reaches`.

    Raises:
        ValueError: a joint touches no pair of the video.
    """
    frames = len(differences.near) + 1
    scores: list[ReachSeam] = []
    parts = []
    for apart in (1, FAR):
        values = differences.of(apart)
        first = torch.arange(len(values))
        across_cut = torch.zeros(len(values), dtype=torch.bool)
        for cut in cuts:
            across_cut |= (first < cut) & (first + apart >= cut)
        touched = [(first + apart >= start) & (first < stop) & ~across_cut for start, stop in reaches]
        outside = ~across_cut & ~torch.stack(touched).any(0) if touched else ~across_cut
        usual = values[outside if int(outside.sum()) >= FEWEST_OUTSIDE else ~across_cut]
        parts.append((apart, values, touched, float(usual.median()) if len(usual) else 0.0))
    for number, (start, stop) in enumerate(reaches):
        kinds = []
        for apart, values, touched, median in parts:
            if not bool(touched[number].any()):
                continue
            at = int(values.masked_fill(~touched[number], -1).argmax())
            kinds.append(ReachSeam(float(values[at]) / (FLOOR[apart] + median), float(values[at]), at, apart))
        if not kinds:
            raise ValueError(
                f"joint {number + 1} reaches frames {start} to {stop - 1}, but the video has {frames} frames"
            )
        scores.append(max(kinds, key=lambda s: s.score))
    return scores
