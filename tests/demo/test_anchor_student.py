"""demo/anchor_student.py: the clips that the anchor LoRA learned from, as the trainer reads them."""

import random

import pytest
import torch
from safetensors.torch import save_file

from longreel.demo import anchor_student, dit_net, encode_anchors, pair_world, text_encoder, twin, vae_net, world
from longreel.demo.anchor_student import EncodedClips, TwinStudent, build

LATER = 2


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """What encode_anchors.py writes, of three clips."""
    vae = twin.vae()
    scenes = [
        pair_world.random_pair(random.Random(1)),
        world.random_scene(random.Random(2)),
        pair_world.random_pair(random.Random(3)),
    ]
    video = torch.stack([encode_anchors.render(scene) for scene in scenes])
    with torch.no_grad():
        made = {
            "latents": encode_anchors.encode_frames(vae, video),
            "pictures": encode_anchors.encode_frames(vae, video[:, 5:6]),
            "picture_at": [LATER, 5, LATER],
            "scenes": scenes,
            "latent_frames": [5, 6, 6],
        }
    path = tmp_path_factory.mktemp("clips") / "anchors.pt"
    torch.save(made, path)
    return path, made


def test_clips_have_five_latent_frames_of_unit_scale_and_a_prompt(file):
    clips = EncodedClips([file[0]])
    assert clips.latent(0).shape == (16, 5, 8, 8) and 0.3 < clips.latent(0).std() < 2
    assert clips.conditioning(0, False)["text"].shape == (1, 20, 64)
    assert not torch.equal(clips.conditioning(0, False)["text"], clips.conditioning(0, True)["text"])


def test_a_picture_beyond_the_clip_is_not_offered(file):
    clips = EncodedClips([file[0]])
    frame, latent = clips.still(0)
    assert frame == LATER and torch.equal(latent, file[1]["pictures"][0, :, 0].float())
    assert clips.still(1) is None


def test_the_first_clips_are_held_out(file, monkeypatch):
    monkeypatch.setattr(anchor_student, "HELD_OUT", 1)
    clips = EncodedClips([file[0]])
    assert clips.held_out == [0] and clips.trained == [1, 2]


def test_a_clean_frame_at_time_zero_changes_what_the_twin_says():
    student = TwinStudent()
    torch.manual_seed(0)
    noised, text = torch.randn(1, 16, 5, 8, 8), {"text": torch.randn(1, 1, 20, 64)}
    with torch.no_grad():
        said = [
            student.predict(noised, torch.tensor([0.9]), text, is_anchor)
            for is_anchor in (torch.zeros(1, 5), torch.tensor([[1.0, 0, 0, 0, 0]]))
        ]
    assert not torch.allclose(*said, atol=1e-2)


@pytest.mark.parametrize("settings", [{}, {"latents": "x", "laters": "y"}])
def test_unknown_and_missing_settings_are_refused(settings):
    with pytest.raises(ValueError, match="; write latents, "):
        build(settings)


def test_a_model_of_the_picture_book_learns_from_its_own_pages(tmp_path, monkeypatch):
    encoder = text_encoder.TextEncoder(text_encoder.BOOK_ROWS, text_encoder.BOOK_WIDTH)
    both = {"dit": dit_net.DiT(32, 48, 1, 1, text_encoder.BOOK_WIDTH), "text": encoder}
    twin.write(tmp_path, torch.nn.ModuleDict(both).state_dict(), heads=1)
    save_file(vae_net.VAE(4).state_dict(), tmp_path / twin.VAE)
    monkeypatch.setattr(vae_net, "compile_norms", lambda: None)
    monkeypatch.setattr(encode_anchors, "BATCH", 4)
    file = tmp_path / "anchors.pt"
    monkeypatch.setattr("sys.argv", ["encode_anchors", str(file), "--clips", "4", "--weights", str(tmp_path)])
    encode_anchors.main()
    student, clips = build({"latents": str(file), "weights": str(tmp_path)})
    assert clips.latent(0).shape == (16, 5, 12, 12)  # pages of 96 pixels
    assert student.network.width == 32
    rng = random.Random(0)
    pages = torch.load(file, weights_only=False)["scenes"]
    said = [anchor_student._prompt(page, rng) for page in pages for _ in range(20)]
    assert len(set(said)) > len(pages) and all(said)
