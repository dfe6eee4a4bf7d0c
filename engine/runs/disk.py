"""Say what a disk has left, and what could not be written to it. What is written is not known here."""

import os
import shutil
from pathlib import Path


class WriteError(OSError):
    """Say that a file could not be written; what stood in its place is untouched."""


def free_bytes(folder: Path) -> int:
    """Return the bytes that this user may still write where `folder` is, or would be."""
    return shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if os.path.exists(path))).free


def stopped(what: str, needed: str, folder: Path, error: Exception) -> WriteError:
    """Return the error of `what`, a file or folder in `folder`, that could not be written. needed: its bytes, as in
    "needs 1,000 bytes".
    """
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return WriteError(
        f"{what} {needed}, and writing stopped ({reason}) with {free_bytes(folder):,} bytes free in {folder}; free "
        f"space there or make the folder writable, then queue again: what was finished is kept"
    )
