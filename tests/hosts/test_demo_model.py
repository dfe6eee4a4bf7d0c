"""The demo model is three ordinary ComfyUI objects, and what its text encoder does not understand is said aloud."""

import logging
import shutil

import numpy as np
import pytest
import torch

import comfy.latent_formats
import comfy.sd
import folder_paths
import latent_preview
import nodes as core

from longreel.demo import fit_preview, text_encoder, world
from longreel.demo.detector import read_clip
from longreel.hosts import demo_model


@pytest.fixture(scope="module")
def loaded():
    with torch.inference_mode():
        return demo_model.load_demo_model()


def encode(clip, text: str) -> torch.Tensor:
    with torch.inference_mode():
        return core.CLIPTextEncode().encode(clip, text)[0][0][0]


def sample(model, clip, vae, text: str, seed: int, latent_frames: int) -> torch.Tensor:
    with torch.inference_mode():
        positive, negative = (core.CLIPTextEncode().encode(clip, t)[0] for t in (text, ""))
        latent = {"samples": torch.zeros(1, 16, latent_frames, 8, 8)}
        latent = core.KSampler().sample(model, seed, 16, 4.0, "euler", "simple", positive, negative, latent)[0]
        return core.VAEDecode().decode(vae, latent)[0].reshape(-1, 64, 64, 3)


def test_core_nodes_take_it_for_a_wan_model(loaded):
    model, clip, vae = loaded
    assert type(model.model).__name__ == "WAN21"
    assert isinstance(clip, comfy.sd.CLIP)
    assert vae.latent_channels == 16
    assert encode(clip, "a red circle").shape == (1, text_encoder.TOKENS, text_encoder.WIDTH)


@pytest.mark.parametrize("latent_frames, pixel_frames", [(1, 1), (5, 17), (6, 21)])
def test_prompts_give_what_they_name(loaded, latent_frames, pixel_frames):
    video = sample(*loaded, "a blue circle stays still on a white background", 3, latent_frames)
    assert video.shape == (pixel_frames, 64, 64, 3)
    reading = read_clip(video)
    assert (reading.background, reading.color) == ("white", "blue")


def preview_error(latent_format, latent: torch.Tensor, video: torch.Tensor) -> float:
    """How far, of 255 and in the root mean square, core's previews of all latent frames are from the pictures."""
    previewer = latent_preview.Latent2RGBPreviewer(
        latent_format.latent_rgb_factors,
        latent_format.latent_rgb_factors_bias,
        latent_format.latent_rgb_factors_reshape,
    )
    frames = latent_format.process_in(latent).split(1, dim=2)
    shown = torch.stack([torch.tensor(np.array(previewer.decode_latent_to_preview(frame))) for frame in frames])
    expected = (fit_preview.points(video) + 1) * 127.5
    return float((shown.reshape(-1, 3) - expected).square().mean().sqrt())


def test_previews_have_the_colours_of_its_pictures(loaded):
    """Frames at 64 x 64 are previewed with 8 x 8 points, each a colour."""
    model, _, vae = loaded
    wan = comfy.latent_formats.Wan21()
    own, others = [], []
    for video in fit_preview.clips_for(vae.first_stage_model, 1, 6).split(1):
        with torch.inference_mode():
            latent = vae.encode((video[0].movedim(0, -1) + 1) / 2)
        own.append(preview_error(model.model.latent_format, latent, video))
        others.append(preview_error(wan, latent, video))
    assert np.mean(own) < 50 < 80 < np.mean(others), (own, others)
    assert type(model.model.latent_format) is comfy.latent_formats.Wan21


def test_core_loaders_load_the_same_files_to_the_same_frames(loaded, tmp_path, monkeypatch):
    for kind, file in (("diffusion_models", demo_model.MODEL_FILE), ("vae", demo_model.VAE_FILE)):
        shutil.copy(demo_model.WEIGHTS / file, tmp_path / file)
        monkeypatch.setitem(folder_paths.folder_names_and_paths, kind, ([str(tmp_path)], {".safetensors"}))
        monkeypatch.delitem(folder_paths.filename_list_cache, kind, raising=False)
    with torch.inference_mode():
        model = core.UNETLoader().load_unet(demo_model.MODEL_FILE, "default")[0]
        vae = core.VAELoader().load_vae(demo_model.VAE_FILE)[0]
    text = "a red star moves left on a gray background"
    assert torch.equal(sample(model, loaded[1], vae, text, 1, 2), sample(*loaded, text, 1, 2))


@pytest.mark.parametrize("file", [demo_model.MODEL_FILE, demo_model.VAE_FILE, demo_model.TEXT_FILE])
def test_a_missing_file_is_named_with_its_folder(tmp_path, file):
    for name in (demo_model.MODEL_FILE, demo_model.VAE_FILE, demo_model.TEXT_FILE):
        if name != file:
            shutil.copy(demo_model.WEIGHTS / name, tmp_path / name)
    with pytest.raises(FileNotFoundError, match=file) as error:
        demo_model.load_demo_model(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_another_text_encoder_is_refused(tmp_path):
    shutil.copy(demo_model.WEIGHTS / demo_model.VAE_FILE, tmp_path / demo_model.TEXT_FILE)
    with pytest.raises(ValueError, match="is not the demo model's text encoder"):
        demo_model.load_demo_clip(tmp_path / demo_model.TEXT_FILE)


def test_unknown_words_are_reported_with_the_nearest_known_word(loaded, caplog):
    with caplog.at_level(logging.WARNING):
        strange = encode(loaded[1], "a redd circle xylophone")
    assert '"redd"' in caplog.text and '"red"' in caplog.text and '"xylophone"' in caplog.text
    assert torch.equal(strange, encode(loaded[1], "a circle"))


def test_known_words_are_not_reported(loaded, caplog):
    with caplog.at_level(logging.WARNING):
        for scene in (world.Scene("star", "red", "teal", m) for m in world.MOTIONS):
            encode(loaded[1], world.prompt(scene, ("size", "color", "shape", "motion", "background")))
    assert caplog.text == ""


def test_words_beyond_the_limit_are_reported(loaded, caplog):
    with caplog.at_level(logging.WARNING):
        encode(loaded[1], "a " * text_encoder.TOKENS + "red circle")
    assert "left out: red circle" in caplog.text


def test_a_word_weight_moves_that_word_away_from_the_empty_prompt(loaded):
    plain, heavy, empty = (encode(loaded[1], t) for t in ("a red circle", "a (red:1.5) circle", ""))
    assert torch.allclose(heavy[0, 1] - empty[0, 1], 1.5 * (plain[0, 1] - empty[0, 1]), atol=1e-5)
    assert torch.equal(heavy[0, ::2], plain[0, ::2])
    assert torch.equal(encode(loaded[1], "a (red:1.0) circle"), plain)


def test_escaped_brackets_are_no_weight(loaded):
    assert torch.equal(encode(loaded[1], r"a \(red\) circle"), encode(loaded[1], "a red circle"))


def test_tokens_can_be_read_back(loaded):
    clip = loaded[1]
    tokens = clip.tokenize("a (red:1.2) circle", return_word_ids=True)["shapeworld"][0]
    assert tokens[1][1:] == (1.2, 1)
    assert [word for _, word in clip.tokenizer.untokenize(tokens)][:3] == ["a", "red", "circle"]
    assert clip.decode([pair[0] for pair in tokens]) == "a red circle"


def test_a_cloned_clip_encodes_the_same(loaded):
    assert torch.equal(encode(loaded[1].clone(), "a red circle"), encode(loaded[1], "a red circle"))
