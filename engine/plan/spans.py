"""Read which steps, layers, shots and words users mean into plain values.

Ranges of steps and layers mean the same for every schedule and every depth of network.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import NamedTuple

from ..storyboard.board import MAX_SHOTS

MOST_PARTS = 1000  # as many as a storyboard has shots; what follows is work for each
LAYERS_HELP = 'use a range like "25-29", a list like "0, 3, 5", a share like "last 1/6", or "all"'


def parse_layers(text: str, blocks: int) -> frozenset[int]:
    """Return the blocks, counted from 0, that `text` names: "all", "last 5", "last 1/6", "first 2", "25-29", "0, 3,
    5-7".

    Raises ValueError, naming the block and how many there are, for what is not a block of this network.
    """
    end, ranges = _read_layers(text)
    if end is not None:
        count = math.ceil(blocks * end.number / end.of) if end.of else end.number
        if not 1 <= count <= blocks:
            raise ValueError(f'layers "{shorten(text, 60)}" asks for {count} of {blocks} blocks; use 1 to {blocks}')
        return frozenset(range(count) if end.side == "first" else range(blocks - count, blocks))
    found: set[int] = set()
    for low, high in ranges:
        if high >= blocks:
            named = str(low) if low == high else f"{low}-{high}"
            raise ValueError(
                f'layers "{shorten(text, 60)}": {named} is not in the network\'s {blocks} blocks; use 0 to {blocks - 1}'
            )
        found.update(range(low, high + 1))
    return frozenset(found) if ranges else frozenset(range(blocks))


def check_layers(text: str) -> None:
    """Raise ValueError as `parse_layers` does for what is a block of no network, before one is known."""
    _read_layers(text)


class _End(NamedTuple):
    """One end of a network: the first or last `number` blocks, or `number`/`of` of all."""

    side: str
    number: int
    of: int


def _read_layers(text: str) -> tuple[_End | None, list[tuple[int, int]]]:
    """Return an end of the network, or ranges of its blocks as (first, last); neither for "all"."""
    words, shown = text.strip().lower(), shorten(text, 60)
    if words == "all":
        return None, []
    if match := re.fullmatch(r"(first|last)\s+(\d{1,9})\s*(?:/\s*(\d{1,9}))?", words):
        end = _End(match[1], int(match[2]), int(match[3] or 0))
        if match[3] is not None and not 0 < end.number <= end.of:
            raise ValueError(f'layers "{shown}" is not a share of 1; {LAYERS_HELP}')
        return end, []
    parts = words.split(",")
    if len(parts) > MOST_PARTS:
        raise ValueError(f'layers "{shown}" has {len(parts):,} parts, and at most {MOST_PARTS:,} are read; use ranges')
    ranges = []
    for part in parts:
        match = re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", part)
        if not match:
            raise ValueError(f'layers "{shown}" is not understood at "{shorten(part.strip(), 40)}"; {LAYERS_HELP}')
        low, high = int(match[1]), int(match[2] or match[1])
        if high < low:
            raise ValueError(f'layers "{shown}": {part.strip()} runs backwards; use {high}-{low}')
        ranges.append((low, high))
    return None, ranges


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
        check_percents(start, end)
        return cls(float(sigma_at(start)), float(sigma_at(end)))

    def steps(self, sigmas: Sequence[float]) -> int:
        """Return how many of a sampler's steps begin in here; the last of its sigmas is where it ends."""
        return sum(self.holds(sigma) for sigma in sigmas[:-1])

    def holds(self, sigma: float) -> bool:
        near = 1 + 1e-4  # schedules are rounded to float32
        return self.low * near < sigma <= self.high * near if self.low > 0 else sigma <= self.high * near


def check_percents(start: float, end: float) -> None:
    """Raise ValueError for two fractions of a schedule with no step between them."""
    if not 0 <= start < end <= 1:
        raise ValueError(f"start {start:g} and end {end:g} hold no step; use 0 <= start < end <= 1")


def parse_shots(text: str) -> tuple[int, ...]:
    """Read "2, 4-6" as (2, 4, 5, 6), counted from 1; empty for all."""
    shots: dict[int, None] = {}  # in their order, each once
    parts = [part for part in (part.strip() for part in text.split(",")) if part]
    if len(parts) > MOST_PARTS:
        raise ValueError(
            f'shots "{shorten(text, 60)}" has {len(parts):,} parts, and at most {MOST_PARTS:,} are read; use ranges'
        )
    for part in parts:
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
