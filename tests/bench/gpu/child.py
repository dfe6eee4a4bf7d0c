"""Run one row's function in this process and append each figure to a file at the moment when it is known.

    python -m tests.bench.gpu.child FIGURES MODULE:FUNCTION SETTINGS

FIGURES is a file of JSON lines, [key, value] each; the runner reads it while this process is still at work, so a crash
of the driver or a hang costs only what was not yet known. An exception becomes the last line, under the key "error".
"""

from __future__ import annotations

import importlib
import json
import math
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

ERROR = "error"
FRAMES = 6  # of a traceback
LONGEST = 2000  # characters of an error's text


def described(error: BaseException) -> dict[str, Any]:
    """Return an exception as the JSON file has it: type, text, last frames of its traceback."""
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    return {
        "type": type(error).__name__,
        "text": str(error)[:LONGEST],
        "frames": [f"{frame.filename}:{frame.lineno} {frame.name}: {frame.line}" for frame in frames],
    }


def strict(value: Any) -> Any:
    """Return what strict JSON can hold in a value's place: NaN and infinities as words."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(key): strict(inner) for key, inner in value.items()}
    return [strict(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def recorder(path: str) -> Callable[[str, Any], None]:
    """Return what a row's function calls with each figure: a key and a value that JSON can hold."""

    def record(key: str, value: Any) -> None:
        line = json.dumps([key, strict(value)], default=str)
        with open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")

    return record


def main() -> int:
    """Run the function that the command line names; 1 where it raised."""
    figures, target, settings = sys.argv[1:]
    record = recorder(figures)
    try:
        module, function = target.split(":")
        getattr(importlib.import_module(module), function)(record, **json.loads(settings))
    except BaseException as error:  # noqa: BLE001  # whatever ends a row is what the row says
        record(ERROR, described(error))
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a broken CUDA context can hang where Python tears it down
