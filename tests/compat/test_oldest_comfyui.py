"""The oldest ComfyUI that pyproject.toml promises starts with the pack and takes every bundled workflow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from longreel import dev
from tests.bundled_workflows import PATHS, READY, load, name_of
from tests.comfy_process import PACK_FOLDER_NAME, ComfyProcess
from tests.ready_workflows import stand_ins


@pytest.fixture(scope="module")
def oldest() -> Iterator[ComfyProcess]:
    comfyui = dev.fetch_comfyui(dev.COMFYUI_OLDEST)
    with ComfyProcess(comfyui=comfyui, folder_name=PACK_FOLDER_NAME, **stand_ins.for_comfyui()) as process:
        stand_ins.write_inputs(process.input_path)
        yield process


@pytest.mark.slow
def test_the_promise_is_what_is_tested(oldest: ComfyProcess):
    assert f'requires-comfyui = ">={dev.COMFYUI_OLDEST}"' in (dev.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert oldest.get("/system_stats")["system"]["comfyui_version"] == dev.COMFYUI_OLDEST


def test_the_oldest_comfyui_has_the_same_nodes_of_the_pack(oldest: ComfyProcess, comfy: ComfyProcess):
    ours = [{name for name in process.object_info() if name.startswith("Longreel")} for process in (oldest, comfy)]
    assert ours[0] and ours[0] == ours[1]


@pytest.mark.slow
@pytest.mark.parametrize("path", [*PATHS, *READY], ids=name_of)
def test_the_oldest_comfyui_takes_a_bundled_workflow(path: Path, oldest: ComfyProcess):
    assert oldest.validation_errors(oldest.to_prompt(load(path))) is None
