"""What all of the picture book's training steps share: a clock, a way to be stopped, and a log.

The clock counts seconds of the processor, so that a schedule does not run out while other work has the machine; on a
GPU it counts seconds. SIGTERM and SIGINT end a step after the optimiser's current one, with everything saved.
"""

import json
import os
import signal
import time
from pathlib import Path

import torch

SAVE_SECONDS = 240  # between checkpoints, on the wall


class Stop:
    """Becomes true when the process is asked to end; the first signal waits for the step, a second one kills."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: object) -> None:
        self.asked = True
        signal.signal(number, signal.SIG_DFL)

    def __bool__(self) -> bool:
        return self.asked


def device() -> torch.device:
    """Find the GPU where there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def worked_seconds() -> float:
    """Seconds that this process has worked: of all its threads together on the processor, on the wall with a GPU."""
    return time.time() if torch.cuda.is_available() else time.process_time()


def log(work: Path, name: str, **values: object) -> None:
    """Append a line of JSON to WORK/NAME.log, and print it."""
    line = json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()})
    print(name, line, flush=True)
    with (work / f"{name}.log").open("a") as file:
        file.write(line + "\n")


def save(values: object, file: Path) -> None:
    """Write with torch.save; an older file stays until the new one is complete."""
    unfinished = file.with_suffix(".tmp")
    torch.save(values, unfinished)
    os.replace(unfinished, file)
