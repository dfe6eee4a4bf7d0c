"""Starts a program of the tests in which Triton can be imported: interpreting kernels, or compiling them for GPUs.

A torch for CUDA brings Triton; beside a CPU torch, `python dev.py setup` puts one into a folder of its own, which only
these programs see, so that ComfyUI in the development environment is what users without a GPU have.
"""

import importlib.util
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from longreel import dev

on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Triton is published for Linux alone")


def run_with_triton(module: str, *arguments: str, **environment: str) -> list[dict[str, Any]]:
    """The JSON lines that `python -m module` prints. TRITON_INTERPRET is unset unless it is given."""
    if importlib.util.find_spec("triton") is None and not (dev.TRITON_HOME / "triton").is_dir():
        raise FileNotFoundError(f"no Triton in the environment nor in {dev.TRITON_HOME}; run python dev.py setup")
    inherited = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    path = os.pathsep.join(filter(None, [inherited.get("PYTHONPATH"), str(dev.TRITON_HOME)]))
    # Not from the pack's root, where nodes/ and kernels/ would be found before anything else of that name.
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, cwd=dev.VENV,
                          env={**inherited, "PYTHONPATH": path, **environment})  # fmt: skip
    assert done.returncode == 0, f"{module} ended with exit code {done.returncode}:\n{done.stderr[-3000:]}"
    return [json.loads(line) for line in done.stdout.splitlines()]
