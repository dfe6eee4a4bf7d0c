"""Give a finished file the next free number, `name_00001_.mp4`, in core's naming; no file is ever written over.

What the files hold is not known here.
"""

import os
from pathlib import Path

from .disk import stopped
from .unfinished import growing_file


def write_numbered(folder: Path, stem: str, counter: int, ending: str, data: bytes) -> Path:
    """Write `data` to a new file of `folder`, which is there whole or not at all, and return where.

    counter: the number to begin with, from 1. ending: with its dot. Raises WriteError, naming the bytes.
    """
    try:
        with growing_file(folder) as unfinished:
            unfinished.write_bytes(data)
            return publish(unfinished, folder, stem, counter, ending)
    except OSError as error:
        raise stopped(stem, f"needs {len(data):,} bytes", folder, error) from error


def publish(unfinished: Path, folder: Path, stem: str, counter: int, ending: str) -> Path:
    """Give the complete file its name in `folder`, in one step and never over another file, and return it."""
    while True:
        path = folder / f"{stem}_{counter:05}_{ending}"
        try:
            os.link(unfinished, path)
            return path
        except FileExistsError:
            counter += 1
        except OSError:
            break
    # File systems without hard links: reserve the name, then move over the empty file made here.
    while True:
        path = folder / f"{stem}_{counter:05}_{ending}"
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            counter += 1
            continue
        os.replace(unfinished, path)
        return path
