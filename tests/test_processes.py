"""tests/processes.py finds what a test leaves running, also when whoever started it is gone."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

from tests import processes

SLEEP = "import time; time.sleep(600)  # {}"
START_AND_LEAVE = (
    "import subprocess, sys; "
    "quiet = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL}; "
    f"print(subprocess.Popen([sys.executable, '-c', {SLEEP!r}], **quiet).pid)"
)


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "SECONDS_TO_END", 0.3)


def test_a_process_that_is_left_running_is_named_until_it_ends():
    before = processes.started()
    with subprocess.Popen([sys.executable, "-c", SLEEP.format("left over")]) as process:
        try:
            (line,) = processes.left_over(before)
            assert line.startswith(f"{process.pid}: ") and "left over" in line
            assert processes.left_over(processes.started()) == []
        finally:
            process.kill()
    assert processes.left_over(before) == []


def test_a_process_that_serves_several_files_may_last():
    before = processes.started()
    with subprocess.Popen([sys.executable, "-c", SLEEP]) as process:
        try:
            processes.let_last([psutil.Process(process.pid)])
            assert processes.left_over(before) == []
            assert any(line.startswith(f"{process.pid}: ") for line in processes.left_over(before, everywhere=True))
        finally:
            process.kill()


def test_a_process_whose_parent_is_gone_is_found():
    done = subprocess.run([sys.executable, "-c", START_AND_LEAVE], capture_output=True, text=True, check=True)
    orphan = psutil.Process(int(done.stdout))
    try:
        found = processes.left_over(set(), everywhere=True)
        assert any(line.startswith(f"{orphan.pid}: ") for line in found)
    finally:
        orphan.kill()
        orphan.wait(10)
