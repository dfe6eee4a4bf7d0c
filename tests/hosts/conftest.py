"""Fixtures for tests that call ComfyUI in this process: ComfyUI itself and the tiny models of every family.

`tiny("wan21")` gives one model by its name, `every_tiny` runs a test once for each of them. Loaded models are shared
by the whole session: patch a clone, never the model itself.
"""

from collections.abc import Callable, Iterator

import pytest
import torch

from tests.comfy_inprocess import import_comfyui
from tests.tiny_models import MODELS, LoadedTiny, TinyModel, make_tiny_models

# At import, before any test module beside this file can say `import comfy` or `import nodes`.
import_comfyui()


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Toy tensors gain nothing from a second thread, and lose much when another process wants the same core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_models() -> dict[str, TinyModel]:
    """Facts and files of every tiny model, by name; nothing is loaded."""
    return make_tiny_models()


@pytest.fixture(scope="session")
def tiny(tiny_models: dict[str, TinyModel]) -> Callable[[str], LoadedTiny]:
    """A function name -> (model, clip, vae), loaded by core's loaders at its first use."""
    loaded: dict[str, LoadedTiny] = {}

    def load(name: str) -> LoadedTiny:
        if name not in loaded:
            loaded[name] = tiny_models[name].load()
        return loaded[name]

    return load


@pytest.fixture(params=list(MODELS))
def every_tiny(request: pytest.FixtureRequest, tiny_models: dict[str, TinyModel]) -> TinyModel:
    """The facts of each tiny model in turn; `tiny(every_tiny.name)` loads it."""
    return tiny_models[request.param]
