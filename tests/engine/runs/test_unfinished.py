"""engine/runs/unfinished.py: what a death leaves is removed by the next one, and nothing that somebody is writing."""

import os

import pytest

from longreel.engine.runs.unfinished import NAME, OLD_SECONDS, growing_file, growing_folder, remove_left_over
from tests.engine.killed import holding, killed_at_call


@pytest.fixture(params=[growing_file, growing_folder])
def growing(request):
    return request.param


def content(path):
    return path if path.is_file() else path / "frame.png"


def half_written(growing, folder):
    """Grow something that stays as it is; the block is kept with it, or its end would remove it."""
    block = growing(folder)
    path = block.__enter__()
    content(path).write_bytes(b"half")
    return block


def test_what_is_renamed_stays_and_the_rest_goes(tmp_path, growing):
    with growing(tmp_path) as path:
        content(path).write_bytes(b"whole")
        os.replace(path, tmp_path / "name")
    assert os.listdir(tmp_path) == ["name"] and content(tmp_path / "name").read_bytes() == b"whole"
    with pytest.raises(KeyError), growing(tmp_path) as path:
        content(path).write_bytes(b"half")
        raise KeyError
    assert os.listdir(tmp_path) == ["name"]


def test_what_a_killed_process_left_is_removed_by_the_next_one_and_not_before(tmp_path, growing):
    with holding(lambda: half_written(growing, tmp_path)):
        (left,) = tmp_path.iterdir()
        with growing(tmp_path) as path:  # the first process lives
            assert set(tmp_path.iterdir()) == {left, path}
    assert list(tmp_path.iterdir()) == [left]  # killed
    with growing(tmp_path) as path:
        assert list(tmp_path.iterdir()) == [path]
    assert list(tmp_path.iterdir()) == []


def test_killed_at_any_call_nothing_stays(tmp_path, growing):
    number = 0

    def grow():
        with growing(tmp_path) as path:
            content(path).write_bytes(b"half")

    while killed_at_call(number, grow):
        remove_left_over(tmp_path)
        assert list(tmp_path.iterdir()) == []
        number += 1
    assert number > 4


def test_nothing_else_is_removed(tmp_path):
    others = [".longreel-.part", ".longreel-0123456789ab.partly", "x.longreel-0123456789ab.part", ".a.part"]
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / "kept").mkdir()
    (tmp_path / NAME.format("0123456789ab")).symlink_to(tmp_path / "kept")
    os.mkfifo(tmp_path / NAME.format("ba9876543210"))
    assert remove_left_over(tmp_path) == []
    assert len(os.listdir(tmp_path)) == len(others) + 3


def test_where_there_are_no_locks_only_what_is_old_is_removed(tmp_path, monkeypatch, growing):
    def no_locks(handle):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("longreel.engine.runs.unfinished.lock_handle", no_locks)
    with growing(tmp_path) as path:
        assert remove_left_over(tmp_path) == []
        before = path.stat().st_mtime - OLD_SECONDS - 60
        os.utime(path, (before, before))
        assert remove_left_over(tmp_path) == [path]


def test_no_handle_stays_open(tmp_path, growing):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with growing(tmp_path):
            remove_left_over(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_half_videos_of_a_longreel_before_the_locks_go_once_nobody_writes_them_any_more(tmp_path):
    part = tmp_path / f".my film.{'0123456789abcdef' * 2}.part"
    other = tmp_path / ".my film.part"
    for path in (part, other):
        path.write_bytes(b"half")
    assert remove_left_over(tmp_path) == []  # it may be growing now
    long_ago = part.stat().st_mtime - OLD_SECONDS - 1
    for path in (part, other):
        os.utime(path, (long_ago, long_ago))
    assert remove_left_over(tmp_path) == [part] and os.listdir(tmp_path) == [other.name]
