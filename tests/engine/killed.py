"""Processes that die, and disks that fail, at a chosen moment: all real, none in this process.

`killed_at_call` ends a forked process with SIGKILL just before its n-th call that touches the disk, `killed_at_byte` in
the middle of a write. `largest_file` is a disk that takes no more.
"""

import contextlib
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

TOUCH_THE_DISK = {"open", "write", "flush", "fsync", "replace", "unlink", "mkdir", "ftruncate", "flock", "close"}


def killed_at_call(number: int, action: Callable[[], None]) -> bool:
    """Run `action` in a process that is killed before call `number`, from 0; False where it ended before."""
    calls = 0

    def profile(frame, event, argument):
        nonlocal calls
        if event == "c_call" and argument.__name__ in TOUCH_THE_DISK:
            if calls == number:
                os.kill(os.getpid(), signal.SIGKILL)
            calls += 1

    def profiled() -> None:
        sys.setprofile(profile)
        action()
        sys.setprofile(None)

    return _ended_by(profiled) == signal.SIGKILL


def killed_at_byte(number: int, action: Callable[[], None]) -> bool:
    """Run `action` in a process that the system kills when a file of it reaches `number` bytes; False if none did."""

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (number, number))
        action()

    return _ended_by(limited) == signal.SIGXFSZ


def killed_by_itself(action: Callable[[], None]) -> bool:
    """Run `action` in a process that sends itself SIGKILL somewhere in it; False if it came to its end."""
    return _ended_by(action) == signal.SIGKILL


def _ended_by(action: Callable[[], None]) -> int:
    """The signal that ended a process that did `action`; 0 if it came to its end."""
    process = os.fork()
    if not process:
        _compute_alone()
        code = 1
        try:
            action()
            code = 0
        finally:
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert status <= 0, "the action failed in its own process"
    return -status


def _compute_alone() -> None:
    """A forked process has none of torch's threads, and would wait for them for ever."""
    torch.set_num_threads(1)


@contextlib.contextmanager
def holding(action: Callable[[], object]) -> Iterator[int]:
    """The number of a process that did `action`, keeps what it returned, and is killed at the end of the block."""
    ready, done = os.pipe()
    process = os.fork()
    if not process:
        _compute_alone()
        kept = action()
        os.write(done, b"1" if kept is not None else b"0")
        signal.pause()
    os.close(done)
    try:
        assert os.read(ready, 1) == b"1", "the action failed in its own process"
        yield process
    finally:
        os.close(ready)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: writing more is an error of the system, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def reachable_folder() -> Iterator[Path]:
    """A new folder that every user may reach; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A reachable folder takes no new files; root, whom permissions do not bind, is nobody meanwhile."""
    user, mode = os.geteuid(), folder.stat().st_mode
    folder.chmod(0o555)
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        folder.chmod(mode)
