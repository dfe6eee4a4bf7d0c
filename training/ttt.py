"""Train TTT layers as a config file says.

    python -m longreel.training.ttt config.toml            # goes on where the run's folder stands
    python -m longreel.training.ttt config.toml --plan     # encodes, measures one step, and stops
    torchrun --nproc-per-node 2 -m longreel.training.ttt config.toml

Ctrl-C ends the run after the step that it is in, with a checkpoint; the same command goes on from it. A second Ctrl-C
ends it at once, and the steps since the last checkpoint are lost. What a file may say is in training/config.py, which
clips there may be in training/dataset.py.
"""

import argparse
import sys
import time
from pathlib import Path

from . import config as configuration
from .command import NowAndThen, builder_named, end_if, exit_status, interrupts
from .config import Config
from .parallel import World, world_of_torchrun
from .stage_clips import StageClips
from .student import Builder
from .trainer import Progress, Trainer


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status: 0 done, 1 bad input or a full disk, 130 interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m longreel.training.ttt",
        description=__doc__,
        epilog=configuration.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", type=Path, help="a .toml file, or .json with the same keys")
    parser.add_argument("--plan", action="store_true", help="show what the run will cost, and stop")
    options = parser.parse_args(arguments)

    def run() -> None:
        with world_of_torchrun() as world:
            _run(configuration.read_config(options.config), world, options.plan)

    return exit_status(run)


def builder_of(config: Config) -> Builder:
    """Return the function that a config names. Raises ValueError where there is none."""
    return builder_named(config.builder, configuration.BUILDER)


def _run(config: Config, world: World, plan_only: bool) -> None:
    student, encoder, sample = builder_of(config)(config.model)
    trainer = Trainer(student, StageClips(config, encoder, student.facts), config, world, sample)
    said = NowAndThen()
    with interrupts() as asked:

        def tell_encoding(done: int, count: int) -> None:
            end_if(bool(asked))
            if said.due():
                _say(world, f"encoding part {done + 1} of {count} of this process")

        trainer.prepare(tell_encoding)
        _say(world, trainer.plan().text())
        if plan_only:
            return
        began, already = time.monotonic(), trainer.steps_made

        def tell(progress: Progress) -> None:
            end_if(world.agree(bool(asked)))  # all after the same step
            if said.due() or progress.done in (already + 1, progress.all):
                left = (progress.all - progress.done) * (time.monotonic() - began) / (progress.done - already)
                _say(
                    world,
                    f"stage {progress.stage.name}, step {progress.done} of {progress.all}: loss "
                    f"{progress.row.loss:.4f}, gradients {progress.row.norm:.3g}, {left:,.0f} s left",
                )

        _say(world, f"finished: {trainer.train(tell)}")


def _say(world: World, text: str) -> None:
    if world.speaks:
        print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
