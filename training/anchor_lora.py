"""Trains an anchor LoRA as a config file says.

    python -m longreel.training.anchor_lora config.toml    # goes on where the run's folder stands

Ctrl-C ends the run after the step that it is in, with a checkpoint; the same command goes on from it. What a file may say
is in training/anchor_config.py, which clips there may be in training/dataset.py. The default builder imports ComfyUI: name
its folder in PYTHONPATH.
"""

import argparse
import importlib
import sys
import time
from pathlib import Path

from . import anchor_config
from .anchor_config import AnchorConfig
from .anchor_student import AnchorBuilder, FolderClips
from .anchor_trainer import AnchorTrainer
from .parallel import ALONE
from .report import Row
from .ttt import SECONDS_BETWEEN_LINES, Interrupted, _interrupts


def main(arguments: list[str] | None = None) -> int:
    """-> the command's exit status: 0 done, 1 bad input or a full disk, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m longreel.training.anchor_lora", description=__doc__,
                                     epilog=anchor_config.__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="a .toml file, or .json with the same keys")
    options = parser.parse_args(arguments)
    try:
        run(anchor_config.read_config(options.config))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Interrupted:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def builder_of(config: AnchorConfig) -> AnchorBuilder:
    """The function that a config names. Raises ValueError where there is none."""
    module, _, function = config.builder.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"model.builder {config.builder!r} names 0 functions ({error}); write \"module:function\", or "
                         f"leave it out for {anchor_config.BUILDER}") from error


def run(config: AnchorConfig) -> None:
    student, supply = builder_of(config)(config.model)
    with _interrupts(ALONE) as check:
        clips = supply
        if config.data is not None:
            clips = FolderClips(config.data, supply, student.facts)
            clips.prepare(lambda done, count: check())
        trainer = AnchorTrainer(student, clips, config)
        already, began, spoken = len(trainer.rows), time.monotonic(), [0.0]
        print(f"{len(trainer.adapters)} layers, {trainer.parameters / 1e6:.2f} M numbers, {len(clips.trained)} clips"
              + (f"; goes on after {already} steps" if already else ""), flush=True)

        def tell(done: int, row: Row) -> None:
            check()
            now = time.monotonic()
            if now - spoken[0] >= SECONDS_BETWEEN_LINES or done == config.lora.steps:
                spoken[0] = now
                left = (config.lora.steps - done) * (now - began) / (done - already)
                held_out = f", held-out clips {trainer.held_out[-1][1]:.4f}" if trainer.held_out else ""
                print(f"step {done} of {config.lora.steps}: loss {row.loss:.4f}{held_out}, gradients {row.norm:.3g}, "
                      f"{left:,.0f} s left", flush=True)

        print(f"finished: {trainer.train(tell)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
