"""The processes that tests start, and which of them are still there when they should be gone.

A process counts as started here when it descends from this one, or when it carries this one's mark in its environment,
which it keeps when whoever started it is gone. Knows nothing of what the processes do.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable

import psutil

MARK = "LONGREEL_TESTS_PROCESS"  # environment variable: the process id of the tests that started a process
SECONDS_TO_END = 10.0  # for a process that was told to
HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")  # Python's own end with the interpreter

_lasting: set[psutil.Process] = set()


def mark_children() -> None:
    """Let every process that is started from now on carry the mark."""
    os.environ[MARK] = str(os.getpid())


def started() -> set[psutil.Process]:
    """The running descendants of this process; zombies, which only wait to be asked how they ended, are none."""
    return {process for process in psutil.Process().children(recursive=True) if _runs(process)}


def orphans() -> set[psutil.Process]:
    """Running processes that carry the mark of this one, whoever is their parent now."""
    found = set()
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == str(os.getpid()) and _runs(process):
                found.add(process)
        except (psutil.Error, OSError):
            continue  # gone, or another user's
    return found


def let_last(processes: Iterable[psutil.Process]) -> None:
    """These, and what they start, serve several test files; whoever started them ends them."""
    _lasting.update(processes)


def interrupt_lasting() -> None:
    """End those as SIGTERM does."""
    for process in _lasting:
        with contextlib.suppress(psutil.Error):
            process.terminate()


def left_over(before: set[psutil.Process], everywhere: bool = False) -> list[str]:
    """Command lines of what was started since `before`, may not last and does not end within SECONDS_TO_END.

    Args:
        everywhere: look for orphans too, and let nothing last.
    """
    end = time.monotonic() + SECONDS_TO_END
    while True:
        found = (started() | orphans() if everywhere else {p for p in started() if not _lasts(p)}) - before
        lines = [line for line in map(_command, found) if line]
        if not lines or time.monotonic() > end:
            return sorted(lines)
        time.sleep(0.05)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _lasts(process: psutil.Process) -> bool:
    try:
        return process in _lasting or any(parent in _lasting for parent in process.parents())
    except psutil.Error:
        return True  # gone meanwhile


def _command(process: psutil.Process) -> str:
    """Process id and command line; "" for a process that is gone or Python's own."""
    try:
        words = " ".join(process.cmdline()) or process.name()
    except psutil.Error:
        return ""
    return "" if any(helper in words for helper in HELPERS) else f"{process.pid}: {words[:300]}"
