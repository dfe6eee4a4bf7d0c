"""Say how much sooner a rollout is finished where several workers make its takes, and in which order they are begun.

A take needs nothing of another one, except where a Long Memory of the whole video has every take read the video's first
chunk: then that chunk is made first, and the others wait. The longest take is begun first, each by the worker that is
free first: no order ends sooner than three quarters of this one's time (R. L. Graham, Bounds on multiprocessing timing
anomalies, 1969). The bound for people is `most_speed_up`: S equal units on N workers are at most N times as fast, and
where each worker first makes a source that all units read, S N / (S + N).

Plain numbers: what a worker is, what loading a model costs it, and how fast it is are not known here.
"""

import heapq
from collections.abc import Sequence


def begin_order(frames: Sequence[int]) -> list[int]:
    """Return the numbers of the takes, of `frames` latent frames each, in the order in which they are begun."""
    return sorted(range(len(frames)), key=lambda take: (-frames[take], take))


def takes_time(frames: Sequence[int], workers: int, first: int = 0) -> int:
    """Return when the last take is finished, in the time that one worker needs for a latent frame.

    frames: latent frames of each take. first: latent frames of take 0 that all other takes wait for, at most its own;
    0 where they wait for nothing.

    Raises ValueError for no worker, and for a `first` that take 0 does not have.
    """
    if workers < 1:
        raise ValueError(f"{workers} workers make nothing; give at least 1")
    if first and not 0 <= first <= (frames[0] if frames else 0):
        raise ValueError(f"{first} latent frames are to be made first, and the first take has {sum(frames[:1])}")
    order = begin_order(frames)
    free = [0] * workers
    if first:
        free = [frames[0], *[first] * (workers - 1)]
        order.remove(0)
    heapq.heapify(free)
    for take in order:
        heapq.heapreplace(free, free[0] + frames[take])
    return max(free) if order or first else 0


def speed_up(frames: Sequence[int], workers: int, first: int = 0) -> float:
    """Return how many times as fast `workers` are as one; arguments and errors are those of `takes_time`."""
    return sum(frames) / takes_time(frames, workers, first) if frames else 1.0


def most_speed_up(units: int, workers: int, shared: bool = False) -> float:
    """Return the bound for `units` of equal length, both counts from 1: N, or S N / (S + N) where every worker makes a
    shared source of one unit's length for itself, because its keys and values are too large to be sent.
    """
    return units * workers / (units + workers) if shared else float(min(units, workers))
