"""nodes/sampler.py in a running ComfyUI: every input matters, previews and progress arrive, an interrupt is quick."""

import struct
import time
from dataclasses import replace

import pytest
import torch

from longreel.engine.sampling.latent_blend import BLENDS
from tests.comfy_process import ComfyError
from tests.nodes.graphs import ALPHA_SPACE, BOARD, EULER, blended, change, custom, latent, node, refusals, sampled

PREVIEWS, TEXT = (1, 4), 3  # protocol.BinaryEventTypes


@pytest.fixture(scope="module")
def base(tiny_models):
    return sampled(tiny_models["wan21"], EULER)


@pytest.fixture(scope="module")
def base_latent(server, base):
    return latent(server, base)


@pytest.mark.parametrize("name", ["wan21", "ltxv", "hunyuan_video", "wan22_5b"])
def test_it_equals_latent_blend_and_ksampler_with_the_same_seeds(server, tiny_models, name):
    tiny = tiny_models[name]
    by_hand = change(blended(tiny), "blend", blend="randomized", blend_seed=5)
    ours = change(sampled(tiny, EULER), "sample", blend="randomized")
    assert torch.equal(latent(server, ours), latent(server, by_hand))


def test_it_samples_cogvideox_in_alpha_space_as_core_does_with_latent_blend(server, tiny_models):
    tiny = tiny_models["cogvideox10"]
    assert torch.equal(latent(server, sampled(tiny, ALPHA_SPACE)), latent(server, custom(tiny, ALPHA_SPACE)))


@pytest.mark.parametrize("inputs", [{"seed": 6}, {"cfg": 1.0}, *({"blend": blend} for blend in BLENDS[1:])])
def test_every_widget_changes_the_result(server, base, base_latent, inputs):
    assert not torch.equal(latent(server, change(base, "sample", **inputs)), base_latent)


def test_every_socket_changes_the_result(server, base, base_latent, tiny_models):
    other_model = tiny_models["wan22_14b_high"].prompt_nodes()["model"]["inputs"]
    prompts = {
        "model": change(base, "model", **other_model),
        "timeline": change(base, "plan", segment_frames=33),
        "positive": change(base, "sample", positive=["encode", 1]),
        "negative": change(base, "sample", negative=["encode", 0]),
        "sampler": change(base, "sampler", sampler_name="heun"),
        "sigmas": change(base, "sigmas", steps=3),
    }
    for socket, prompt in prompts.items():
        assert not torch.equal(latent(server, prompt), base_latent), socket


def test_a_latent_to_start_from_changes_the_result(server, base):
    half = change(base, "sigmas", denoise=0.5)
    again = {**half, "first": base["sample"], "full": base["sigmas"]}
    again["first"] = {**base["sample"], "inputs": {**base["sample"]["inputs"], "sigmas": ["full", 0]}}
    again = change(again, "sample", latent=["first", 0])
    assert not torch.equal(latent(server, again), latent(server, half))


def test_without_added_noise_the_latent_is_taken_as_it_is(server, base, base_latent):
    quiet = latent(server, change(base, "sample", add_noise=False))
    other_seed = latent(server, change(base, "sample", add_noise=False, seed=6))
    assert not torch.equal(quiet, base_latent)
    assert torch.equal(quiet, other_seed)  # nothing is drawn


def test_a_shots_seed_holds_its_noise_whatever_the_samplers_seed(server, base):
    def board(seed):
        return replace(BOARD, shots=(*BOARD.shots[:2], replace(BOARD.shots[2], seed=seed))).to_json()

    seeded = change(base, "board", text=board(11))
    one, other = latent(server, seeded), latent(server, change(seeded, "sample", seed=6))
    assert torch.equal(one[:, :, 17:], other[:, :, 17:]) and not torch.equal(one[:, :, :17], other[:, :, :17])
    assert not torch.equal(one[:, :, 17:], latent(server, change(base, "board", text=board(12)))[:, :, 17:])


def test_previews_and_the_text_shot_of_shots_arrive_while_sampling(server, base):
    kinds, texts = [], []

    def listen(kind, data):
        if kind != "preview":
            return
        number = struct.unpack(">I", data[:4])[0]
        kinds.append(number)
        if number == TEXT:
            length = struct.unpack(">I", data[4:8])[0]
            assert data[8 : 8 + length].decode() == "sample"
            texts.append(data[8 + length :].decode())

    server.run(change(change(base, "sigmas", steps=30), "sample", seed=100), listen=listen)
    assert sum(kind in PREVIEWS for kind in kinds) >= 5
    heard = {text.split(",")[0] for text in texts}
    assert {"shot 1/3", "shot 2/3", "shot 3/3"} <= heard, texts


def test_an_interrupt_ends_the_run_quickly_and_the_next_prompt_runs(server, base, base_latent):
    asked = []

    def interrupt_at_the_second_step(kind, data):
        if kind == "progress" and data["value"] == 2 and not asked:
            asked.append(time.monotonic())
            server.interrupt()

    with pytest.raises(ComfyError, match=r"interrupted in LongreelSampler \(node sample\)"):
        server.run(change(change(base, "sigmas", steps=2000), "sample", seed=101), listen=interrupt_at_the_second_step)
    assert time.monotonic() - asked[0] < 10  # 2000 steps take minutes
    assert latent(server, change(base, "sample", seed=102)).shape == base_latent.shape
    assert torch.equal(latent(server, change(base, "save", filename_prefix="after")), base_latent)


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({"blend": "fade"}, "blend: 'fade' not in ['triangle', 'randomized', 'linear', 'cut']"),
        ({"seed": -1}, "seed"),
        ({"cfg": 101.0}, "cfg"),
        ({"latent": None}, "latent"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(server, base, inputs, reason):
    prompt = change(base, "sample", **inputs)
    prompt["sample"]["inputs"] = {k: v for k, v in prompt["sample"]["inputs"].items() if v is not None}
    found = refusals(server, prompt)
    assert found and all(reason in line for line in found), found


def test_a_storyboard_of_another_length_than_the_latent_is_refused(server, base):
    empty = node("EmptyHunyuanLatentVideo", width=64, height=64, length=9, batch_size=1)
    with pytest.raises(ComfyError, match="the latent has 3 frames and the timeline 25"):
        server.run(change({**base, "empty": empty}, "sample", latent=["empty", 0]))
