"""Share the segments of a joint evaluation out among devices, so that all of them are ready at about the same time.

The longest segment first, each to the device that would finish it soonest: no assignment ends sooner than three
quarters of this one's time (R. L. Graham, Bounds on multiprocessing timing anomalies, 1969, for equal speeds and
segments that need no other). A segment that reads from an earlier one, as in KV sharing, needs that evaluated on its
own device before: keys and values of a layer are hundreds of megabytes, so they are made again there and never sent.
With S segments of one length, one of which all others read from, N devices are S N / (S + N - 1) times as fast as one;
where each reads from the one before, every device would have to make all of them, and sharing out gains nothing.

Plain numbers: what a device is, and whether segments may be shared out at all, is not known here
(hosts/windows/devices.py).
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """A share is what one device does in each evaluation, by numbers of segments, ascending: it evaluates
    `evaluated`, and `own` are those among them whose prediction counts; the others are there to be read from. `time` is
    how long that takes, in latent frames of a device of speed 1.
    """

    own: tuple[int, ...]
    evaluated: tuple[int, ...]
    time: float


def share_out(
    frames: Sequence[int], speeds: Sequence[float], needs: Sequence[AbstractSet[int]] | None = None
) -> list[Share]:
    """Return the share of each device; the same numbers always give the same shares.

    frames: latent frames of each segment. speeds: of each device, above 0, to each other. needs: for each segment the
    earlier ones that must have been evaluated on its device, with those that these need; None where none needs any.

    Raises ValueError for no device, and for a speed that is not above 0.
    """
    if not speeds or min(speeds) <= 0:
        raise ValueError(f"the speeds of devices are {list(speeds)}; give one or more, each above 0")
    own: list[set[int]] = [set() for _ in speeds]
    evaluated: list[set[int]] = [set() for _ in speeds]

    def time_of(device: int, segments: AbstractSet[int]) -> float:
        return sum(frames[number] for number in segments) / speeds[device]

    for segment in sorted(range(len(frames)), key=lambda number: -frames[number]):
        wanted = {segment, *(needs[segment] if needs else ())}
        times = [time_of(device, evaluated[device] | wanted) for device in range(len(speeds))]
        chosen = times.index(min(times))
        own[chosen].add(segment)
        evaluated[chosen] |= wanted
    return [
        Share(tuple(sorted(mine)), tuple(sorted(all_of_it)), time_of(device, all_of_it))
        for device, (mine, all_of_it) in enumerate(zip(own, evaluated, strict=True))
    ]


def gain(shares: Sequence[Share], frames: Sequence[int], speeds: Sequence[float]) -> float:
    """Return how many times as fast the shares are as the fastest device alone."""
    return sum(frames) / max(speeds) / max(share.time for share in shares)
