"""The gates: ruff finds nothing, every file is formatted, and mypy finds nothing in the rooms that it reads.

The rules are in pyproject.toml, and so are the versions: a newer release finds other things.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from longreel import dev
from tests.comfy_process import link_folder

TYPED_ROOMS = ("engine", "kernels", "training")


def finds_nothing(*words: str | Path, cwd: Path = dev.ROOT) -> None:
    """Run a tool of the environment, and fail with what it finds."""
    done = subprocess.run([sys.executable, "-m", *map(str, words)], cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.fail(done.stdout[-6000:] + done.stderr[-2000:], pytrace=False)


def test_ruff_finds_nothing() -> None:
    finds_nothing("ruff", "check", "--output-format", "concise", ".")


def test_every_file_is_formatted() -> None:
    finds_nothing("ruff", "format", "--check", ".")


@pytest.mark.slow  # it reads torch, too
def test_mypy_finds_nothing(tmp_path: Path) -> None:
    """The pack is a package under the name that imports give it, whatever its folder is called."""
    link_folder(tmp_path / "longreel", dev.ROOT)
    rooms = [word for room in TYPED_ROOMS for word in ("-p", f"longreel.{room}")]
    settings = ("--config-file", dev.ROOT / "pyproject.toml", "--cache-dir", dev.ROOT / ".mypy_cache")
    try:
        finds_nothing("mypy", *settings, *rooms, cwd=tmp_path)
    finally:
        if sys.platform == "win32":
            (tmp_path / "longreel").rmdir()  # a junction; removing the folder would follow it into the pack
