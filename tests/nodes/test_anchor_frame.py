"""nodes/anchor_frame.py in a running ComfyUI: every input matters, every family takes it, bad input is refused."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from longreel.engine.storyboard.board import Anchor, Shot, Storyboard
from tests.comfy_process import ComfyError
from tests.nodes.graphs import (
    ALPHA_SPACE,
    EULER,
    Prompt,
    blended,
    change,
    custom,
    latent,
    node,
    refusals,
    report,
    sampled,
    saved,
)
from tests.tiny_models import MODELS

SHOTS = (Shot("a red circle moves right", 2.0), Shot("a star", 2.0, "cut"))
BOARD = Storyboard(SHOTS, width=64, height=64, negative="blurry")


@pytest.fixture(scope="module", autouse=True)
def pictures(server):
    """red.png of the video's size, wide.png of another, clear.png with alpha."""
    folder = Path(server.base) / "input"
    Image.new("RGB", (64, 64), (200, 30, 20)).save(folder / "red.png")
    Image.linear_gradient("L").convert("RGB").resize((150, 90)).save(folder / "wide.png")
    Image.new("RGBA", (64, 64), (20, 30, 200, 128)).save(folder / "clear.png")


@pytest.fixture(scope="module")
def plain(tiny_models) -> Prompt:
    """Latent Blend and core's KSampler on Wan, without an anchor."""
    return blended(tiny_models["wan21"], BOARD)


def held(prompt: Prompt, picture: str = "image", file: str = "red.png", **inputs) -> Prompt:
    """A prompt of graphs.py with Longreel Anchor Frame behind the loader; dotted names are those of the choice."""
    of_choice = {
        "image": {
            "picture.image": ["picture", 0],
            "picture.vae": ["vae", 0],
            "picture.seconds": 0.0,
            "picture.width": 0,
            "picture.height": 0,
        },
        "latent": {"picture.latent": ["encoded", 0], "picture.seconds": 0.0},
        "storyboard": {"picture.vae": ["vae", 0]},
    }[picture]
    given = {
        "model": ["model", 0],
        "picture": picture,
        **of_choice,
        "mode": "clean",
        "strength": 1.0,
        "timeline": ["plan", 0],
        "fps": 0.0,
        **inputs,
    }
    given = {name: value for name, value in given.items() if value is not None}
    wired = {
        **prompt,
        "picture": node("LoadImage", image=file),
        "encoded": node("VAEEncode", pixels=["picture", 0], vae=["vae", 0]),
        "anchor": node("LongreelAnchorFrame", **given),
        "said": node("PreviewAny", source=["anchor", 1]),
    }
    return change(wired, "blend" if "blend" in prompt else "sample", model=["anchor", 0])


@pytest.fixture(scope="module")
def base_latent(server, plain):
    return latent(server, held(plain))


def test_the_result_holds_the_picture_and_decodes_as_its_own_round_trip(server, plain, base_latent):
    encoded = latent(server, {**held(plain), **saved("encoded")})
    assert torch.equal(base_latent[:, :, :1], encoded) and not torch.equal(base_latent, latent(server, plain))


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize("mode", ["clean", "inpaint", "auto"])
def test_every_family_takes_it_with_cores_samplers_and_with_longreel_sampler(server, tiny_models, name, mode):
    tiny = tiny_models[name]
    if tiny.family == "cogvideox":
        core, ours = custom(tiny, ALPHA_SPACE, BOARD), sampled(tiny, ALPHA_SPACE, BOARD)
    else:
        core, ours = blended(tiny, BOARD), sampled(tiny, EULER, BOARD)
    one, other = (latent(server, held(prompt, mode=mode)) for prompt in (core, ours))
    assert one.isfinite().all() and torch.equal(one, other)
    assert not torch.equal(one, latent(server, core))


def test_strength_0_is_the_video_without_the_node_to_the_bit(server, plain):
    assert torch.equal(latent(server, held(plain, strength=0.0)), latent(server, plain))


