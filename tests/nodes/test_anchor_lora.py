"""nodes/anchor_lora.py in a running ComfyUI: files are found, checked before anything is loaded, and every input
matters."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.comfy_process import ComfyError
from tests.nodes.graphs import EULER, change, latent, node, refusals, sampled

RANK, WIDTH = 2, 64
BUNDLED = "demo model's anchor LoRA (comes with Longreel)"


def lora(seed: int, *layers: str) -> dict[str, torch.Tensor]:
    """Under diffusers' names, for layers of the tiny Wan."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for layer in layers:
        weights[f"transformer.{layer}.lora_A.weight"] = torch.randn(RANK, WIDTH, generator=generator)
        weights[f"transformer.{layer}.lora_B.weight"] = torch.randn(WIDTH, RANK, generator=generator) * 0.2
    return weights


@pytest.fixture(scope="module")
def files(server):
    """models/loras of the running ComfyUI."""
    folder = Path(server.base) / "models" / "loras"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(lora(0, "blocks.0.attn1.to_q", "blocks.1.attn2.to_v"), folder / "anchor.safetensors")
    save_file(lora(1, "blocks.0.attn1.to_q", "blocks.1.attn2.to_v"), folder / "another.safetensors")
    save_file(lora(0, "blocks.0.attn1.to_q", "blocks.90.attn1.to_q"), folder / "partial.safetensors")
    save_file(lora(0, "double_blocks.0.img_mod"), folder / "stranger.safetensors")
    (folder / "cut.safetensors").write_bytes((folder / "anchor.safetensors").read_bytes()[:60])
    yield folder
    for name in ("anchor", "another", "partial", "stranger", "cut"):
        (folder / f"{name}.safetensors").unlink()


@pytest.fixture(scope="module")
def plain(tiny_models):
    return sampled(tiny_models["wan21"], EULER)


@pytest.fixture(scope="module")
def plain_latent(server, plain):
    return latent(server, plain)


def with_lora(prompt, file="anchor.safetensors", **inputs):
    given = {"strength": 1.0, "alpha": 0.0, "allow_partial": False, **inputs}
    load = node("LongreelLoadAnchorLoRA", model=["model", 0], file=file, **given)
    return change({**prompt, "load": load}, "sample", model=["load", 0])


def test_a_lora_changes_the_video_by_its_strength(server, files, plain, plain_latent):
    full, half = (latent(server, with_lora(plain, strength=strength)) for strength in (1.0, 0.5))
    assert not torch.equal(full, plain_latent) and not torch.equal(full, half)
    assert torch.equal(latent(server, with_lora(plain, strength=0.0)), plain_latent)


def test_another_file_and_another_alpha_are_another_lora(server, files, plain):
    first = latent(server, with_lora(plain))
    assert not torch.equal(first, latent(server, with_lora(plain, "another.safetensors")))
    assert not torch.equal(first, latent(server, with_lora(plain, alpha=1.0)))
    assert torch.equal(first, latent(server, with_lora(plain, alpha=float(RANK))))


def test_a_file_that_fits_in_part_is_loaded_only_where_that_is_allowed(server, files, plain, plain_latent):
    with pytest.raises(ComfyError, match="2 of 4 tensors fit this Wan model and 2 do not"):
        server.run(with_lora(plain, "partial.safetensors"))
    assert not torch.equal(latent(server, with_lora(plain, "partial.safetensors", allow_partial=True)), plain_latent)


def test_a_file_of_another_model_is_refused(server, files, plain):
    with pytest.raises(ComfyError, match="stranger.safetensors: none of the 2 tensors fits"):
        server.run(with_lora(plain, "stranger.safetensors"))


def test_a_damaged_file_is_refused_before_anything_is_loaded(server, files, plain):
    assert any(
        "cut.safetensors: the file has 60 bytes and its header speaks of " in line
        for line in refusals(server, with_lora(plain, "cut.safetensors"))
    )


def test_the_bundled_lora_is_offered_and_fits_the_demo_model(server, plain, tiny_models):
    demo = {**plain, "demo": node("LongreelDemoModel")}
    for name in ("plan", "encode"):
        demo = change(demo, name, **({"model": ["demo", 0]} if name == "plan" else {"clip": ["demo", 1]}))
    bare = change(demo, "sample", model=["demo", 0])
    bare = change(bare, "sigmas", model=["demo", 0])
    load = node("LongreelLoadAnchorLoRA", model=["demo", 0], file=BUNDLED, strength=1.0, alpha=0.0, allow_partial=False)
    adapted = change({**bare, "load": load}, "sample", model=["load", 0])
    assert not torch.equal(latent(server, bare), latent(server, adapted))
