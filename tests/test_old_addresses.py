"""What saved config files and people's scripts name goes on answering, though the modules have moved."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from longreel.training.command import MOVED, builder_named
from tests.comfy_inprocess import import_comfyui


@pytest.mark.parametrize("prefix", ["", "longreel"])
@pytest.mark.parametrize("old", MOVED)
def test_a_builder_of_a_saved_config_file_is_found_where_it_lies_now(old: str, prefix: str):
    import_comfyui()
    now = importlib.import_module(f"longreel{MOVED[old]}").build
    assert builder_named(f"{prefix}{old}:build", "another").__module__ == now.__module__
    assert builder_named(f"{prefix}{old}:build", "another").__qualname__ == "build"


def test_the_builders_that_moved_are_those_that_config_files_could_name():
    assert set(MOVED) == {".hosts.ttt_builder", ".hosts.anchor_training"}


@pytest.mark.parametrize("address", ["longreel.engine.convert_ttt", "longreel.engine.ttt.convert"])
def test_the_converter_answers_at_its_old_and_its_new_address(address: str):
    command = [sys.executable, "-I", "-m", address, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "--transformer" in done.stdout, done.stderr[-2000:]
