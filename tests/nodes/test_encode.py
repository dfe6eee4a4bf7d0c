"""nodes/encode.py in a running ComfyUI: both inputs and both outputs matter, and shots survive core nodes."""

from dataclasses import replace

import pytest
import torch

from longreel.engine.storyboard.board import Shot, Storyboard
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
