"""The session's ComfyUI process with the tiny models in its models folder, for tests that queue prompts."""

import shutil
from pathlib import Path

import pytest

from tests.comfy_process import ComfyProcess
from tests.nodes.ttt_training import write_dataset
from tests.tiny_models import MODEL_KINDS, TinyModel, make_tiny_models


@pytest.fixture(scope="session")
def tiny_models() -> dict[str, TinyModel]:
    """Facts and files of every tiny model, by name; nothing is loaded."""
    return make_tiny_models()


@pytest.fixture(scope="session")
def server(comfy: ComfyProcess, tiny_models: dict[str, TinyModel]) -> ComfyProcess:
    """`comfy`, whose loaders list the tiny checkpoints too."""
    folder = next(iter(tiny_models.values())).folder
    for kind in MODEL_KINDS:
        place = Path(comfy.base) / "models" / kind
        place.mkdir(parents=True, exist_ok=True)
        for file in (folder / kind).iterdir():
            if not (place / file.name).exists():
                shutil.copyfile(file, place / file.name)
    return comfy


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """ComfyUI's output folder in this process, lent to the tests."""
    import folder_paths

    kept, folder = folder_paths.get_output_directory(), tmp_path_factory.mktemp("output")
    folder_paths.set_output_directory(str(folder))
    yield folder
    folder_paths.set_output_directory(kept)


@pytest.fixture(scope="module")
def clips(server):
    """A folder in the input folder of the running ComfyUI."""
    folder = write_dataset(server.input_path / "ttt_clips")
    yield folder.name
    shutil.rmtree(folder)
