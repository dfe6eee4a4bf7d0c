"""nodes/refine.py in a running ComfyUI: every input matters, progress arrives, an interrupt is quick."""

import struct
import time

import pytest
import torch

from tests.comfy_process import ComfyError
from tests.nodes.graphs import ALPHA_SPACE, EULER, change, latent, node, planned, refined, refusals

BLENDS = ("x0", "step")
TEXT = 3  # protocol.BinaryEventTypes


@pytest.fixture(scope="module")
def base(tiny_models):
    return refined(tiny_models["wan21"], EULER)


@pytest.fixture(scope="module")
def base_latent(server, base):
    return latent(server, base)


def steps(prompt):
    return change(prompt, "refine", blend="step")


def with_shots(tiny):
    """The video of a storyboard of 25 latent frames, refined with a prompt per shot."""
    prompt = {**refined(tiny, EULER), **planned(tiny)}
    return change(
        change(prompt, "empty", length=97),
        "refine",
        positive=["encode", 0],
        negative=["encode", 1],
        timeline=["plan", 0],
    )


@pytest.mark.parametrize("blend", BLENDS)
def test_one_chunk_is_cores_sampler_custom_with_split_sigmas(server, base, blend):
    ours = change(base, "refine", chunk_latent_frames=12, blend=blend)
    split = node("SplitSigmasDenoise", sigmas=["sigmas", 0], denoise=0.5)
    core = node(
        "SamplerCustom",
        model=["model", 0],
        add_noise=True,
        noise_seed=5,
        cfg=3.0,
        positive=["positive", 0],
        negative=["negative", 0],
        sampler=["sampler", 0],
        sigmas=["split", 1],
        latent_image=["video", 0],
    )
    assert torch.equal(latent(server, ours), latent(server, {**base, "split": split, "refine": core}))


def test_strength_zero_gives_the_video_back(server, base):
    untouched = change(base, "save", samples=["video", 0])
    assert torch.equal(latent(server, change(base, "refine", strength=0.0)), latent(server, untouched))


def test_sigmas_that_are_cut_already_run_as_they_are_at_strength_one(server, base, base_latent):
    split = node("SplitSigmasDenoise", sigmas=["sigmas", 0], denoise=0.5)
    cut = change({**base, "split": split}, "refine", sigmas=["split", 1], strength=1.0)
    assert torch.equal(latent(server, cut), base_latent)


@pytest.mark.parametrize("blend", BLENDS)
@pytest.mark.parametrize("name", ["cogvideox10", "cogvideox15"])
def test_cogvideox_is_refined_in_alpha_space(server, tiny_models, name, blend):
    prompt = refined(tiny_models[name], ALPHA_SPACE)
    video = latent(server, change(change(prompt, "refine", blend=blend), "video", sampler_name="euler"))
    assert video.isfinite().all() and video.std() > 0


@pytest.mark.parametrize(
    "inputs",
    [
        {"strength": 0.75},
        {"seed": 6},
        {"seed": 2**64 - 1},
        {"cfg": 1.0},
        {"chunk_latent_frames": 6},
        {"chunk_latent_frames": 0},
        {"overlap_latent_frames": 1},
        {"overlap_latent_frames": 0},
        {"cut_range": "code"},
        {"lead_frame": False},
    ],
)
def test_every_widget_changes_the_result(server, base, base_latent, inputs):
    assert not torch.equal(latent(server, change(base, "refine", **inputs)), base_latent)


def test_the_blend_changes_the_result_of_a_solver_that_asks_twice(server, base):
    heun = change(base, "sampler", sampler_name="heun")
    assert not torch.allclose(latent(server, heun), latent(server, steps(heun)), atol=1e-2)


def test_every_socket_changes_the_result(server, base, base_latent, tiny_models):
    prompts = {
        "model": change(base, "model", **tiny_models["wan22_14b_high"].prompt_nodes()["model"]["inputs"]),
        "latent": change(base, "video", seed=6),
        "positive": change(base, "refine", positive=["negative", 0]),
        "negative": change(base, "refine", negative=["positive", 0]),
        "sampler": change(base, "sampler", sampler_name="heun"),
        "sigmas": change(base, "sigmas", steps=6),
    }
    for socket, prompt in prompts.items():
        assert not torch.equal(latent(server, prompt), base_latent), socket


