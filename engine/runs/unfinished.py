"""Let a file or a folder grow under a short name of its own, and remove what the death of a process left of one.

The names are short whatever the finished thing is called: a file name has at most 255 bytes, and the user's may have
most of them. Each is locked while its process lives, and the lock ends with the process, however that ends. So the next
one that writes into the same folder removes those that nobody holds, and never one that another ComfyUI is writing.
Windows locks no folders, and keeps open files from being removed by itself; there, and where a file system has no
locks, what is older than an hour and can be removed is. What the files hold is not known here.
"""

import contextlib
import os
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .lock import HELD_BY_ANOTHER, close_in_forked, lock_handle

NAME = ".longreel-{}.part"
PATTERN = re.compile(r"\.longreel-[0-9a-f]{12}\.part")
UNLOCKED = re.compile(r"\..+\.[0-9a-f]{32}\.part", re.DOTALL)  # videos that a Longreel before these locks began
OLD_SECONDS = 3600.0  # far longer than anything pauses in the middle of writing


@contextlib.contextmanager
def growing_file(folder: Path) -> Iterator[Path]:
    """Lend a new, empty file in `folder`, which exists; what is not renamed at the end of the block is removed.

    What dead processes left in the folder is removed first.
    """
    with _growing(folder, lambda path: path.touch(exist_ok=False)) as path:
        yield path


@contextlib.contextmanager
def growing_folder(folder: Path) -> Iterator[Path]:
    """Lend a new, empty folder in `folder`, which exists, as `growing_file` does."""
    with _growing(folder, lambda path: path.mkdir()) as path:
        yield path


@contextlib.contextmanager
def _growing(folder: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    remove_left_over(folder)
    path, handle = _made(folder, make)
    try:
        yield path
    finally:
        _remove(path)
        if handle is not None and close_in_forked.forget(handle):
            os.close(handle)


def remove_left_over(folder: Path) -> list[Path]:
    """Remove what grew in `folder` when its process died, and return where it was; what cannot be removed stays."""
    removed = []
    with os.scandir(folder) as entries:
        found = [
            (Path(entry.path), PATTERN.fullmatch(entry.name) is not None)
            for entry in entries
            if PATTERN.fullmatch(entry.name) or UNLOCKED.fullmatch(entry.name)
        ]
    for path, is_locked in found:
        with contextlib.suppress(OSError):  # another process removed it, or it may not be removed
            if _remove_abandoned(path, is_locked):
                removed.append(path)
    return removed


def _made(folder: Path, make: Callable[[Path], None]) -> tuple[Path, int | None]:
    """Make and lock a new entry; the handle of the lock is None where there are no locks."""
    while True:
        path = folder / NAME.format(secrets.token_hex(6))
        make(path)
        if sys.platform == "win32":
            return path, None
        with contextlib.suppress(FileNotFoundError):  # removed by another process before it was locked
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                lock_handle(handle)
                locked = os.path.samestat(os.fstat(handle), path.stat())
            except OSError as error:
                os.close(handle)
                if error.errno not in HELD_BY_ANOTHER and path.exists():
                    return path, None  # this file system has no locks
                continue
            if locked:
                close_in_forked(handle)
                return path, handle
            os.close(handle)


def _remove_abandoned(path: Path, is_locked: bool) -> bool:
    """Remove an entry unless a living process is writing it, and return whether it was removed.

    is_locked: whether who writes such an entry locks it; else only its age says that nobody does.
    """
    about = path.lstat()
    if not (stat.S_ISREG(about.st_mode) or stat.S_ISDIR(about.st_mode)):
        return False  # not made here
    old = time.time() - about.st_mtime > OLD_SECONDS
    if sys.platform == "win32" or not is_locked:
        if old:
            _remove(path)
        return old
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        lock_handle(handle)
    except OSError as error:
        if error.errno in HELD_BY_ANOTHER or not old:
            return False
        _remove(path)  # this file system has no locks
    else:
        _remove(path)  # while it is locked: who just made it sees that it cannot have it
    finally:
        os.close(handle)
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
