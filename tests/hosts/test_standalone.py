"""hosts/standalone.py: the pack's host outside of ComfyUI's process."""

import os
import subprocess
import sys

import pytest

from longreel.hosts import standalone
from tests.comfy_inprocess import find_comfyui

SAYS = "import longreel.hosts, comfy.model_management as m, folder_paths; print(m.get_torch_device().type)"


@pytest.mark.slow
def test_comfyui_is_found_and_runs_on_what_there_is(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SAYS],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        env={**os.environ, "COMFYUI_PATH": str(find_comfyui()), "PYTHONPATH": ""},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] in ("cpu", "cuda", "mps", "xpu")


def test_without_comfyui_the_folders_that_were_looked_at_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path / "elsewhere"))
    with pytest.raises(ImportError, match=r"none of these folders holds a ComfyUI: .*elsewhere, .*; set COMFYUI_PATH"):
        standalone.find_comfyui()


def test_the_working_folder_may_be_comfyui(monkeypatch):
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.chdir(find_comfyui())
    assert standalone.find_comfyui() == find_comfyui()
