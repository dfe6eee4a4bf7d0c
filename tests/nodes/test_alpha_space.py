"""nodes/alpha_space.py through ComfyUI's own validation and sampler, on a tiny CogVideoX: every input matters."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.comfy_inprocess import import_comfyui

core = import_comfyui()

import comfy.samplers
import execution
from comfy_api.latest import _io

from longreel.nodes.alpha_space import LongreelAlphaSpaceSampler
from tests import tiny_sampling
from tests.tiny_models import make_tiny_models

LATENT_FRAMES = 3
DEFAULT = {"solver": "dpmpp_2m_sde", "solver.eta": 1.0, "dynamic_guidance": "off"}
OTHERS = {
    "solver": {"solver": "ddim"},
    "solver.eta of dpmpp_2m_sde": {"solver.eta": 0.0},
    "solver.eta of ddim": {"solver": "ddim", "solver.eta": 0.0},
    "dynamic_guidance published": {"dynamic_guidance": "published"},
    "dynamic_guidance rising": {"dynamic_guidance": "rising"},
}


def sampler_of(inputs: dict[str, Any]) -> comfy.samplers.Sampler:
    """What the node makes of the values of its widgets, as ComfyUI's executor hands them over."""
    _, _, nesting = _io.get_finalized_class_inputs(LongreelAlphaSpaceSampler.INPUT_TYPES(), inputs)
    return LongreelAlphaSpaceSampler.execute(**_io.build_nested_inputs(dict(inputs), nesting)).result[0]


@pytest.fixture(scope="module")
def videos() -> dict[str, torch.Tensor]:
    """The latent of the default settings and of each other one."""
    settings = {"default": DEFAULT, "default again": DEFAULT} | {
        name: DEFAULT | other for name, other in OTHERS.items()
    }
    tiny = make_tiny_models()["cogvideox10"]
    model, clip, _ = tiny.load()
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(tiny_sampling.encode(clip, "a red fox runs"), tiny_sampling.encode(clip, "blurry"))
    guider.set_cfg(6.0)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 4)
    noise = torch.randn(tiny.latent_shape(LATENT_FRAMES), generator=torch.Generator().manual_seed(7))
    with torch.inference_mode():
        return {name: guider.sample(noise.clone(), torch.zeros_like(noise), sampler_of(inputs), sigmas, seed=7,
                                    disable_pbar=True) for name, inputs in settings.items()}  # fmt: skip


def test_it_makes_a_video_and_the_same_one_again(videos: dict[str, torch.Tensor]) -> None:
    assert torch.isfinite(videos["default"]).all()
    assert torch.equal(videos["default"], videos["default again"])


@pytest.mark.parametrize("name", OTHERS)
def test_every_input_changes_the_video(videos: dict[str, torch.Tensor], name: str) -> None:
    before = "solver" if name == "solver.eta of ddim" else "default"
    assert float((videos[name] - videos[before]).abs().max()) > 1e-2


@pytest.mark.parametrize(("wrong", "reason"), [
    ({}, None), ({"solver": "ddim"}, None), ({"dynamic_guidance": "wild"}, "dynamic_guidance"),
    ({"solver.eta": 1.5}, "eta"), ({"solver.eta": -0.1}, "eta"),
])  # fmt: skip
def test_a_wrong_value_is_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any], reason: str | None
) -> None:
    monkeypatch.setitem(core.NODE_CLASS_MAPPINGS, "LongreelAlphaSpaceSampler", LongreelAlphaSpaceSampler)
    monkeypatch.setattr(LongreelAlphaSpaceSampler, "OUTPUT_NODE", True, raising=False)
    prompt = {"1": {"class_type": "LongreelAlphaSpaceSampler", "inputs": DEFAULT | wrong}}
    valid, _, _, errors = asyncio.run(execution.validate_prompt("test", prompt, None))
    assert valid == (reason is None)
    assert reason is None or reason in str(errors)


def test_an_unknown_solver_is_refused_by_the_node_itself() -> None:
    """ComfyUI does not check which option of a dynamic combo was chosen."""
    with pytest.raises(ValueError, match="solver 'euler' is not one of dpmpp_2m_sde, ddim"):
        sampler_of({"solver": "euler", "dynamic_guidance": "off"})


def inputs_of_the_schema() -> list:
    """All inputs, those inside the solver's options included."""
    schema = LongreelAlphaSpaceSampler.define_schema()
    return schema.inputs + [inner for option in schema.inputs[0].options for inner in option.inputs]


def test_every_input_says_what_it_is() -> None:
    for widget in inputs_of_the_schema():
        assert widget.tooltip, widget.id


def test_the_help_page_names_every_input() -> None:
    docs = Path(__file__).resolve().parents[2] / "web" / "docs"
    page = (docs / "LongreelAlphaSpaceSampler.md").read_text(encoding="utf-8")
    for widget in inputs_of_the_schema():
        assert f"`{widget.id}`" in page
