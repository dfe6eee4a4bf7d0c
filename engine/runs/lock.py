"""Lock what one run works on with the system's own file lock, which ends with its process, however that ends.

The file names the process that holds it, for the error of the second one. It stays when the lock is given back, because
a file that is removed could be locked by one process under its name and by another without. Which files the lock is for
is not known here.
"""

import errno
import json
import os
import stat
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
    and time, and OSError for a link or anything else that is no file, which might be somebody's.
    """

    def __init__(self, path: Path):
        self.path = path
        self._handle = _open(path)
        try:
            lock_handle(self._handle)
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
        close_in_forked(self._handle)

    def release(self) -> None:
        if close_in_forked.forget(self._handle):
            os.ftruncate(self._handle, 0)
            unlock_handle(self._handle)
            os.close(self._handle)


class _CloseInForked:
    """Handles that a forked process closes first of all.

    A lock belongs to all that share its handle: a worker that outlives a killed ComfyUI would hold its locks on.
    Programs that are started anew get no handle of ours anyway (PEP 446).
    """

    def __init__(self) -> None:
        self._handles: set[int] = set()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._close)

    def __call__(self, handle: int) -> None:
        self._handles.add(handle)

    def forget(self, handle: int) -> bool:
        """Return whether the handle is still this process's to close, and know it no more."""
        known = handle in self._handles
        self._handles.discard(handle)
        return known

    def _close(self) -> None:
        for handle in self._handles:
            os.close(handle)
        self._handles.clear()


close_in_forked = _CloseInForked()


def _open(path: Path) -> int:
    """Open the file, made where there is none. Raises OSError for what is no plain file, which is not touched."""
    if path.is_symlink():
        raise OSError(errno.ELOOP, "it is a link, and the lock is written into the file; remove it", str(path))
    flags = os.O_RDWR | os.O_CREAT
    for flag in ("O_BINARY", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"):
        flags |= getattr(os, flag, 0)
    handle = os.open(path, flags, 0o666)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is no file, and the lock is one; remove it", str(path))
    return handle


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


def lock_handle(handle: int) -> None:
    """Lock an open file. Raises OSError, with one of HELD_BY_ANOTHER where another handle has the lock."""
    if sys.platform == "win32":
        os.lseek(handle, WINDOWS_LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def unlock_handle(handle: int) -> None:
    """Give the lock of an open file back."""
    if sys.platform == "win32":
        os.lseek(handle, WINDOWS_LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)
    else:
        fcntl.flock(handle, fcntl.LOCK_UN)
