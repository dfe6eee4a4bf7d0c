"""engine/runs/lock.py: one holder at a time, named to the others, and none after its process was killed."""

import os
import re
import signal
import subprocess

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


def test_a_link_is_refused_and_what_it_leads_to_stays(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "run.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="it is a link, and the lock is written into the file; remove it"):
        RunLock(tmp_path / "run.lock")
    assert (tmp_path / "precious").read_text() == "precious"


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "run.lock")
    with pytest.raises(OSError, match="it is no file, and the lock is one; remove it"):
        RunLock(tmp_path / "run.lock")
    os.unlink(tmp_path / "run.lock")
    (tmp_path / "run.lock").mkdir()
    with pytest.raises(IsADirectoryError):
        RunLock(tmp_path / "run.lock")


@pytest.mark.parametrize("released", [False, True])  # as a `with` block does that the worker leaves: it is not its own
def test_a_forked_process_holds_nothing_and_takes_nothing_from_its_parent(tmp_path, released):
    """The worker of a killed ComfyUI lives on for a while."""
    path = tmp_path / "run.lock"
    worker, said = os.pipe()

    def with_a_worker():
        lock = RunLock(path)
        if not os.fork():
            if released:
                lock.release()
            os.write(said, os.getpid().to_bytes(4, "little"))
            signal.pause()
        return lock

    with holding(with_a_worker):
        process = int.from_bytes(os.read(worker, 4), "little")
        try:
            with pytest.raises(RunInUse):  # its parent's still
                RunLock(path)
        except BaseException:
            os.kill(process, signal.SIGKILL)
            raise
    try:
        RunLock(path).release()
    finally:
        os.kill(process, signal.SIGKILL)


def test_a_program_that_was_started_holds_nothing(tmp_path):
    lock = RunLock(tmp_path / "run.lock")
    with subprocess.Popen(["sleep", "60"], close_fds=False) as started:
        lock.release()
        RunLock(tmp_path / "run.lock").release()
        started.kill()
