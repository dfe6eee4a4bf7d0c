"""Measure a video of any length frame by frame, as its frames come, in memory that does not grow with what they show.

Frames are reduced at once; WINDOW of them are looked at together with MARGIN on both sides, as much as the yardsticks
need (engine/measure/reach.py, flicker.py, still.py, drift.py), and forgotten. What stays is a few numbers for each
frame, the columns: some 70 bytes.

Differences of pairs, statistics and frozen frames are those of the whole video. Broken frames are found by what is
usual in their window, not in the whole video, and a loop is looked for in LOOP_WINDOW frames at a time. What the frames
belong to, shots or joints, is for engine/measure/figures.py.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from .drift import statistics
from .flicker import find_flicker
from .metrics import FAR, SHORT_SIDE, reduced
from .reach import pair_differences
from .still import SHORT_SIDE as STILL_SIDE
from .still import Loop, loop_of, same_frames

WINDOW = 256  # frames that are looked at together
MARGIN = 16  # frames on both sides of them: flicker asks for 8, and for what is usual
LOOP_WINDOW = 1024  # frames in which a loop is looked for; windows share half
FEWEST = FAR + 1  # frames of a video that can be measured

Columns = dict[str, Tensor]  # by name: [F] for frames, [F - 1] and [F - FAR] for pairs, each by its first frame


class Meter(Protocol):
    """A meter takes the frames of one video in order and says at the end what it found, by frame or pair."""

    def push(self, frames: Tensor) -> None:
        """Take the next frames, [f, H, W, 3] uint8."""

    def finish(self) -> Columns:
        """Return what was found, once all frames came."""


class FrameMeter:
    """This measures what frames alone say. Its columns:

    near [F - 1], far [F - FAR]: differences of pairs that movement does not explain, 0..1 (reach.py)
    change [F - 1]: mean difference of neighbouring frames, 0..1
    broken [F], frozen [F]: bool (flicker.py, still.py)
    statistics [F, 7]: what drifts (drift.py)

    `loop` is the longest one, by frames of the whole video, or None.
    """

    def __init__(self, check_interrupt: Callable[[], object] = lambda: None, window: int = WINDOW):
        """check_interrupt: called often, to raise what ends the work."""
        self.check_interrupt, self.window = check_interrupt, window
        self.frames = 0  # that came
        self.loop: Loop | None = None
        self._parts: dict[str, list[Tensor]] = {}
        self._held = torch.empty(0)  # [n, h, w, 3], the first of them being frame `_origin`
        self._origin = self._done = 0
        self._still = torch.empty(0)  # [n, ...], the first of them being frame `_still_origin`
        self._still_origin = 0

    def push(self, frames: Tensor) -> None:
        pictures = frames.float() / 255
        small = reduced(pictures, SHORT_SIDE).permute(0, 2, 3, 1)
        still = reduced(pictures, STILL_SIDE).flatten(1)
        first = not self.frames
        before = torch.cat([small[:1] if first else self._held[-1:], small])
        kept = torch.cat([still[:1] if first else self._still[-1:], still])
        begin = 1 if first else 0
        self._add("change", (before[1:] - before[:-1]).abs().flatten(1).mean(1)[begin:])
        frozen = same_frames(kept, 1)
        self._add("frozen", frozen & (torch.arange(len(frozen)) >= begin))
        self._add("statistics", statistics(small))
        self._held = small if first else torch.cat([self._held, small])
        self._still = still if first else torch.cat([self._still, still])
        self.frames += len(frames)
        while self.frames - self._done >= self.window + MARGIN:
            self._look(self._done + self.window)
        while len(self._still) >= LOOP_WINDOW:
            self._find_loop(LOOP_WINDOW)
            self._still = self._still[LOOP_WINDOW // 2 :].clone()
            self._still_origin += LOOP_WINDOW // 2

    def finish(self) -> Columns:
        """Return the columns.

        Raises ValueError where fewer than FEWEST frames came.
        """
        if self.frames < FEWEST:
            raise ValueError(
                f"the video has {self.frames} frames, and at least {FEWEST} are measured; make a longer one"
            )
        self._look(self.frames)
        self._find_loop(len(self._still))
        return {name: torch.cat(parts) for name, parts in self._parts.items()}

    def _add(self, name: str, values: Tensor) -> None:
        self._parts.setdefault(name, []).append(values)

    def _look(self, stop: int) -> None:
        """Measure the frames from the last that was measured up to `stop`, and let go of what no later one needs."""
        start, last = self._done - self._origin, stop - self._origin
        begin = max(0, min(start, len(self._held) - FEWEST))
        found = pair_differences(self._held[begin : last + FAR], self.check_interrupt)
        self._add("near", found.near[start - begin : last - begin])
        self._add("far", found.far[start - begin : last - begin])
        self._add("broken", find_flicker(self._held, self.check_interrupt).broken[start:last])
        self._done = stop
        keep = max(0, last - MARGIN)
        self._held, self._origin = self._held[keep:].clone(), self._origin + keep

    def _find_loop(self, frames: int) -> None:
        self.check_interrupt()
        found = loop_of(self._still[:frames])
        if found is None:
            return
        at = self._still_origin
        loop = Loop(found.start + at, found.stop + at, found.period_frames)
        best = self.loop
        if best is not None and best.period_frames == loop.period_frames and loop.start <= best.stop:
            loop = Loop(min(best.start, loop.start), max(best.stop, loop.stop), loop.period_frames)
        if best is None or loop.stop - loop.start > best.stop - best.start:
            self.loop = loop
