"""Train an anchor LoRA as a config file says.

    python -m longreel.training.anchor_lora config.toml    # goes on where the run's folder stands

Ctrl-C ends the run after the step that it is in, with a checkpoint; the same command goes on from it. A second Ctrl-C
ends it at once, and the steps since the last checkpoint are lost. What a file may say is in training/anchor_config.py,
which clips there may be in training/dataset.py, where ComfyUI is found in hosts/standalone.py.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import cast

from . import anchor_config
from .anchor_config import AnchorConfig
from .anchor_student import AnchorBuilder, Clips, FolderClips
from .anchor_trainer import AnchorTrainer
from .command import NowAndThen, builder_named, end_if, exit_status, interrupts
from .report import Row
from .student import Encoder


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status: 0 done, 1 bad input or a full disk, 130 interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m longreel.training.anchor_lora",
        description=__doc__,
        epilog=anchor_config.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", type=Path, help="a .toml file, or .json with the same keys")
    options = parser.parse_args(arguments)
    return exit_status(lambda: run(anchor_config.read_config(options.config)))


def builder_of(config: AnchorConfig) -> AnchorBuilder:
    """Return the function that a config names. Raises ValueError where there is none."""
    return builder_named(config.builder, anchor_config.BUILDER)


def run(config: AnchorConfig) -> None:
    """Train as the config says, with lines on stdout. Raises as AnchorTrainer does, and Interrupted."""
    student, supply = builder_of(config)(config.model)
    with interrupts() as asked:
        if config.data is None:
            clips = cast(Clips, supply)
        else:
            clips = folder = FolderClips(config.data, cast(Encoder, supply), student.facts)
            folder.prepare(lambda done, count: end_if(bool(asked)))
        trainer = AnchorTrainer(student, clips, config)
        already, began, said = len(trainer.rows), time.monotonic(), NowAndThen()
        print(trainer.summary() + (f"; goes on after {already} steps" if already else ""), flush=True)

        def tell(done: int, row: Row) -> None:
            end_if(bool(asked))
            if said.due() or done == config.lora.steps:
                left = (config.lora.steps - done) * (time.monotonic() - began) / (done - already)
                held_out = f", held-out clips {trainer.held_out[-1][1]:.4f}" if trainer.held_out else ""
                print(
                    f"step {done} of {config.lora.steps}: loss {row.loss:.4f}{held_out}, gradients {row.norm:.3g}, "
                    f"{left:,.0f} s left",
                    flush=True,
                )

        print(f"finished: {trainer.train(tell)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
