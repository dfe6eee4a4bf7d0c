"""Measure rows one after the other, each in a process of its own with a budget of its own.

A row that raises, hangs, is killed or takes CUDA down ends its own process only; what it had found is kept, what ended
it stands in its row, and the next one runs. It knows nothing of torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .child import ERROR, described
from .report import DIED, FAILED, OK, RUNNING, SKIPPED, TIMED_OUT, Report

LEAST_SECONDS = 5.0  # a row that has less left does not begin
POLL_SECONDS = 0.1
SECONDS_TO_END = 2.0  # between asking a process to end and killing it
OUTPUT_LINES = 25


@dataclass(frozen=True)
class Row:
    """One measurement: `target` is module:function, called with a recorder and `settings`; seconds at most."""

    name: str
    target: str
    seconds: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    paths: tuple[str, ...] = ()  # behind those of PYTHONPATH


def run_rows(rows: Sequence[Row], report: Report, seconds: float, environment: Mapping[str, str], cwd: Path) -> None:
    """Measure all rows in order within `seconds`; those that no time is left for are skipped, and say so.

    environment: of the processes, beside this one's. cwd: where they start, without modules of its own.
    """
    end = time.monotonic() + seconds
    for row in rows:
        left = end - time.monotonic()
        if left < LEAST_SECONDS:
            report.row(row.name, state=SKIPPED, why=f"{max(0.0, left):.0f} s of {seconds:.0f} s were left")
            continue
        print(f"{row.name} (at most {min(left, row.seconds):.0f} s)", flush=True)
        try:
            _run(row, report, min(left, row.seconds), environment, cwd)
        except Exception as error:  # noqa: BLE001  # one row never ends the others
            report.row(row.name, state=FAILED, error=described(error))
        print(f"  -> {report.rows[row.name]['state']}", flush=True)


def _run(row: Row, report: Report, seconds: float, environment: Mapping[str, str], cwd: Path) -> None:
    """Run one row's process, and take its figures over while it works."""
    report.row(row.name, state=RUNNING)
    inherited = {**os.environ, **environment}
    path = os.pathsep.join(filter(None, [inherited.get("PYTHONPATH"), *row.paths]))
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="longreel-row-", ignore_cleanup_errors=True) as folder:
        figures, output = Path(folder, "figures"), Path(folder, "output")
        figures.touch()
        command = [sys.executable, "-m", f"{__package__}.child", str(figures), row.target, json.dumps(row.settings)]
        with output.open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env={**inherited, **row.environment, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that what it starts (compilers) ends with it
            )
        seen = 0
        try:
            while (code := process.poll()) is None and time.monotonic() - started < seconds:
                seen = _take(figures, seen, row.name, report)
                time.sleep(POLL_SECONDS)
        finally:
            _end(process)
        _take(figures, seen, row.name, report, whole=True)
        taken = round(time.monotonic() - started, 2)
        text = output.read_text(encoding="utf-8", errors="replace")
    found = report.rows[row.name].get("figures", {})
    changes: dict[str, Any] = {"seconds": taken}
    if ERROR in found:
        changes |= {"state": FAILED, "error": found.pop(ERROR)}
    elif code is None:
        changes |= {"state": TIMED_OUT, "why": f"it ran past its {seconds:.0f} s"}
    elif code != 0:
        changes |= {"state": DIED, "why": _ending(code)}
    else:
        changes["state"] = OK
    if changes["state"] != OK:
        changes["output"] = text.splitlines()[-OUTPUT_LINES:]
    report.row(row.name, **changes)


def _take(figures: Path, seen: int, name: str, report: Report, whole: bool = False) -> int:
    """Take over the lines behind the first `seen` bytes, no half line while more may come; return the bytes seen."""
    data = figures.read_bytes()[seen:]
    taken = data if whole else data[: data.rfind(b"\n") + 1]
    for line in taken.splitlines():
        with contextlib.suppress(ValueError):  # a process that was killed leaves half a line
            key, value = json.loads(line)
            report.figure(name, key, value)
            print(f"  {key}: {value}", flush=True)
    return seen + len(taken)


def _end(process: subprocess.Popen) -> None:
    """End a process with all that it started, whether it has ended itself or not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        try:
            process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            continue


def _ending(code: int) -> str:
    """Say how a process ended that did not say it itself."""
    if code < 0:
        return f"signal {signal.Signals(-code).name} ended it"
    return f"it ended with exit code {code} and no word"