@pytest.mark.parametrize(
    "inputs",
    [
        {"file": "wide.png"},
        {"mode": "inpaint"},
        {"strength": 0.5},
        {"picture.seconds": 1.0},
        {"picture.seconds": 1.0, "fps": 8.0},
    ],
    ids=lambda inputs: next(f"{k}={v}" for k, v in reversed(inputs.items())),
)
def test_every_input_changes_the_result(server, plain, base_latent, inputs):
    changed = latent(server, held(plain, **inputs))
    assert changed.isfinite().all() and not torch.equal(changed, base_latent)
    if "fps" in inputs:
        assert not torch.equal(changed, latent(server, held(plain, **{"picture.seconds": 1.0})))


def test_the_model_and_the_vae_change_the_result(server, plain, base_latent, tiny_models):
    other = change(held(plain), "model", **tiny_models["wan22_14b_high"].prompt_nodes()["model"]["inputs"])
    assert not torch.equal(latent(server, other), base_latent)
    with pytest.raises(ComfyError, match="this VAE made a latent of .* wire the model's own VAE"):
        server.run(change(held(plain), "vae", vae_name="tiny_ltxv_vae.safetensors"))


def test_an_image_and_its_latent_are_the_same_anchor(server, plain, base_latent):
    assert torch.equal(latent(server, held(plain, "latent")), base_latent)
    later = latent(server, held(plain, "latent", **{"picture.seconds": 1.0}))
    assert torch.equal(later[:, :, 4], base_latent[:, :, 0])


def test_a_storyboards_anchors_are_those_of_its_shots(server, tiny_models, base_latent):
    board = Storyboard(
        (Shot(SHOTS[0].prompt, 2.0, anchors=(Anchor(0.0, "red.png"),)), SHOTS[1]),
        width=64,
        height=64,
        negative="blurry",
    )
    assert torch.equal(latent(server, held(blended(tiny_models["wan21"], board), "storyboard")), base_latent)
    star = Shot("a star", 2.0, "cut", anchors=(Anchor(0.5, "wide.png"),))
    later = Storyboard((board.shots[0], star), width=64, height=64, negative="blurry")
    two = held(blended(tiny_models["wan21"], later), "storyboard")
    assert not torch.equal(latent(server, two)[:, :, 9:], base_latent[:, :, 9:])
    assert "shot 2, anchor 1 wide.png: 0.5 s of the shot" in report(server, two)


def test_the_report_says_where_the_anchor_stands_and_which_mode_and_why(server, plain, tiny_models):
    def said(prompt):
        return server.run(prompt)["anchor"]["text"][0]

    assert said(held(plain, mode="auto", **{"picture.seconds": 1.0})) == (
        "anchor at 1.000 s = pixel frame 16 = latent frame 4 (pixel frames 13-16); mode inpaint: plain Wan has not "
        "learned a clean frame among noisy ones; clean is for weights trained for anchors; strength 1; experimental: "
        "the method's own place is the first frame"
    )
    known = said(held(blended(tiny_models["wan22_5b"], BOARD), mode="auto"))
    assert "mode clean: Wan 2.2 5B was trained with a time for every frame" in known


def test_without_a_timeline_size_and_frame_rate_are_the_nodes_the_pictures_and_the_familys(server, tiny_models):
    tiny = tiny_models["wan21"]
    core = {
        **tiny.prompt_nodes(),
        "text": node("CLIPTextEncode", clip=["clip", 0], text="a red circle"),
        "empty": node("EmptyHunyuanLatentVideo", width=64, height=64, length=33, batch_size=1),
        "sample": node(
            "KSampler",
            model=["model", 0],
            positive=["text", 0],
            negative=["text", 0],
            latent_image=["empty", 0],
            seed=5,
            steps=2,
            cfg=1.0,
            sampler_name="euler",
            scheduler="simple",
            denoise=1.0,
        ),
        **saved("sample"),
    }
    alone = held(core, timeline=None)
    assert latent(server, alone).isfinite().all()
    at_16, at_8 = (latent(server, held(core, timeline=None, fps=fps, **{"picture.seconds": 1.0})) for fps in (0.0, 8.0))
    assert torch.equal(at_16, latent(server, held(core, timeline=None, fps=16.0, **{"picture.seconds": 1.0})))
    assert not torch.equal(at_16, at_8)
    with pytest.raises(ComfyError, match="is 144 x 96 pixels and the video 64 x 64; wire the timeline into"):
        server.run(held(core, timeline=None, file="wide.png"))
    fitted = latent(server, held(core, timeline=None, file="wide.png", **{"picture.width": 64, "picture.height": 64}))
    assert fitted.isfinite().all()
    with pytest.raises(ComfyError, match="is 96 x 80 pixels and the video 64 x 64; wire the timeline into"):
        server.run(held(core, timeline=None, **{"picture.width": 96, "picture.height": 80}))


