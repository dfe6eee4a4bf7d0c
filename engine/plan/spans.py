"""Read which steps, layers, shots and words users mean into plain values.

Ranges of steps and layers mean the same for every schedule and every depth of network.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import shorten

from ..storyboard.board import MAX_SHOTS

LAYERS_HELP = 'use a range like "25-29", a list like "0, 3, 5", a share like "last 1/6", or "all"'


def parse_layers(text: str, blocks: int) -> frozenset[int]:
    """Return the blocks, counted from 0, that `text` names: "all", "last 5", "last 1/6", "first 2", "25-29", "0, 3,
    5-7".

    Raises ValueError, naming the block and how many there are, for what is not a block of this network.
    """
    words = text.strip().lower()
    if words == "all":
        return frozenset(range(blocks))
    if match := re.fullmatch(r"(first|last)\s+(\d+)\s*(?:/\s*(\d+))?", words):
        side, count, of = match[1], int(match[2]), match[3]
        if of is not None and not 0 < int(count) <= int(of):
            raise ValueError(f'layers "{text}" is not a share of 1; {LAYERS_HELP}')
        count = math.ceil(blocks * count / int(of)) if of else count
        if not 1 <= count <= blocks:
            raise ValueError(f'layers "{text}" asks for {count} of {blocks} blocks; use 1 to {blocks}')
        return frozenset(range(count) if side == "first" else range(blocks - count, blocks))
    found: set[int] = set()
    for part in words.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if not match:
            raise ValueError(f'layers "{text}" is not understood at "{part.strip()}"; {LAYERS_HELP}')
        low, high = int(match[1]), int(match[2] or match[1])
        if high < low:
            raise ValueError(f'layers "{text}": {part.strip()} runs backwards; use {high}-{low}')
        if high >= blocks:
            raise ValueError(
                f'layers "{text}": {part.strip()} is not in the network\'s {blocks} blocks; use 0 to {blocks - 1}'
            )
        found.update(range(low, high + 1))
    return frozenset(found)


@dataclass(frozen=True)
class NoiseSpan:
    """A span holds the steps from noise level `high` down to just above `low`: both are sigmas of the schedule, so 8
    and 50 steps, and the two experts of one schedule, mean the same stretch.
    """

    high: float
    low: float

    @classmethod
    def of(cls, start: float, end: float, sigma_at: Callable[[float], float]) -> "NoiseSpan":
        """Return the span between two fractions of the schedule, `start` and `end`, 0 at its beginning;
        sigma_at(fraction) is the model's noise level.
        """
        if not 0 <= start < end <= 1:
            raise ValueError(f"start {start:g} and end {end:g} hold no step; use 0 <= start < end <= 1")
        return cls(float(sigma_at(start)), float(sigma_at(end)))

    def steps(self, sigmas: Sequence[float]) -> int:
        """Return how many of a sampler's steps begin in here; the last of its sigmas is where it ends."""
        return sum(self.holds(sigma) for sigma in sigmas[:-1])

    def holds(self, sigma: float) -> bool:
        near = 1 + 1e-4  # schedules are rounded to float32
        return self.low * near < sigma <= self.high * near if self.low > 0 else sigma <= self.high * near


def parse_shots(text: str) -> tuple[int, ...]:
    """Read "2, 4-6" as (2, 4, 5, 6), counted from 1; empty for all."""
    shots: dict[int, None] = {}  # in their order, each once
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"(\d{1,9})\s*(?:-\s*(\d{1,9}))?", part)
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= low <= high:
            raise ValueError(
                f'shots "{shorten(text, 60)}" is not understood at "{shorten(part, 40)}"; use numbers from 1 like '
                f'"2, 4-6", or nothing'
            )
        if high > MAX_SHOTS:  # before the range is written out
            raise ValueError(
                f"shots names shot {high:,}, and a storyboard has at most {MAX_SHOTS:,}; use numbers from 1 on"
            )
        shots.update(dict.fromkeys(range(low, high + 1)))
    return tuple(shots)


def parse_words(text: str) -> tuple[str, ...]:
    """Read "cat, red hat" as ("cat", "red hat"): words and phrases, commas between."""
    return tuple(part for part in (" ".join(part.split()) for part in text.split(",")) if part)
