"""Find broken and flickering frames: those that neither what came before explains nor what comes after.

A torn, doubled or shattered object, a flash, a patch of noise come and go: some frames before them the video looked
otherwise, some frames behind them it does again, and movement explains neither change, while it does explain how the
frames before become those behind. So a frame's score is the smaller of two differences: the largest to a frame 1, 2, 4
or 8 before it, and the largest to one 1, 2, 4 or 8 behind it (`unexplained` in engine/measure/metrics.py, 0..1). It
counts where the two outer frames differ from each other at most half as much, and always, from a lower difference on,
where neither of the very neighbours explains a frame: what falls apart and stands elsewhere afterwards does not return.
A cut changes the picture once, so that each frame has a side that explains it. What a video shows is not known, nor
where its shots meet.

Limits: what is broken for more than 8 frames is a new state of things, of which the frames that change are seen at
best; a tear that opens slowly has a neighbour that explains each frame; the frames at both ends of a video have one
side alone; a shot of 8 frames or fewer between two that look alike is called broken; what a movement at the video's own
speed explains goes unseen, as a second object within some 6 to 18 of 64 pixels of the first, and so do defects within 4
pixels of the picture's edge. A video that breaks in every frame has no better ones to be compared with, and is seen by
its worst pair (engine/measure/reach.py). Own definition; tests/engine/measure/test_flicker.py has the size at which a
blot is first seen.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .metrics import SHORT_SIDE, reduced, unexplained, unexplained_and_moved

APART = (1, 2, 4, 8)  # frames
NEIGHBOURHOOD = 5  # pixels at half size: what is torn is as small as that
SLOWEST, FASTEST = 0.5, 3  # pixels per frame at half size: the speed that is explained, as the video's pairs have it
MOST_PAIRS = 0.8  # share of the neighbouring pairs whose movement that speed covers: breaks are few
MORE_PIXELS, FARTHEST = 1, 9  # at half size: beside the speed, and in all
BROKEN = 0.2  # score from which a frame counts as broken
BETWEEN_NEIGHBOURS = 0.08  # difference from both neighbours from which a frame is broken, whatever is behind it
OVER_MEDIAN = 3.0  # and how many times the median of its kind it has to be: grain is in every frame
RETURNS = 0.5  # how much the outer frames may differ, of what the frame between differs from them
BATCH = 32  # pairs that are compared at once: memory does not grow with the video


@dataclass(frozen=True)
class Flicker:
    """`scores` [F] is each frame's difference from both sides, 0..1, and `broken` [F] bool says where it counts."""

    scores: torch.Tensor
    broken: torch.Tensor

    @property
    def share(self) -> float:
        """Share of broken frames, 0..1."""
        return float(self.broken.float().mean())


def find_flicker(video: torch.Tensor, check_interrupt: Callable[[], object] = lambda: None) -> Flicker:
    """Find the broken frames of a video [F, H, W, C], values 0..1. check_interrupt: called now and then, to raise what
    ends the work.

    Raises:
        ValueError: not a video, or fewer than 3 frames.
    """
    if video.ndim != 4 or len(video) < 3:
        raise ValueError(f"flicker needs a video [F, H, W, C] of at least 3 frames, got {list(video.shape)}")
    count = len(video)
    half = torch.cat([F.avg_pool2d(reduced(part, SHORT_SIDE), 2) for part in video.split(BATCH)])
    spans = [apart for apart in APART if apart < count]
    speed = _speed(half)
    differences = {}
    for a in spans:
        check_interrupt()
        differences[a] = _differences(half, [(t, t + a) for t in range(count - a)], speed)
    scores = torch.zeros(count)
    for t in range(1, count - 1):
        before = {p: float(differences[p][t - p]) for p in spans if t >= p}
        behind = {q: float(differences[q][t]) for q in spans if t + q < count}
        scores[t] = min(max(before.values()), max(behind.values()))
    least = max(BROKEN, OVER_MEDIAN * float(scores.median()))
    lonely = F.pad(torch.minimum(differences[1][:-1], differences[1][1:]), (1, 1))  # [F]
    broken = lonely >= max(BETWEEN_NEIGHBOURS, OVER_MEDIAN * float(lonely[1:-1].median()))
    for t in (scores >= least).nonzero().flatten().tolist():
        outer = [
            (t - p, t + q)
            for p in spans
            for q in spans
            if t >= p and t + q < count and min(differences[p][t - p], differences[q][t]) >= least
        ]
        if outer and float(_differences(half, outer, speed).min()) <= RETURNS * float(scores[t]):
            broken[t] = True
    return Flicker(scores, broken)


def _speed(half: torch.Tensor) -> float:
    """Return how many pixels per frame the neighbourhoods of most pairs of neighbours move, SLOWEST to FASTEST."""
    pairs = zip(half[:-1].split(BATCH), half[1:].split(BATCH), strict=True)
    moved = torch.cat([unexplained_and_moved(one, two, FASTEST, NEIGHBOURHOOD)[1] for one, two in pairs])
    return max(SLOWEST, float(moved.float().quantile(MOST_PAIRS)))


def _differences(half: torch.Tensor, pairs: list[tuple[int, int]], speed: float) -> torch.Tensor:
    """Return how badly movement explains each pair of frames of [F, C, h, w] at half size, 0..1."""
    found = torch.zeros(len(pairs))
    for apart in {b - a for a, b in pairs}:
        places = [place for place, (a, b) in enumerate(pairs) if b - a == apart]
        reach = min(math.ceil(speed * apart) + MORE_PIXELS, FARTHEST)
        edge = min(2, half.shape[-1] // 4, half.shape[-2] // 4)
        for batch in (places[at : at + BATCH] for at in range(0, len(places), BATCH)):
            one, two = half[[pairs[p][0] for p in batch]], half[[pairs[p][1] for p in batch]]
            rest, _ = unexplained(one, two, reach, NEIGHBOURHOOD)
            found[batch] = rest[:, edge : rest.shape[1] - edge, edge : rest.shape[2] - edge].amax((1, 2))
    return found
