"""nodes/latent_blend.py in a running ComfyUI, behind core's samplers, on every family."""

import pytest
import torch

from tests.comfy_process import ComfyError
from tests.nodes.graphs import ALPHA_SPACE, EULER, blended, change, custom, latent, refusals


@pytest.fixture(scope="module")
def base(tiny_models):
    return blended(tiny_models["wan21"])


@pytest.fixture(scope="module")
def base_latent(server, base):
    return latent(server, base)


@pytest.mark.parametrize("name", ["wan21", "ltxv", "hunyuan_video"])
def test_ksampler_and_sampler_custom_advanced_give_the_same_video(server, tiny_models, name):
    tiny = tiny_models[name]
    one, other = latent(server, blended(tiny)), latent(server, custom(tiny, EULER))
    assert one.shape[1] == tiny.latent_channels and one.isfinite().all() and one.std() > 0
    assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["cogvideox10", "cogvideox15"])
def test_cogvideox_samples_in_alpha_space(server, tiny_models, name):
    video = latent(server, custom(tiny_models[name], ALPHA_SPACE))
    assert video.isfinite().all() and video.std() > 0


@pytest.mark.parametrize(
    "inputs",
    [
        {"blend": "randomized"},
        {"blend": "linear"},
        {"blend": "cut"},
        {"segment_latent_frames": 7},
        {"overlap_latent_frames": 1},
        {"transition_prompts": 0},
        {"lead_frame": False},
    ],
)
def test_every_input_changes_the_result(server, base, base_latent, inputs):
    assert not torch.equal(latent(server, change(base, "blend", **inputs)), base_latent)


def test_the_model_and_the_timeline_change_the_result(server, base, base_latent, tiny_models):
    model = change(base, "model", **tiny_models["wan22_14b_high"].prompt_nodes()["model"]["inputs"])
    timeline = change(base, "plan", segment_frames=33)
    assert not torch.equal(latent(server, model), base_latent)
    assert not torch.equal(latent(server, timeline), base_latent)


def test_the_blend_seed_draws_the_cuts_of_the_randomized_blend(server, base):
    one, other, largest = (
        latent(server, change(base, "blend", blend="randomized", blend_seed=seed)) for seed in (0, 1, 2**64 - 1)
    )
    assert not torch.equal(one, other) and not torch.equal(one, largest)


def test_values_that_stand_for_the_plans_own_give_the_same_video(server, base, base_latent):
    explicit = {"segment_latent_frames": 5, "overlap_latent_frames": 2, "transition_prompts": 1}
    assert torch.equal(latent(server, change(base, "blend", **explicit)), base_latent)


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        (
            {"segment_latent_frames": 1},
            "segment_latent_frames is 1, and a segment needs 2 or more; use 0 for the default",
        ),
        (
            {"segment_latent_frames": 5, "overlap_latent_frames": 5},
            "overlap_latent_frames is 5, which does not fit into segment_latent_frames 5; use up to 4, or longer "
            "segments",
        ),
        ({"segment_latent_frames": 1025}, "segment_latent_frames is 1025; use 0 to 1024"),
        ({"overlap_latent_frames": -2}, "overlap_latent_frames is -2; use -1 to 1023"),
        ({"blend": "fade"}, "blend: 'fade' not in ['triangle', 'randomized', 'linear', 'cut']"),
        ({"transition_prompts": 17}, "transition_prompts"),
        ({"blend_seed": -1}, "blend_seed"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(server, base, inputs, reason):
    found = refusals(server, change(base, "blend", **inputs))
    assert found and all(reason in line and "\n" not in line for line in found), found


def test_an_overlap_longer_than_the_plans_segments_is_refused_before_sampling(server, base):
    with pytest.raises(ComfyError, match="an overlap of 6 latent frames does not fit into segments of 5; use 0 to 4"):
        server.run(change(base, "blend", overlap_latent_frames=6))


def test_a_second_latent_blend_is_refused(server, base):
    twice = change({**base, "again": base["blend"]}, "blend", model=["again", 0])
    with pytest.raises(ComfyError, match="already carries a Longreel Latent Blend"):
        server.run(twice)


def test_a_latent_of_another_length_is_refused_with_both_numbers(server, base):
    empty = {
        "class_type": "EmptyHunyuanLatentVideo",
        "inputs": {"width": 64, "height": 64, "length": 9, "batch_size": 1},
    }
    with pytest.raises(
        ComfyError, match="the latent has 3 frames and the timeline 25; wire the latent output of the same"
    ):
        server.run(change({**base, "empty": empty}, "sample", latent_image=["empty", 0]))
