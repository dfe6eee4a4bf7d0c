"""nodes/focus_preview.py in a running ComfyUI: pictures and masks per latent frame, every input matters, bad ones are
refused."""

from dataclasses import replace

import numpy
import pytest
import torch
from PIL import Image

from longreel.engine.storyboard.board import Shot, Storyboard
from tests.comfy_process import ComfyError
from tests.nodes.graphs import ALPHA_SPACE, EULER, change, node, planned, refusals, share
from tests.tiny_models import MODELS

BOARD = Storyboard(
    (Shot("a red circle moves right", 2.0), Shot("a circle moves up", 2.0, "blend")), width=64, height=64
)


def preview(tiny, board=BOARD):
    """The plan's empty latent, looked at; pictures and masks are saved as PNG files."""
    return {
        **planned(tiny, board),
        "sampler": ALPHA_SPACE if tiny.family == "cogvideox" else EULER,
        "look": node(
            "LongreelFocusPreview",
            model=["model", 0],
            timeline=["plan", 0],
            positive=["encode", 0],
            latent=["plan", 1],
            sampler=["sampler", 0],
            words="circle",
            threshold=0.3,
            percent=0.3,
            layers="all",
            seed=0,
        ),
        "pictures": node("PreviewImage", images=["look", 0]),
        "as_image": node("MaskToImage", mask=["look", 1]),
        "masks": node("PreviewImage", images=["as_image", 0]),
    }


def seen(server, prompt) -> tuple[torch.Tensor, torch.Tensor]:
    """-> pictures [F, H, W, 3] and masks [F, rows, columns], in 0..1."""
    outputs = server.run(prompt)

    def stack(name):
        files = [server.base / "temp" / image["subfolder"] / image["filename"] for image in outputs[name]["images"]]
        return torch.stack([torch.from_numpy(numpy.array(Image.open(file).convert("RGB"))) for file in files]) / 255

    return stack("pictures"), stack("masks")[..., 0]


@pytest.fixture(scope="module")
def base(tiny_models):
    return preview(tiny_models["wan21"])


@pytest.fixture(scope="module")
def base_seen(server, base):
    return seen(server, base)


@pytest.mark.parametrize("name", list(MODELS))
def test_every_family_shows_one_picture_and_one_mask_per_latent_frame(server, tiny_models, name):
    tiny = tiny_models[name]
    pictures, masks = seen(server, preview(tiny))
    frames = pictures.shape[0]
    assert pictures.shape[1:] == (64, 64, 3)
    assert masks.shape[0] == frames == 1 + int(4.0 * 16) // tiny.temporal_stride
    assert set(masks.unique().tolist()) == {0.0, 1.0} and masks.flatten(1).any(dim=1).all()


@pytest.mark.parametrize(
    "inputs",
    [{"words": "a"}, {"threshold": 0.7}, {"percent": 0.8}, {"layers": "last 1/6"}, {"seed": 1}],
    ids=lambda inputs: next(iter(inputs)),
)
def test_every_widget_changes_pictures_and_masks(server, base, base_seen, inputs):
    pictures, masks = seen(server, change(base, "look", **inputs))
    assert not torch.equal(pictures, base_seen[0]) and not torch.equal(masks, base_seen[1])


def test_every_socket_changes_the_pictures(server, base, base_seen, tiny_models):
    other_model = tiny_models["wan22_14b_high"].prompt_nodes()["model"]["inputs"]
    filled = node(
        "KSampler",
        model=["model", 0],
        positive=["encode", 0],
        negative=["encode", 1],
        latent_image=["plan", 1],
        seed=5,
        steps=1,
        cfg=1.0,
        sampler_name="euler",
        scheduler="simple",
        denoise=1.0,
    )
    other_text = replace(BOARD, shots=(Shot("a circle stays", 2.0), BOARD.shots[1]))
    prompts = {
        "model": change(base, "model", **other_model),
        "timeline": change(base, "plan", segment_frames=33),
        "positive": change(base, "board", text=other_text.to_json()),
        "latent": change({**base, "filled": filled}, "look", latent=["filled", 0]),
        "images": change(
            {**base, "video": node("VAEDecode", samples=["plan", 1], vae=["vae", 0])}, "look", images=["video", 0]
        ),
    }
    for socket, prompt in prompts.items():
        assert not torch.equal(seen(server, prompt)[0], base_seen[0]), socket


