"""nodes/alpha_space.py in a real ComfyUI process, on a tiny random CogVideoX: every input changes the video."""
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.comfy_inprocess import import_comfyui
from tests.comfy_process import ComfyProcess
from tests.tiny_models import TinyModel, comfy_process_options, make_tiny_models

import_comfyui()

from longreel.nodes.alpha_space import LongreelAlphaSpaceSampler

LATENT_FRAMES = 3
DEFAULT = {"solver": "dpmpp_2m_sde", "solver.eta": 1.0, "dynamic_guidance": "off"}
OTHERS = {
    "solver": {"solver": "ddim"},
    "solver.eta of dpmpp_2m_sde": {"solver.eta": 0.0},
    "solver.eta of ddim": {"solver": "ddim", "solver.eta": 0.0},
    "dynamic_guidance published": {"dynamic_guidance": "published"},
    "dynamic_guidance rising": {"dynamic_guidance": "rising"},
}


@pytest.fixture(scope="module")
def cog() -> TinyModel:
    return make_tiny_models()["cogvideox10"]


@pytest.fixture(scope="module")
def process(cog: TinyModel) -> Iterator[ComfyProcess]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        with ComfyProcess(**comfy_process_options({cog.name: cog})) as running:
            yield running


@pytest.fixture(scope="module")
def videos(process: ComfyProcess, cog: TinyModel) -> dict[str, torch.Tensor]:
    """The latent of the default settings and of each other one, made by one prompt."""
    settings = {"default": DEFAULT, "default again": DEFAULT} | {name: DEFAULT | other for name, other in OTHERS.items()}
    names = list(settings)
    outputs = process.run(graph(cog, [settings[name] for name in names]))
    return {name: saved_latent(process, outputs[f"save{number}"]) for number, name in enumerate(names)}


def graph(cog: TinyModel, settings: list[dict]) -> dict:
    """One SamplerCustomAdvanced for each of the settings; they share everything else."""
    prompt = {
        **cog.prompt_nodes(),
        "positive": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["clip", 0], "text": "a red fox runs"}},
        "negative": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["clip", 0], "text": "blurry"}},
        "guider": {"class_type": "CFGGuider", "inputs": {
            "model": ["model", 0], "positive": ["positive", 0], "negative": ["negative", 0], "cfg": 6.0}},
        "noise": {"class_type": "RandomNoise", "inputs": {"noise_seed": 7}},
        "sigmas": {"class_type": "BasicScheduler", "inputs": {
            "model": ["model", 0], "scheduler": "simple", "steps": 4, "denoise": 1.0}},
        "latent": {"class_type": "EmptyHunyuanLatentVideo", "inputs": {
            "width": 64, "height": 64, "length": cog.pixel_frames(LATENT_FRAMES), "batch_size": 1}},
    }  # fmt: skip
    for number, inputs in enumerate(settings):
        prompt[f"sampler{number}"] = {"class_type": "LongreelAlphaSpaceSampler", "inputs": inputs}
        prompt[f"run{number}"] = {"class_type": "SamplerCustomAdvanced", "inputs": {
            "noise": ["noise", 0], "guider": ["guider", 0], "sampler": [f"sampler{number}", 0], "sigmas": ["sigmas", 0],
            "latent_image": ["latent", 0]}}  # fmt: skip
        prompt[f"save{number}"] = {"class_type": "SaveLatent", "inputs": {
            "samples": [f"run{number}", 0], "filename_prefix": f"alpha{number}"}}  # fmt: skip
    return prompt


def saved_latent(process: ComfyProcess, output: dict) -> torch.Tensor:
    saved = output["latents"][0]
    return load_file(process.base / "output" / saved["subfolder"] / saved["filename"])["latent_tensor"]


def test_it_makes_a_video_and_the_same_one_again(videos: dict[str, torch.Tensor], cog: TinyModel) -> None:
    assert videos["default"].shape == cog.latent_shape(LATENT_FRAMES)
    assert torch.isfinite(videos["default"]).all()
    assert torch.equal(videos["default"], videos["default again"])


@pytest.mark.parametrize("name", OTHERS)
def test_every_input_changes_the_video(videos: dict[str, torch.Tensor], name: str) -> None:
    before = "solver" if name == "solver.eta of ddim" else "default"
    assert float((videos[name] - videos[before]).abs().max()) > 1e-2


def test_a_wrong_value_is_refused_before_anything_runs(process: ComfyProcess, cog: TinyModel) -> None:
    for wrong in ({"dynamic_guidance": "wild"}, {"solver.eta": 1.5}):
        with pytest.raises(Exception, match=next(iter(wrong)).replace(".", r"\.")):
            process.run(graph(cog, [DEFAULT | wrong]))


def inputs_of_the_schema() -> list:
    """All inputs, those inside the solver's options included."""
    schema = LongreelAlphaSpaceSampler.define_schema()
    return schema.inputs + [inner for option in schema.inputs[0].options for inner in option.inputs]


def test_every_input_says_what_it_is() -> None:
    for widget in inputs_of_the_schema():
        assert widget.tooltip, widget.id


def test_the_help_page_names_every_input() -> None:
    page = (Path(__file__).resolve().parents[2] / "web" / "docs" / "LongreelAlphaSpaceSampler.md").read_text(encoding="utf-8")
    for widget in inputs_of_the_schema():
        assert f"`{widget.id}`" in page
