"""nodes/encode.py in a running ComfyUI: both inputs and both outputs matter, and shots survive core nodes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.engine.storyboard.carried import LoRA
from tests.comfy_process import ComfyError
from tests.nodes.graphs import BOARD, EULER, blended, change, latent, node, planned, sampled

BORDER = 17  # the latent frame at which BOARD's third shot begins, after a cut


@pytest.fixture(scope="module")
def base(tiny_models):
    return blended(tiny_models["wan21"])


@pytest.fixture(scope="module")
def base_latent(server, base):
    return latent(server, base)


def with_shot(index: int, **changes) -> str:
    shots = list(BOARD.shots)
    shots[index] = replace(shots[index], **changes)
    return replace(BOARD, shots=tuple(shots)).to_json()


@pytest.mark.parametrize("changes", [{"prompt": "a blue square"}, {"negative": "grainy"}])
def test_a_shots_prompts_change_that_shot_and_nothing_before_its_cut(server, base, base_latent, changes):
    other = latent(server, change(base, "board", text=with_shot(2, **changes)))
    assert torch.equal(other[:, :, :BORDER], base_latent[:, :, :BORDER])
    assert not torch.equal(other[:, :, BORDER:], base_latent[:, :, BORDER:])


def test_the_text_encoder_changes_the_result(server, base, base_latent):
    merged = {**base, "other": base["clip"], "doubled": node("CLIPMergeAdd", clip1=["clip", 0], clip2=["other", 0])}
    assert not torch.equal(latent(server, change(merged, "encode", clip=["doubled", 0])), base_latent)


def test_a_shot_still_has_its_own_prompt_after_core_nodes(server, base, base_latent):
    through = {**base, "range": node("ConditioningSetTimestepRange", conditioning=["encode", 0], start=0.0, end=1.0)}
    assert torch.equal(latent(server, change(through, "sample", positive=["range", 0])), base_latent)


def test_swapping_positive_and_negative_changes_the_result(server, base, base_latent):
    swapped = change(base, "sample", positive=["encode", 1], negative=["encode", 0])
    assert not torch.equal(latent(server, swapped), base_latent)


@pytest.fixture(scope="module")
def loras(server):
    """Files in models/loras of the running ComfyUI: one for the tiny Wan and one for another network."""
    folder = Path(server.base) / "models" / "loras"
    folder.mkdir(parents=True, exist_ok=True)
    for name, place in (("shot_ink", "blocks.0.self_attn.q"), ("shot_stranger", "double_blocks.0.img_mod")):
        half = torch.randn(2, 64, generator=torch.Generator().manual_seed(0))
        halves = {"A": half, "B": half.T.contiguous()}
        weights = {f"diffusion_model.{place}.lora_{side}.weight": one for side, one in halves.items()}
        save_file(weights, folder / f"{name}.safetensors")
    yield folder
    for name in ("shot_ink", "shot_stranger"):
        (folder / f"{name}.safetensors").unlink()


def test_a_lora_changes_its_shot_alone_by_its_strength(server, loras, base, base_latent):
    def of(strength: float) -> torch.Tensor:
        lora = (LoRA("shot_ink.safetensors", strength),)
        return latent(server, change(base, "board", text=with_shot(2, lora=lora)))

    neutral, full, half = of(0.0), of(1.0), of(0.5)
    assert torch.equal(neutral, base_latent) and torch.equal(full[:, :, :BORDER], base_latent[:, :, :BORDER])
    assert not torch.equal(full, neutral) and not torch.equal(full, half)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none", r"shot 3, lora 1: file is 'none.safetensors', no file in the loras folder \(.*\); put it there"),
        ("shot_stranger", "shot 3: lora shot_stranger.safetensors has 2 tensors and changes no weight of this model"),
    ],
)
def test_a_lora_that_does_nothing_is_refused_with_its_shot(server, loras, base, name, said):
    with pytest.raises(ComfyError, match=said):
        server.run(change(base, "board", text=with_shot(2, lora=(LoRA(f"{name}.safetensors"),))))


def test_conditioning_of_fewer_shots_is_refused_by_the_sampler(server, tiny_models):
    prompt = sampled(tiny_models["wan21"], EULER)
    short = planned(tiny_models["wan21"], Storyboard((Shot("a", 2.0),), width=64, height=64))
    prompt |= {
        "board2": short["board"],
        "plan2": change(short, "plan", storyboard=["board2", 0])["plan"],
        "encode2": node("LongreelEncode", clip=["clip", 0], timeline=["plan2", 0]),
    }
    with pytest.raises(
        ComfyError, match="no prompt for shot 2 in a conditioning of 1 entries; wire the output of Longreel"
    ):
        server.run(change(prompt, "sample", positive=["encode2", 0], negative=["encode2", 1]))