@pytest.mark.parametrize("blend", BLENDS)
def test_a_timeline_gives_every_shot_its_prompt(server, tiny_models, blend):
    prompt = change(with_shots(tiny_models["wan21"]), "refine", blend=blend)
    one = change(prompt, "refine", positive=["positive", 0], negative=["negative", 0])
    assert not torch.allclose(latent(server, prompt), latent(server, one), atol=1e-2)


def test_a_noise_mask_is_honoured(server, base):
    mask = {
        "mask": node("SolidMask", value=0.0, width=64, height=64),
        "masked": node("SetLatentNoiseMask", samples=["video", 0], mask=["mask", 0]),
    }
    kept = latent(server, change({**base, **mask}, "refine", latent=["masked", 0]))
    torch.testing.assert_close(kept, latent(server, change(base, "save", samples=["video", 0])), atol=1e-4, rtol=1e-4)


def test_an_upscaled_latent_keeps_its_size(server, base):
    larger = node("LatentUpscaleBy", samples=["video", 0], upscale_method="bilinear", scale_by=1.5)
    out = latent(server, change({**base, "larger": larger}, "refine", latent=["larger", 0]))
    assert out.shape[-2:] == (12, 12) and out.isfinite().all()


@pytest.mark.parametrize("blend", BLENDS)
def test_the_text_chunk_of_chunks_and_step_of_steps_arrives(server, base, blend):
    texts = []

    def listen(kind, data):
        if kind == "preview" and struct.unpack(">I", data[:4])[0] == TEXT:
            length = struct.unpack(">I", data[4:8])[0]
            assert data[8 : 8 + length].decode() == "refine"
            texts.append(data[8 + length :].decode())

    server.run(change(change(base, "sigmas", steps=80), "refine", seed=100, blend=blend), listen=listen)
    chunks = [text for text in texts if text.startswith("chunk ")]
    numbers = {tuple(part.split(" ")[1].split("/")) for text in chunks for part in text.split(", ")[:1]}
    assert {total for _, total in numbers} == {"4"} and len(numbers) > 1, texts  # 12 latent frames: 0, 3, 6 and 7
    assert all(text.split(", ")[1].endswith("/40") for text in chunks), texts


@pytest.mark.parametrize("blend", BLENDS)
def test_an_interrupt_ends_the_run_quickly_and_the_next_prompt_runs(server, base, blend):
    asked = []

    def interrupt_at_the_second_step(kind, data):
        if kind == "progress" and data["value"] == 2 and data["node"] == "refine" and not asked:
            asked.append(time.monotonic())
            server.interrupt()

    long = change(change(base, "sigmas", steps=4000), "refine", seed=101, blend=blend)
    with pytest.raises(ComfyError, match=r"interrupted in LongreelRefine \(node refine\)"):
        server.run(long, listen=interrupt_at_the_second_step)
    assert time.monotonic() - asked[0] < 10  # 2000 steps take minutes
    assert latent(server, change(base, "refine", seed=102, blend=blend)).isfinite().all()


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        (
            {"chunk_latent_frames": 1},
            "chunk_latent_frames is 1, and a chunk needs 2 or more; use 0 for the model's own clip",
        ),
        (
            {"overlap_latent_frames": 5},
            "overlap_latent_frames is 5, which does not fit into chunk_latent_frames 5; use up to 4, or longer chunks",
        ),
        ({"chunk_latent_frames": 1025}, "chunk_latent_frames is 1025; use 0 to 1024"),
        ({"overlap_latent_frames": -2}, "overlap_latent_frames is -2; use -1 to 1023"),
        ({"blend": "x1"}, "blend: 'x1' not in ['x0', 'step']"),
        ({"cut_range": "wide"}, "cut_range: 'wide' not in ['paper', 'code']"),
        ({"strength": 1.5}, "strength"),
        ({"seed": -1}, "seed"),
        ({"cfg": 101.0}, "cfg"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(server, base, inputs, reason):
    found = refusals(server, change(base, "refine", **inputs))
    assert found and all(reason in line and "\n" not in line for line in found), found


def test_step_refuses_a_sampler_that_looks_back_before_it_samples(server, base):
    with pytest.raises(ComfyError, match="dpmpp_2m is not known to begin each step anew"):
        server.run(steps(change(base, "sampler", sampler_name="dpmpp_2m")))


def test_prompts_of_shots_without_their_timeline_are_refused(server, tiny_models):
    prompt = with_shots(tiny_models["wan21"])
    del prompt["refine"]["inputs"]["timeline"]
    with pytest.raises(
        ComfyError, match="the conditioning has prompts of 3 shots, and no timeline says where they are"
    ):
        server.run(prompt)
