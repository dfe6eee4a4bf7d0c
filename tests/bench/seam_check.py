"""Does the seam score tell defects from motion? Rendered shape-world clips with and without a defect at the joint.

    python dev.py bench seam_check [--seeds 50] [--offset 0] [--images FOLDER] [--json FILE]

Every case is one object that changes its motion after 17 frames; the defects put something on top of exactly that
clip. Fades and ghosts last 8 frames and are scored with spread_frames=4, like the last row but one.
"""

import math
import random

import torch

from longreel.demo import world
from longreel.engine.measure.metrics import seam_score
from tests.bench_support import bar_chart, measuring, parser, table

JOINT, FADE = 17, 8  # frames


class Case:
    """One object, two motions, a continuous track over both shots."""

    def __init__(self, number: int):
        rng = random.Random(number)
        self.background, self.other_background = rng.sample(list(world.BACKGROUNDS), 2)
        self.color, self.other_color = rng.sample(list(world.COLORS), 2)
        self.shape, self.other_shape = rng.sample(world.SHAPES, 2)
        self.radius = world.SIZES[rng.choice(list(world.SIZES))]
        self.track = self._continuous(rng)  # [34, 2]
        self.aside = self._aside(rng, 8.0), self._aside(rng, 16.0)

    def _continuous(self, rng: random.Random) -> torch.Tensor:
        while True:
            first, second = rng.sample(world.MOTIONS, 2)
            start = world.track(first, rng.randrange(16, 49), rng.randrange(16, 49), rng.randrange(8) / 8, JOINT)
            move = world.track(second, 0.0, 0.0, 0.0, JOINT + 1)
            track = torch.cat([start, start[-1] + (move - move[0])[1:]])
            if track.min() >= 8 and track.max() <= 56:
                return track

    def _aside(self, rng: random.Random, pixels: float) -> torch.Tensor:
        """An offset of that length, [2], which keeps the second shot inside."""
        while True:
            angle = 2 * math.pi * rng.random()
            offset = pixels * torch.tensor([math.cos(angle), math.sin(angle)])
            moved = self.track[JOINT:] + offset
            if moved.min() >= 6 and moved.max() <= 58:
                return offset

    def clip(self, offset: torch.Tensor | None = None, **other: str) -> torch.Tensor:
        """-> [34, 64, 64, 3]; `offset` moves every frame, `other` replaces background, color or shape."""
        track = self.track if offset is None else self.track + offset
        look = {"background": self.background, "color": self.color, "shape": self.shape, **other}
        return world.paint(look["background"], [(look["shape"], look["color"], self.radius, track)]).permute(0, 2, 3, 1)


def hard(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    return torch.cat([before[:JOINT], after[JOINT:]])


def fade(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Cross-fade of FADE frames centred on the joint."""
    weight = ((torch.arange(len(before)) - (JOINT - 0.5) + FADE / 2) / FADE).clamp(0, 1).view(-1, 1, 1, 1)
    return before * (1 - weight) + after * weight


def ghost(clip: torch.Tensor, double: torch.Tensor) -> torch.Tensor:
    """A second, half transparent copy for FADE frames around the joint."""
    there = ((torch.arange(len(clip)) - JOINT + 0.5).abs() < FADE / 2).float().view(-1, 1, 1, 1) / 2
    return clip * (1 - there) + double * there


def scores(number: int) -> dict[str, float]:
    """Every kind of joint for one case -> its seam score."""
    case = Case(number)
    clip = case.clip()
    recolored = case.clip(color=case.other_color)
    return {
        "seamless": seam_score(clip, JOINT),
        "jump of 8 pixels": seam_score(hard(clip, case.clip(case.aside[0])), JOINT),
        "jump of 16 pixels": seam_score(hard(clip, case.clip(case.aside[1])), JOINT),
        "another colour": seam_score(hard(clip, recolored), JOINT),
        "another shape": seam_score(hard(clip, case.clip(shape=case.other_shape)), JOINT),
        "another background": seam_score(hard(clip, case.clip(background=case.other_background)), JOINT),
        "seamless, spread 4": seam_score(clip, JOINT, FADE // 2),
        "colour fades over 8 frames": seam_score(fade(clip, recolored), JOINT, FADE // 2),
        "ghost for 8 frames": seam_score(ghost(clip, case.clip(case.aside[1])), JOINT, FADE // 2),
    }


def main() -> None:
    options = parser(__doc__.splitlines()[0], seeds=50).parse_args()
    with measuring(options) as figures:
        cases = [scores(options.offset + i) for i in range(options.seeds)]
        rows = []
        for kind in cases[0]:
            found = sorted(case[kind] for case in cases)
            rows.append([kind, found[0], found[len(found) // 10], found[len(found) // 2], found[-1]])
            figures[kind] = found
        print(table([f"seam score, {len(cases)} cases", "least", "10 %", "median", "most"], rows))
        if options.images:
            bar_chart({row[0]: row[3] for row in rows}, options.images / "seam_check.png", "median seam score")


if __name__ == "__main__":
    main()