def test_the_sampler_says_how_noise_is_added(server, tiny_models):
    """CogVideoX wants its latent in alpha space."""
    base = preview(tiny_models["cogvideox10"])
    assert not torch.equal(seen(server, base)[0], seen(server, {**base, "sampler": EULER})[0])


def test_the_decoded_video_is_shown_and_leaves_the_masks_as_they_are(server, base, base_seen):
    white = node("EmptyImage", width=64, height=64, batch_size=65, color=0xFFFFFF)
    pictures, masks = seen(server, change({**base, "white": white}, "look", images=["white", 0]))
    assert torch.equal(masks, base_seen[1])
    assert torch.equal(pictures[..., 0], pictures[..., 2]) and pictures.min() >= 0.34  # grey: white, dimmed
    assert not torch.equal(base_seen[0][..., 0], base_seen[0][..., 2])  # heat


def test_a_shots_focus_words_go_before_the_nodes(server, base, base_seen, tiny_models):
    focused = replace(BOARD, shots=tuple(replace(shot, focus=("circle",)) for shot in BOARD.shots))
    pictures, masks = seen(server, change(preview(tiny_models["wan21"], focused), "look", words="a"))
    assert torch.equal(pictures, base_seen[0]) and torch.equal(masks, base_seen[1])


def test_a_model_that_carries_kv_share_shows_its_masks_as_they_are_while_sharing(server, base):
    noise = change(base, "look", percent=0.0)
    without, _ = seen(server, noise)
    pictures, _ = seen(server, change({**noise, "share": share()}, "look", model=["share", 0]))
    assert pictures.shape == without.shape and not torch.equal(pictures, without)


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({"words": ""}, "shot 1 has no words to look for; name words of its prompt in the node, or as its"),
        (
            {"words": "circel"},
            'shot 1: "circel" is not among the 5 words of the prompt; use words of a, red, circle, moves, right '
            '(nearest: "circle")',
        ),
        ({"words": "red"}, 'shot 2: "red" is not among the 4 words of the prompt; use words of a, circle, moves, up'),
        ({"layers": "4"}, 'layers "4": 4 is not in the network\'s 4 blocks; use 0 to 3'),
    ],
)
def test_bad_input_is_refused_with_the_remedy(server, base, inputs, reason):
    with pytest.raises(ComfyError) as error:
        server.run(change(base, "look", **inputs))
    assert reason in str(error.value)


@pytest.mark.parametrize(
    ("inputs", "name"), [({"threshold": -0.1}, "threshold"), ({"percent": 1.0}, "percent"), ({"seed": -1}, "seed")]
)
def test_values_out_of_range_are_refused_before_anything_runs(server, base, inputs, name):
    found = refusals(server, change(base, "look", **inputs))
    assert found and all(name in line for line in found), found


def test_a_video_of_another_length_is_refused(server, base):
    short = change(
        {**base, "white": node("EmptyImage", width=64, height=64, batch_size=9, color=0)}, "look", images=["white", 0]
    )
    with pytest.raises(ComfyError, match="images has 9 frames and the timeline 65; wire the decoded"):
        server.run(short)


def test_a_latent_of_another_length_is_refused(server, base):
    empty = node("EmptyHunyuanLatentVideo", width=64, height=64, length=9, batch_size=1)
    with pytest.raises(ComfyError, match="the latent has 3 frames and the timeline 17"):
        server.run(change({**base, "empty": empty}, "look", latent=["empty", 0]))


def test_a_model_with_latent_blend_is_refused(server, base):
    blend = node(
        "LongreelLatentBlend",
        model=["model", 0],
        timeline=["plan", 0],
        blend="triangle",
        blend_seed=0,
        segment_latent_frames=0,
        overlap_latent_frames=-1,
        transition_prompts=-1,
        lead_frame=True,
    )
    with pytest.raises(ComfyError, match="already carries a Longreel Latent Blend"):
        server.run(change({**base, "blend": blend}, "look", model=["blend", 0]))
