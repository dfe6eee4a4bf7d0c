"""engine/runs/whole_file.py: a file is the old one or the new one, at every moment and after every error."""

import os

import pytest
import torch

from longreel.engine.runs.whole_file import WriteError, free_bytes, remove_unfinished, save_whole, write_whole
from tests.engine.killed import killed_at_byte, killed_at_call, largest_file, reachable_folder, read_only

OLD, NEW = b"old" * 100, b"new" * 5000


@pytest.fixture
def path(tmp_path):
    (tmp_path / "a.json").write_bytes(OLD)
    return tmp_path / "a.json"


def test_what_is_written_is_there_alone(path):
    write_whole(path, NEW)
    assert path.read_bytes() == NEW
    assert os.listdir(path.parent) == ["a.json"]


def test_others_may_read_the_file_as_any_other(path):
    write_whole(path.with_name("b"), b"")
    path.with_name("c").write_bytes(b"")
    assert path.with_name("b").stat().st_mode == path.with_name("c").stat().st_mode


def test_killed_at_any_call_the_file_is_the_old_or_the_new_one(path):
    seen, number = set(), 0
    while killed_at_call(number, lambda: write_whole(path, NEW)):
        seen.add(path.read_bytes())
        remove_unfinished(path.parent)
        assert os.listdir(path.parent) == ["a.json"]
        path.write_bytes(OLD)
        number += 1
    assert seen == {OLD, NEW}
    assert path.read_bytes() == NEW


@pytest.mark.parametrize("byte", [0, 1, 4096, len(NEW) - 1])
def test_killed_at_any_byte_the_file_is_the_old_one(path, byte):
    assert killed_at_byte(byte, lambda: write_whole(path, NEW))
    assert path.read_bytes() == OLD
    assert path.with_name(".a.json.part").stat().st_size == byte
    assert remove_unfinished(path.parent) == ["a.json"]
    write_whole(path, NEW)
    assert path.read_bytes() == NEW


def test_no_kill_without_its_moment(path):
    assert not killed_at_byte(len(NEW), lambda: write_whole(path, NEW))
    assert path.read_bytes() == NEW


def test_a_full_disk_says_how_much_is_needed_and_free_and_leaves_the_old_file(path):
    path.with_name(".a.json.part").symlink_to("/dev/full")  # the system's own full disk
    with pytest.raises(
        WriteError,
        match=r"^a.json needs 15,000 bytes, and writing stopped \(No space left on device\) with "
        r"[\d,]+ bytes free in .*; free space there or make the folder writable, then "
        r"queue again: what was finished is kept$",
    ):
        write_whole(path, NEW)
    assert path.read_bytes() == OLD
    assert os.listdir(path.parent) == ["a.json"]


def test_a_disk_that_gets_full_while_writing_gets_its_bytes_back(path):
    with (
        largest_file(10_000),
        pytest.raises(WriteError, match=r"needs 15,000 bytes, and writing stopped \(File too large\)"),
    ):
        write_whole(path, NEW)
    assert path.read_bytes() == OLD
    assert os.listdir(path.parent) == ["a.json"]


def test_a_read_only_folder_is_an_error_and_keeps_its_file():
    with reachable_folder() as folder:
        write_whole(folder / "a", OLD)
        with read_only(folder), pytest.raises(WriteError, match=r"a needs 15,000 bytes, .*\(Permission denied\)"):
            write_whole(folder / "a", NEW)
        assert (folder / "a").read_bytes() == OLD
        assert os.listdir(folder) == ["a"]


def test_a_folder_that_is_gone_is_an_error(tmp_path):
    with pytest.raises(WriteError, match=r"\(No such file or directory\)"):
        write_whole(tmp_path / "gone" / "a", NEW)
    assert os.listdir(tmp_path) == []


def test_a_folder_in_the_files_place_is_an_error_and_stays(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(WriteError, match="^a is a folder, and a file belongs there; move it out of"):
        write_whole(tmp_path / "a", NEW)
    assert os.listdir(tmp_path) == ["a"]


def test_only_unfinished_files_are_removed(tmp_path):
    for name in (".a.json.part", "a.json.part", ".a.json", "a.part", ".part"):
        (tmp_path / name).touch()
    (tmp_path / ".folder.part").mkdir()
    assert remove_unfinished(tmp_path) == ["a.json"]
    assert sorted(os.listdir(tmp_path)) == sorted(["a.json.part", ".a.json", "a.part", ".part", ".folder.part"])


def test_free_bytes_of_a_folder_that_is_not_there_yet_are_those_of_its_disk(tmp_path):
    assert free_bytes(tmp_path / "a" / "b") == pytest.approx(free_bytes(tmp_path), rel=0.1)


def test_tensors_on_a_full_disk_say_how_much_is_needed_and_free_and_leave_the_old_file(path):
    with (
        largest_file(1000),
        pytest.raises(WriteError, match=r"^a.json needs 4,000 bytes, and writing stopped \(.*File too large.*\) with"),
    ):
        save_whole(path, {"x": torch.zeros(1000)}, {})
    assert path.read_bytes() == OLD
    assert os.listdir(path.parent) == ["a.json"]


def test_tensors_of_a_name_as_long_as_the_file_system_takes_are_written(tmp_path):
    save_whole(tmp_path / ("日" * 81 + ".safetensors"), {"x": torch.zeros(1)}, {})
    assert [path.stem for path in tmp_path.iterdir()] == ["日" * 81]


def test_tensors_that_a_killed_process_left_are_gone_after_the_next_file(tmp_path):
    number, left = 0, 0
    while killed_at_call(number, lambda: save_whole(tmp_path / "a", {"x": torch.zeros(1)}, {})):
        left += any(path.name != "a" for path in tmp_path.iterdir())
        save_whole(tmp_path / "a", {"x": torch.zeros(1)}, {})
        assert os.listdir(tmp_path) == ["a"]
        number += 1
    assert left > 2
