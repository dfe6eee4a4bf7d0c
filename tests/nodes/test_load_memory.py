"""nodes/load_memory.py and the trained methods of the memory nodes, in a running ComfyUI."""

import shutil
from pathlib import Path

import pytest
import torch

from longreel.engine.memory.apm import APMConfig
from longreel.engine.memory.cam import CAMConfig
from longreel.engine.memory.files import APM_KIND, CAM_KIND, KINDS, LoadedMemory, save_memory
from tests.comfy_process import ComfyError
from tests.nodes.graphs import EULER, change, latent, node, refusals, sampled

WIDTH, BLOCKS, LATENT_CHANNELS, TEXT_TOKENS = 64, 4, 16, 512  # of the tiny Wan 2.1


def drawn(kind: str, seed: int = 0, family: str = "Wan") -> LoadedMemory:
    """A memory for the tiny Wan with every parameter drawn, so that it says something."""
    config = (
        CAMConfig(LATENT_CHANNELS, (32, 64), WIDTH, 1)
        if kind == CAM_KIND
        else APMConfig(LATENT_CHANNELS, WIDTH, TEXT_TOKENS)
    )
    layers = tuple(range(2, BLOCKS))
    torch.manual_seed(seed)
    module = KINDS[kind][0](config, layers)
    for value in module.parameters():
        torch.nn.init.normal_(value, std=0.3)
    return LoadedMemory(
        kind, config, {name: x.detach() for name, x in module.state_dict().items()}, family, BLOCKS, layers
    )


@pytest.fixture(scope="module")
def files(server):
    """models/longreel_memory of the running ComfyUI."""
    folder = Path(server.base) / "models" / "longreel_memory"
    folder.mkdir(exist_ok=True)
    save_memory(folder / "cam.safetensors", drawn(CAM_KIND))
    save_memory(folder / "other.safetensors", drawn(CAM_KIND, seed=1))
    save_memory(folder / "apm.safetensors", drawn(APM_KIND))
    save_memory(folder / "ltxv.safetensors", drawn(CAM_KIND, family="LTXV"))
    (folder / "short.safetensors").write_bytes((folder / "cam.safetensors").read_bytes()[:-1000])
    yield folder
    for (
        path
    ) in folder.iterdir():  # the folder stays: ComfyUI's list of files fails on a folder that it has seen and lost
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.fixture(scope="module")
def plain(tiny_models):
    prompt = sampled(tiny_models["wan21"], EULER)
    rolling = {"mode": "rollout", "mode.run_name": "", "mode.remove_old": False, "mode.low_noise_from": 0.875}
    return change(prompt, "sample", **rolling)


@pytest.fixture(scope="module")
def plain_latent(server, plain):
    return latent(server, plain)


def with_cam(prompt, file="cam.safetensors", strength=1.0):
    remember = node(
        "LongreelShortMemory",
        **{"model": ["model", 0], "method": "trained", "method.memory": ["load", 0], "method.strength": strength},
    )
    return change(
        {**prompt, "load": node("LongreelLoadMemory", file=file), "remember": remember}, "sample", model=["remember", 0]
    )


def with_apm(prompt, file="apm.safetensors", strength=1.0, anchor="video"):
    remember = node(
        "LongreelLongMemory",
        model=["model", 0],
        anchor=anchor,
        frames=1,
        placement="before",
        strength=0.0,
        layers="all",
        statistics=0.0,
        apm=["load", 0],
        apm_strength=strength,
    )
    return change(
        {**prompt, "load": node("LongreelLoadMemory", file=file), "remember": remember}, "sample", model=["remember", 0]
    )


@pytest.mark.parametrize("remembering", [with_cam, with_apm])
def test_a_trained_memory_changes_the_chunks_after_the_first_by_its_strength(
    server, files, plain, plain_latent, remembering
):
    full, half = (latent(server, remembering(plain, strength=s)) for s in (1.0, 0.5))
    assert torch.equal(full[:, :, :5], plain_latent[:, :, :5])
    assert not torch.equal(full, plain_latent) and not torch.equal(full, half)
    assert torch.equal(latent(server, remembering(plain, strength=0.0)), plain_latent)


def test_another_file_is_another_memory(server, files, plain):
    assert not torch.equal(latent(server, with_cam(plain)), latent(server, with_cam(plain, "other.safetensors")))


def test_the_anchor_of_a_take_is_another_one_for_the_apm(server, files, plain):
    assert not torch.equal(latent(server, with_apm(plain)), latent(server, with_apm(plain, anchor="take")))


def test_the_summary_names_kind_and_family(server, files):
    prompt = {
        "load": node("LongreelLoadMemory", file="cam.safetensors"),
        "show": node("PreviewAny", source=["load", 1]),
    }
    assert "CAM for Wan: 2 of 4 blocks" in server.run(prompt)["show"]["text"][0]


def test_a_damaged_file_is_refused_before_anything_runs(server, files, plain):
    assert any("short.safetensors" in line for line in refusals(server, with_cam(plain, "short.safetensors")))


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        (lambda plain: with_cam(plain, "apm.safetensors"), "this memory is APM, and the node takes CAM"),
        (lambda plain: with_apm(plain, "cam.safetensors"), "this memory is CAM, and the node takes APM"),
        (lambda plain: with_cam(plain, "ltxv.safetensors"), "trained for LTXV and this model is Wan"),
    ],
)
def test_a_memory_that_does_not_fit_is_refused_by_name(server, files, plain, prompt, said):
    with pytest.raises(ComfyError, match=said):
        server.run(prompt(plain))
