"""Share what the training commands have in common: how they end, how often they speak, and the builder that their
config names.

What is trained is not known here.
"""

import importlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SECONDS_BETWEEN_LINES = 10.0
SAME_WISH_SECONDS = 2.0  # torchrun passes on the Ctrl-C that its processes have received themselves
INTERRUPTED = 130  # as shells report Ctrl-C
MOVED = {  # where builders lived that config files of version 0.1 name
    ".hosts.ttt_builder": ".hosts.ttt.builder",
    ".hosts.anchor_training": ".hosts.anchor.student",
}


class Interrupted(Exception):
    """Say that Ctrl-C, or the end that the system asks for, was noticed between two steps."""


def exit_status(run: Callable[[], None]) -> int:
    """Return the exit status of a command that does `run`: 0 done, 1 bad input or a full disk, 130 interrupted; the
    reason goes to stderr.
    """
    try:
        run()
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Interrupted:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    except KeyboardInterrupt:
        print("interrupted within a step; the same command goes on from the last checkpoint", file=sys.stderr)
        return INTERRUPTED
    return 0


def builder_named(name: str, default: str) -> Any:
    """Return the function "module:function"; a module that starts with a dot is one of this pack. Raises ValueError
    where there is none.
    """
    module, _, function = name.partition(":")
    module = MOVED.get(module.removeprefix("longreel"), module)
    try:
        return getattr(importlib.import_module(module, __package__.rpartition(".")[0]), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f'model.builder {name!r} cannot be loaded ({error}); write "module:function", or leave it out for {default}'
        ) from error


@contextmanager
def interrupts() -> Iterator[list[float]]:
    """Yield the times, in seconds of a clock, at which this process was asked to end. The second raises
    KeyboardInterrupt.
    """
    asked: list[float] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if asked and time.monotonic() - asked[0] > SAME_WISH_SECONDS:
            raise KeyboardInterrupt
        asked.append(time.monotonic())

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_if(asked: bool) -> None:
    """Raise Interrupted where the end was asked for."""
    if asked:
        raise Interrupted


class NowAndThen:
    """Tell whether the last line that is said again and again is old enough for another."""

    def __init__(self):
        self.spoken = time.monotonic()

    def due(self) -> bool:
        if time.monotonic() - self.spoken < SECONDS_BETWEEN_LINES:
            return False
        self.spoken = time.monotonic()
        return True
