"""torch.compile beside every feature, by core's own node: the same results, in graphs, and none is left uncompiled.

The backend runs graphs as they are ("eager"): what is tested is what dynamo makes graphs of, which is the same for
inductor. The tiny models have two blocks here, one of them with the feature: dynamo traces each of them.
"""

import dataclasses
import gc
import logging

import pytest
import torch
import torch._dynamo
from torch._dynamo.utils import counters

import comfy.sd
import comfy.utils
from comfy_extras.nodes_torch_compile import TorchCompileModel

from longreel.hosts import block_count, keys
from longreel.hosts.anchor import frame as anchor_frame
from longreel.hosts.attention import patching
from longreel.hosts.memory import apm, cam, short_memory
from tests import tiny_models
from tests.hosts.anchor_cases import anchored
from tests.hosts.features.test_kv_share import PLAIN
from tests.hosts.memory_cases import drawn
from tests.hosts.rollout_cases import story
from tests.hosts.sampling.test_core_windows_and_caches import KEYS, sample

BLOCKS = 2
LAST = frozenset({BLOCKS - 1})
KNOWN = short_memory.KnownFrames(short_memory.CLEAN, frames=0, strength=0.5, decay=0.0)


def sharing(loaded, model):
    return patching.attach(model, dataclasses.replace(PLAIN, layers=LAST))


def anchoring(loaded, model):
    return anchor_frame.attach(model, [anchored(loaded, 4)])


def remembering(loaded, model):
    """Every memory that can stand beside the others: known frames, keys and values, CAM and APM."""
    model = short_memory.attach(short_memory.attach(model, KNOWN), dataclasses.replace(KEYS, layers=LAST))
    new = apm.with_apm(model, None, layers=LAST, text_tokens=64)
    model = apm.attach(model, drawn(new.model_options["transformer_options"][keys.APM].memory))
    return cam.attach(model, drawn(cam.with_cam(model, None).model_options["transformer_options"][keys.CAM].memory))


def compiled(model):
    return TorchCompileModel.execute(model, "eager").args[0]


def short(tiny, name: str):
    """A tiny model whose file has BLOCKS blocks."""
    loaded, file = tiny(name), tiny_models.make_tiny_models()[name].unet_path
    weights, about = comfy.utils.load_torch_file(str(file), return_metadata=True)
    gone = [key for key in weights if key.startswith("blocks.") and int(key.split(".")[1]) >= BLOCKS]
    kept = {key: value for key, value in weights.items() if key not in gone}
    return loaded._replace(model=comfy.sd.load_diffusion_model_state_dict(kept, metadata=about))


@pytest.fixture(scope="module", autouse=True)
def no_graphs_are_left():
    """What dynamo imported and made lasts: keep the garbage collector of later tests from it, as tests/conftest.py."""
    yield
    torch._dynamo.reset()
    gc.collect()
    gc.freeze()


@pytest.fixture
def warnings():
    """What dynamo complains of meanwhile."""
    said = []

    class Keep(logging.Handler):
        def emit(self, record):
            said.append(record.getMessage())

    handler, log = Keep(logging.WARNING), logging.getLogger("torch._dynamo")
    log.addHandler(handler)
    yield said
    log.removeHandler(handler)


def check(loaded, on, mode, timeline, warnings):
    """Both orders make what is made without torch.compile, and the second finds the graphs of the first."""
    expected = sample(mode, loaded, on(loaded, loaded.model), timeline, 2)[0]
    for compiled_first in (True, False):
        before = counters["stats"]["unique_graphs"]
        model = on(loaded, compiled(loaded.model)) if compiled_first else compiled(on(loaded, loaded.model))
        assert torch.equal(sample(mode, loaded, model, timeline, 2)[0], expected)
        new = counters["stats"]["unique_graphs"] - before
        assert new > 0 or not compiled_first
    assert not new and not warnings


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "on", "mode"),
    [("wan21", sharing, "joint"), ("wan21", remembering, "rollout"), ("cogvideox15", anchoring, "joint")],
)
def test_a_feature_beside_torch_compile_changes_nothing_and_is_compiled(tiny, warnings, name, on, mode):
    """On segments of several lengths, and where the same network was compiled without the feature before."""
    loaded = short(tiny, name)
    assert block_count(loaded.model) == BLOCKS
    even = 2 if name == "cogvideox15" else 1  # latent frames of a token
    timeline = story(loaded.model, frames=4 * even, segment=3 * even, overlap=even)
    plain = sample(mode, loaded, loaded.model, timeline, 2)[0]
    assert torch.equal(sample(mode, loaded, compiled(loaded.model), timeline, 2)[0], plain)
    check(loaded, on, mode, timeline, warnings)
    graphs = counters["stats"]["unique_graphs"]
    assert torch.equal(sample(mode, loaded, compiled(loaded.model), timeline, 2)[0], plain)
    assert counters["stats"]["unique_graphs"] == graphs