def test_width_and_height_win_over_the_timelines(server, plain):
    for name in ("picture.width", "picture.height"):
        with pytest.raises(ComfyError, match="pixels and the video 64 x 64"):
            server.run(held(plain, **{name: 128}))


def test_a_picture_of_another_size_or_with_alpha_is_converted_and_the_log_says_so(server, plain):
    assert latent(server, held(plain, file="wide.png")).isfinite().all()
    assert "the picture of 150 x 90 pixels is cut and scaled to 64 x 64" in server.log
    joined = change(held(plain, file="clear.png"), "anchor", **{"picture.image": ["alpha", 0]})
    alpha = {**joined, "alpha": node("JoinImageWithAlpha", image=["picture", 0], alpha=["picture", 1])}
    assert torch.equal(latent(server, alpha), latent(server, held(plain, file="clear.png")))
    assert "the picture's alpha is left out" in server.log


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        (
            {"picture.seconds": 9.0},
            "9 s is pixel frame 144, beyond a video of 65 pixel frames; use up to pixel frame 64",
        ),
        (
            {"timeline": None, "picture": "storyboard"},
            "stand on a timeline, and none is wired; wire the timeline of Longreel Plan",
        ),
        (
            {"picture": "storyboard"},
            'none of the 2 shots of the storyboard has anchors; write "anchors" in a shot, or choose',
        ),
    ],
)
def test_bad_input_is_refused_before_sampling_with_the_remedy(server, plain, inputs, reason):
    inputs = dict(inputs)
    prompt, seen = held(plain, inputs.pop("picture", "image"), **inputs), []
    with pytest.raises(ComfyError) as error:
        server.run(prompt, listen=lambda kind, data: seen.append(kind))
    assert reason in str(error.value) and "progress" not in seen


def test_two_pictures_or_two_anchors_on_one_latent_frame_are_refused(server, plain):
    twice = change(
        {**held(plain), "two": node("RepeatImageBatch", image=["picture", 0], amount=2)},
        "anchor",
        **{"picture.image": ["two", 0]},
    )
    with pytest.raises(ComfyError, match="the image holds 2 pictures and an anchor shows 1; pick one with Image From"):
        server.run(twice)
    once = held(plain, **{"picture.seconds": 1.0})
    again = change(once, "anchor", model=["anchor2", 0], **{"picture.seconds": 0.9})
    with pytest.raises(ComfyError, match="stand on the same latent frame, 4, which holds 4 pixel frames; move one of"):
        server.run({**again, "anchor2": once["anchor"]})


def test_a_timeline_of_another_family_is_refused(server, plain, tiny_models):
    other = {"other": tiny_models["ltxv"].prompt_nodes()["model"]}
    prompt = change({**held(plain), **other}, "plan", model=["other", 0])
    with pytest.raises(ComfyError, match="the timeline is planned for LTXV and the model is Wan; wire this model into"):
        server.run(prompt)


@pytest.mark.parametrize(
    ("inputs", "name"),
    [
        ({"strength": 1.5}, "strength"),
        ({"mode": "fvg"}, "mode"),
        ({"picture.seconds": -1.0}, "seconds"),
        ({"fps": 500.0}, "fps"),
    ],
)
def test_values_out_of_range_are_refused_before_anything_runs(server, plain, inputs, name):
    found = refusals(server, held(plain, **inputs))
    assert found and all(name in line for line in found), found
