"""What all tests share: one ComfyUI process for everything that goes over HTTP, and the mark of tests that need a GPU.

Run through `python dev.py test`, or directly with .venv/bin/pytest once `python dev.py setup` has run.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from longreel import dev
from tests.comfy_process import PACK_FOLDER_NAME, ComfyProcess


def pytest_configure(config: pytest.Config) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a run that is ended takes its servers along
    config.addinivalue_line("markers", "gpu: needs an NVIDIA GPU; skipped where there is none")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if dev.has_nvidia_gpu():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU, and nvidia-smi finds none"))


@pytest.fixture(scope="session")
def comfy() -> Iterator[ComfyProcess]:
    """A running ComfyUI with the pack in a folder of an arbitrary name, and the test nodes of tests/tiny_nodes."""
    with ComfyProcess(folder_name=PACK_FOLDER_NAME, packs={"tiny_nodes": dev.ROOT / "tests" / "tiny_nodes"}) as process:
        yield process
