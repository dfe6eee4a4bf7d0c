"""Mistakes of a storyboard are collected here, so that a person hears of all of them at once and where each one stands.

A Fault says what is wrong and at which path of the data, ("shots", 1, "seconds"); a reader knows on which line of its
file that path stands, or in which row, and puts it in front: "line 7: shot 2: seconds is -1; ...". It does not know
what is a mistake (engine/storyboard/rules.py) nor what a file looks like.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

SHOWN = 20  # lines of a message
MOST = 1000  # mistakes that are kept; a reader that has found them looks no further
Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Fault:
    """A fault is one line: `where` in the file, `place` in the storyboard ("shot 2, anchor 1"), and what is wrong.

    path: in the data as they were read. board_path: in a storyboard of version 1, however the data write it. line: of
    the text, from 1; None where it is not known.
    """

    text: str
    place: str = ""
    path: Path = ()
    where: str = ""
    board_path: Path = ()
    line: int | None = None

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.place, self.text) if part)


class StoryboardError(ValueError):
    """Say what is wrong with a storyboard: one line for each mistake, with place, field and remedy."""

    def __init__(self, *faults: Fault | str, more: int = 0) -> None:
        self.faults = tuple(one if isinstance(one, Fault) else Fault(one) for one in faults)
        self.more = more  # mistakes beyond those that were kept
        lines = [str(one) for one in self.faults[:SHOWN]]
        left = len(self.faults) - len(lines) + more
        at_least = " or" * (len(self.faults) >= MOST)
        super().__init__("\n".join(lines + [f"and {left}{at_least} more mistakes like these"] * (left > 0)))

    def changed(self, change: Callable[[Fault], Fault]) -> StoryboardError:
        """Return the same error with every fault changed."""
        return StoryboardError(*map(change, self.faults), more=self.more)

    def located(self, where: Callable[[list[Path]], dict[Path, int]], word: str = "line") -> StoryboardError:
        """Return the same error in the order of the file: `where` gives lines, from 1, of the paths that have one."""
        lines = where([one.path for one in self.faults])
        found = [
            replace(one, where=f"{word} {lines[one.path]}", line=lines[one.path])
            if one.path in lines and not one.where
            else one
            for one in self.faults
        ]
        found.sort(key=lambda one: lines.get(one.path, 0))
        return StoryboardError(*found, more=self.more)


class Rule(Protocol):
    """Whatever reads a value or raises StoryboardError."""

    def read(self, value: Any, field: str) -> Any:
        """Return the value in its plain type."""


class _Faulty:
    """This stands for a value that has been found at fault, so that nothing else is said of it."""

    def __repr__(self) -> str:
        return "FAULTY"


FAULTY: Any = _Faulty()


def sound(*values: Any) -> bool:
    """Tell whether none of these values was found at fault."""
    return all(value is not FAULTY for value in values) if len(values) > 1 else values[0] is not FAULTY


class Faults:
    """This collects mistakes, and raises them together."""

    def __init__(self) -> None:
        self._found: list[Fault] = []
        self._more = 0

    def add(self, text: str, place: str = "", path: Path = ()) -> None:
        """Note one mistake."""
        self._take([Fault(text, place, path)])

    def extend(self, error: StoryboardError, place: str = "", path: Path = ()) -> None:
        """Note the mistakes of an error, which stand at `place` and `path` if they do not say where."""
        self._take(replace(one, place=one.place or place, path=one.path or path) for one in error.faults)
        self._more += error.more

    def read(self, rule: Rule, value: Any, name: str, place: str = "", path: Path = ()) -> Any:
        """Return what the rule makes of a value, or FAULTY once the mistake is noted."""
        if value is FAULTY:
            return FAULTY
        try:
            return rule.read(value, name)
        except StoryboardError as error:
            self.extend(error, place, path)
            return FAULTY

    @property
    def full(self) -> bool:
        """Tell whether there are so many mistakes that no more need be looked for."""
        return len(self._found) >= MOST

    def stop(self) -> None:
        """Raise StoryboardError where there was any mistake."""
        if self._found:
            raise StoryboardError(*self._found, more=self._more)

    def _take(self, faults: Iterable[Fault]) -> None:
        for one in faults:
            if len(self._found) < MOST:
                self._found.append(one)
            else:
                self._more += 1
