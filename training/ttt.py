"""Trains TTT layers as a config file says.

    python -m longreel.training.ttt config.toml            # goes on where the run's folder stands
    python -m longreel.training.ttt config.toml --plan     # encodes, measures one step, and stops
    torchrun --nproc-per-node 2 -m longreel.training.ttt config.toml

Ctrl-C ends the run after the step that it is in, with a checkpoint; the same command goes on from it. A second Ctrl-C
ends it at once, and the steps since the last checkpoint are lost. What a file may say is in training/config.py, which
clips there may be in training/dataset.py.
"""

import argparse
import importlib
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from . import config as configuration
from .config import Config
from .parallel import World, world_of_torchrun
from .student import Builder
from .trainer import Progress, Trainer

SECONDS_BETWEEN_LINES = 10.0
SAME_WISH_SECONDS = 2.0  # torchrun passes on the Ctrl-C that its processes have heard themselves
INTERRUPTED = 130  # as shells report Ctrl-C


class Interrupted(Exception):
    """Ctrl-C, or the end that the system asks for, noticed between two steps."""


def main(arguments: list[str] | None = None) -> int:
    """-> the command's exit status: 0 done, 1 bad input or a full disk, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m longreel.training.ttt", description=__doc__,
                                     epilog=configuration.__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="a .toml file, or .json with the same keys")
    parser.add_argument("--plan", action="store_true", help="show what the run will cost, and stop")
    options = parser.parse_args(arguments)
    try:
        with world_of_torchrun() as world:
            _run(configuration.read_config(options.config), world, options.plan)
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


def builder_of(config: Config) -> Builder:
    """The function that a config names. Raises ValueError where there is none."""
    module, _, function = config.builder.partition(":")
    try:
        return getattr(importlib.import_module(module, __package__.rpartition(".")[0]), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"model.builder {config.builder!r} names 0 functions that can be loaded ({error}); write "
                         f"\"module:function\", or leave it out for {configuration.BUILDER}") from error


def _run(config: Config, world: World, plan_only: bool) -> None:
    student, encoder, sample = builder_of(config)(config.model)
    trainer = Trainer(student, encoder, config, world, sample)
    told = [time.monotonic()]

    def due() -> bool:
        """Whether the last line that is said again and again is old enough for another."""
        if time.monotonic() - told[0] < SECONDS_BETWEEN_LINES:
            return False
        told[0] = time.monotonic()
        return True

    with _interrupts() as asked:
        def tell_encoding(done: int, count: int) -> None:
            _end_if(bool(asked))
            if due():
                _say(world, f"encoding part {done + 1} of {count} of this process")

        trainer.prepare(tell_encoding)
        _say(world, trainer.plan().text())
        if plan_only:
            return
        began, already = time.monotonic(), len(trainer.position.rows)

        def tell(progress: Progress) -> None:
            _end_if(world.agree(bool(asked)))  # all after the same step
            if due() or progress.done in (already + 1, progress.all):
                left = (progress.all - progress.done) * (time.monotonic() - began) / (progress.done - already)
                _say(world, f"stage {progress.stage.name}, step {progress.done} of {progress.all}: loss "
                            f"{progress.row.loss:.4f}, gradients {progress.row.norm:.3g}, {left:,.0f} s left")

        _say(world, f"finished: {trainer.train(tell)}")


@contextmanager
def _interrupts() -> Iterator[list[float]]:
    """-> when this process was asked to end, in seconds of a clock. A second wish raises KeyboardInterrupt."""
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


def _end_if(asked: bool) -> None:
    if asked:
        raise Interrupted


def _say(world: World, text: str) -> None:
    if world.speaks:
        print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
