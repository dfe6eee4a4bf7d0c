"""engine/runs/lock.py: one holder at a time, named to the others, and none after its process was killed."""

import os
import re

import pytest

from longreel.engine.runs.lock import RunInUse, RunLock
from tests.engine.killed import holding, killed_at_call


def test_a_second_process_is_refused_with_the_first_ones_number(tmp_path):
    path = tmp_path / "lighthouse" / "run.lock"
    path.parent.mkdir()
    with holding(lambda: RunLock(path)) as process, pytest.raises(RunInUse) as refused:
        RunLock(path)
    assert re.fullmatch(
        rf"the run 'lighthouse' is held by process {process} since \d{{4}}-.*, and this is process "
        rf"{os.getpid()}; wait until it ends, or use another run name",
        str(refused.value),
    )
    RunLock(path).release()


def test_a_killed_process_holds_nothing(tmp_path):
    with holding(lambda: RunLock(tmp_path / "run.lock")):
        pass
    assert b"process" in (tmp_path / "run.lock").read_bytes()  # what it wrote is still there
    lock = RunLock(tmp_path / "run.lock")
    assert str(os.getpid()).encode() in (tmp_path / "run.lock").read_bytes()
    lock.release()


def test_killed_at_any_call_the_next_one_gets_it(tmp_path):
    number = 0
    while killed_at_call(number, lambda: RunLock(tmp_path / "run.lock").release()):
        RunLock(tmp_path / "run.lock").release()
        number += 1
    assert number > 5


def test_the_same_process_is_refused_too_until_it_gives_the_lock_back(tmp_path):
    lock = RunLock(tmp_path / "run.lock")
    with pytest.raises(RunInUse, match=f"is held by process {os.getpid()}"):
        RunLock(tmp_path / "run.lock")
    lock.release()
    RunLock(tmp_path / "run.lock").release()


def test_runs_in_other_folders_do_not_meet(tmp_path):
    locks = [RunLock(tmp_path / name) for name in ("a", "b")]
    for lock in locks:
        lock.release()


def test_a_holder_that_has_not_written_yet_is_said_so(tmp_path):
    lock = RunLock(tmp_path / "run.lock")
    (tmp_path / "run.lock").write_bytes(b"")
    with pytest.raises(RunInUse, match="is held by a process that has not written its number yet"):
        RunLock(tmp_path / "run.lock")
    lock.release()


def test_refused_locks_leave_no_file_open(tmp_path):
    lock = RunLock(tmp_path / "run.lock")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(RunInUse):
            RunLock(tmp_path / "run.lock")
    assert len(os.listdir("/proc/self/fd")) == before
    lock.release()
