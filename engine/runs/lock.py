"""Lock what one run works on with the system's own file lock, which ends with its process, however that ends.

The file names the process that holds it, for the error of the second one. It stays when the lock is given back, because
a file that is removed could be locked by one process under its name and by another without. Which files the lock is for
is not known here.
"""

import errno
import json
import os
import sys
import time
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

WINDOWS_LOCKED_BYTE = 2**30  # far behind the text: Windows lets nobody else read a byte that is locked
HELD_BY_ANOTHER = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)  # the systems' answers, Windows' last


class RunInUse(RuntimeError):
    """Say that another run holds the lock."""


class RunLock:
    """The lock is held from construction to `release`, or to the end of the process. Raises RunInUse, naming process
    and time.
    """

    def __init__(self, path: Path):
        self.path = path
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        try:
            _lock(self._handle)
            os.ftruncate(self._handle, 0)
            os.lseek(self._handle, 0, os.SEEK_SET)
            os.write(self._handle, json.dumps({"process": os.getpid(), "since": _now()}).encode())
        except OSError as error:
            owner = _owner(self._handle)
            os.close(self._handle)
            if error.errno in HELD_BY_ANOTHER:
                raise RunInUse(
                    f"the run {path.parent.name!r} is held by {owner}, and this is process {os.getpid()}; wait "
                    f"until it ends, or use another run name"
                ) from error
            raise

    def release(self) -> None:
        os.ftruncate(self._handle, 0)
        _unlock(self._handle)
        os.close(self._handle)


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def _owner(handle: int) -> str:
    """Return who holds the lock, for people, from what the holder wrote."""
    os.lseek(handle, 0, os.SEEK_SET)
    try:
        owner = json.loads(os.read(handle, 1000))
        return f"process {owner['process']} since {owner['since']}"
    except (ValueError, KeyError, TypeError):
        return "a process that has not written its number yet"


def _lock(handle: int) -> None:
    if sys.platform == "win32":
        os.lseek(handle, WINDOWS_LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _unlock(handle: int) -> None:
    if sys.platform == "win32":
        os.lseek(handle, WINDOWS_LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)
    else:
        fcntl.flock(handle, fcntl.LOCK_UN)
