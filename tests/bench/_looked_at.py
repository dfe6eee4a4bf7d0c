"""Which frames of the bundled moving pictures does a person call broken? Looked at one by one, on 28 November 2026.

Each picture of web/docs that is one video of shape world was looked at twice as large, before any yardstick had marked
it. A frame is BROKEN that anybody would throw away: doubled, torn, in splinters, with a ghost, melted into another
shape. DOUBTFUL ones are dented, lumpy or tinged; they count neither as hit nor as false alarm. All others are fine.
`bench pictures` and tests/demo/test_frame_check.py hold the yardsticks against this. A picture that is made anew has to
be looked at anew: FRAMES says how many frames the one had that was looked at.
"""

from dataclasses import dataclass


def frames(text: str) -> frozenset[int]:
    """The frame numbers of "3 7-9"."""
    found: set[int] = set()
    for part in text.split():
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


@dataclass(frozen=True)
class LookedAt:
    """The frames of one picture; `cuts` are first frames of shots behind a cut, `seen` is what there is to see."""

    frames: int
    broken: frozenset[int]
    doubtful: frozenset[int]
    cuts: tuple[int, ...]
    seen: str


PICTURES = {
    "latent_blend": LookedAt(
        49, frames("23-26 38 39"), frames("22 27 37 40 48"), (), "the square shears, shatters, and splits in two"
    ),
    "refine": LookedAt(
        49,
        frames("17-20 41-44"),
        frames("5 6 37-40 45 47 48"),
        (),
        "the square falls to pieces and stands below them; later it melts and splits",
    ),
    "rollout": LookedAt(
        133,
        frames("22 23 46 58 62-66 86 101 122-124"),
        frames("0 21 30 45 47 48 57 59-61 73 85 87 93 100 102 117 121 125"),
        (69, 109),
        "the circle dissolves and forms elsewhere, becomes an egg; the star is in splinters; the square a bottle",
    ),
    "storyboard": LookedAt(49, frames(""), frames("0 33"), (33,), "nothing broken"),
    "train_ttt": LookedAt(
        49, frames("25 26 30 31"), frames("24 27-29"), (), "the circle is torn, then two circles melt into one"
    ),
    "ttt": LookedAt(
        161,
        frames("15-18 35-48 66-78 81-84 98 99 106 114 118-122 126-130 146"),
        frames("14 19 33 34 49 50 65 79 80 85-87 105 107 113 115-117 123-125 131 145 147"),
        (),
        "the star is torn or doubled, with purple and black splinters; a second one appears, the first fades",
    ),
}
