"""training/checkpoint.py: files that are there whole or not at all, and a last good one that survives a full disk."""

import os
import subprocess
import sys

import pytest
import torch

from longreel.training import checkpoint

TENSORS = {"weight.a": torch.arange(6.0).view(2, 3), "updates": torch.tensor(7)}
ABOUT = {"stage": 1, "held_out": [[3, 0.5]]}

FILLED = """
import resource, signal, sys, torch
from pathlib import Path
from longreel.training import checkpoint

folder = Path(sys.argv[1])
checkpoint.save(folder, 1, {"weight": torch.ones(100)}, {"stage": 0})
# What the kernel does on a full disk, for one process: a write beyond the limit fails half way.
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    checkpoint.save(folder, 2, {"weight": torch.ones(100_000)}, {"stage": 0})
except OSError as error:
    print(error)
"""


def test_what_is_saved_is_loaded(tmp_path):
    path = checkpoint.save(tmp_path / "new", 3, TENSORS, ABOUT)
    found = checkpoint.load_last(tmp_path / "new")
    assert found.path == path and {name: found.about[name] for name in ABOUT} == ABOUT
    assert found.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(found.tensors[name], TENSORS[name]) for name in TENSORS)


def test_the_new_one_takes_the_place_of_the_old_and_of_what_a_killed_process_left(tmp_path):
    checkpoint.save(tmp_path, 9, TENSORS, ABOUT)
    (tmp_path / f"{checkpoint.UNFINISHED}abc").write_bytes(b"half")
    path = checkpoint.save(tmp_path, 10, TENSORS, ABOUT)
    assert list(tmp_path.iterdir()) == [path]
    assert checkpoint.load_last(tmp_path).path == path


def test_without_checkpoints_there_is_none_to_load(tmp_path):
    assert checkpoint.load_last(tmp_path / "nothing") is None


@pytest.mark.skipif(os.name == "nt", reason="a limit on the size of files is POSIX's")
def test_a_disk_that_is_full_in_the_middle_leaves_the_last_good_one(tmp_path):
    done = subprocess.run([sys.executable, "-c", FILLED, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "a checkpoint of 400,000 bytes could not be written" in done.stdout
    assert "the last good one, 00000001.safetensors, is still there: make room" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["00000001.safetensors"]
    assert torch.equal(checkpoint.load_last(tmp_path).tensors["weight"], torch.ones(100))


def test_a_first_checkpoint_without_room_says_that_there_is_none_before_it(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="could not be written .* No space left on device.*; there is none before it"):
        checkpoint.save(tmp_path, 1, TENSORS, ABOUT)
    assert not list(tmp_path.iterdir())


def test_a_damaged_checkpoint_is_named(tmp_path):
    path = checkpoint.save(tmp_path, 1, TENSORS, ABOUT)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match="00000001.safetensors is no whole checkpoint .*40 bytes"):
        checkpoint.load_last(tmp_path)


def test_a_checkpoint_of_another_version_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "VERSION", 2)
    checkpoint.save(tmp_path, 1, TENSORS, ABOUT)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="a checkpoint of version 2, and this Longreel reads 1"):
        checkpoint.load_last(tmp_path)


def test_room_is_looked_for_where_the_folder_will_be(tmp_path):
    checkpoint.check_room(tmp_path / "not" / "there", 1)
    with pytest.raises(ValueError, match="bytes free and the run's checkpoints take 1,000,000,000,000,000,000"):
        checkpoint.check_room(tmp_path / "not" / "there", 10**18)


def test_bytes_are_those_of_all_tensors():
    assert checkpoint.bytes_of(TENSORS) == 6 * 4 + 8
