"""The fast student of the demo model is ComfyUI's demo model with TTT layers, and the trainer's recipes fit it."""

import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.comfy_inprocess import import_comfyui

import_comfyui()

from longreel.demo import dit_net, encode_stories, stories, text_encoder, ttt_student, twin, vae_net
from longreel.demo.picture_book import stories as picture_book_stories
from longreel.engine.ttt.files import load_ttt
from longreel.engine.ttt.layer import LACT, MLP
from longreel.hosts import facts_of
from longreel.hosts.demo_model import load_demo_model
from longreel.hosts.ttt import apply as ttt
from longreel.hosts.ttt.student import TTTStudent
from longreel.training.config import read_config
from longreel.training.dataset import Geometry, parts_of, read_dataset, read_latent
from longreel.training.ttt import builder_of

RECIPES = sorted(Path(ttt_student.__file__).parent.glob("ttt_*.toml"))


@pytest.fixture(scope="module")
def picture_book(tmp_path_factory):
    """A folder with small networks of the picture book that nobody trained."""
    folder = tmp_path_factory.mktemp("picture_book")
    encoder = text_encoder.TextEncoder(text_encoder.BOOK_ROWS, text_encoder.BOOK_WIDTH)
    both = {"dit": dit_net.DiT(64, 96, 2, 3, text_encoder.BOOK_WIDTH), "text": encoder}
    twin.write(folder, torch.nn.ModuleDict(both).state_dict(), heads=2)
    save_file(vae_net.VAE(4).state_dict(), folder / twin.VAE)
    return folder


def windows(segments: int) -> tuple[tuple[int, int], ...]:
    return tuple((4 * number, 4 * number + 5) for number in range(segments))


@pytest.fixture(scope="module")
def demo_model():
    return load_demo_model()[0]


@pytest.mark.parametrize(
    ("kind", "segments", "lead"), [(MLP, 1, 0), (MLP, 3, 0), (MLP, 1, 1), (MLP, 3, 1), (MLP, 2, 3), (LACT, 3, 1)]
)
def test_it_predicts_as_the_demo_model_does_in_comfyui(kind, segments, lead, demo_model, tmp_path, monkeypatch):
    monkeypatch.setattr(dit_net, "HALF_PRECISION", False)
    ours = ttt_student.DemoStudent(ttt_student.Settings(kind, gate=0.5, start_scale=0.2, lead_frames=lead))
    ours.save(tmp_path / "layers.safetensors", 5, "")
    loaded = load_ttt(tmp_path / "layers.safetensors")
    assert loaded.lead_frames == lead
    theirs = TTTStudent(ttt.apply(demo_model, loaded), dtype=torch.float32, lead_frames=lead)
    generator = torch.Generator().manual_seed(0)
    noised = torch.randn(2, 16, 4 * segments + 1, 8, 8, generator=generator)
    heard = {"text": torch.randn(2, segments, 20, 64, generator=generator)}
    levels = torch.tensor([0.3, 0.9])
    with torch.no_grad():
        one = ours.predict(noised, levels, heard, windows(segments))
        two = theirs.predict(noised, levels, {**heard, "text_tokens": torch.full((2, segments), 20)}, windows(segments))
        layers, ours.layers = ours.layers, {}
        without = ours.predict(noised, levels, heard, windows(segments))
    assert layers and torch.allclose(one, two, atol=1e-4)
    assert (one - without).abs().max() > 0.01  # the layers say something at all
    if lead and segments > 1:
        ours.layers, ours.lead_frames = layers, 0
        with torch.no_grad():
            assert (one - ours.predict(noised, levels, heard, windows(segments))).abs().max() > 0.01


def test_its_facts_are_those_that_comfyui_says_of_the_demo_model(demo_model):
    assert facts_of(demo_model) == ttt_student.FACTS


def test_what_is_trained_is_the_layers_and_not_the_network():
    student = ttt_student.DemoStudent()
    parameters = student.parameters_of("ttt")["ttt"]
    heard = {"text": torch.zeros(1, 2, 20, 64)}
    student.predict(torch.randn(1, 16, 9, 8, 8), torch.tensor([0.5]), heard, windows(2)).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in parameters.values())
    assert all(parameter.grad is None for parameter in student.network.parameters())


@pytest.mark.parametrize("kind", [MLP, LACT])
def test_layers_go_on_from_a_file(kind, tmp_path):
    path = tmp_path / "layers.safetensors"
    first = ttt_student.DemoStudent(ttt_student.Settings(kind, blocks=[2], seed=3))
    first.save(path, 5, "")
    second = ttt_student.DemoStudent(ttt_student.Settings(kind, blocks=[2], seed=4, start=str(path)))
    assert second.identity == first.identity != ttt_student.DemoStudent(ttt_student.Settings(kind, blocks=[2])).identity
    with pytest.raises(ValueError, match="correct .model."):
        ttt_student.DemoStudent(ttt_student.Settings(kind, blocks=[2, 3], start=str(path)))


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"blcoks": [1]}, '"blocks"'),
        ({"heads": "six"}, "model.heads"),
        ({"blocks": [6]}, "the network has 6 blocks"),
        ({"compile": 1}, "model.compile"),
    ],
)
def test_bad_settings_are_named(settings, said):
    with pytest.raises(ValueError, match=said):
        ttt_student.build(settings)


def test_segments_of_several_lengths_are_refused():
    student = ttt_student.DemoStudent(ttt_student.Settings(blocks=[2]))
    with pytest.raises(ValueError, match="4 to 8, not 4 to 9"):
        student.predict(
            torch.zeros(1, 16, 8, 8, 8), torch.tensor([0.5]), {"text": torch.zeros(1, 2, 20, 64)}, ((0, 5), (4, 8))
        )


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_builds_its_student(path):
    config = read_config(path)
    student, _, _ = builder_of(config)({**config.model, "compile": False})
    assert student.config.kind == config.model["kind"]
    for stage in config.stages:
        assert student.parameters_of(stage.adapter)
        student.checkpoint(stage.scan_chunks, stage.checkpoint_blocks)


def test_the_variants_differ_in_their_layers_alone():
    assert len(RECIPES) == 5
    ours = [read_config(path) for path in RECIPES]
    assert len({config.folder for config in ours}) == 5
    assert all(
        (config.stages, config.training, config.data, config.seed)
        == (ours[0].stages, ours[0].training, ours[0].data, ours[0].seed)
        for config in ours
    )


def test_the_trainer_reads_the_stories_that_are_written(tmp_path):
    story = encode_stories.training_story(0, 7, 2)
    latent = encode_stories.encode(twin.vae(), story.render())
    encode_stories.write(tmp_path, 7, story, latent)
    geometry = Geometry(ttt_student.FACTS, 64, 64, 5)
    (part,) = parts_of(read_dataset(tmp_path, geometry), 2)
    assert part.prompts == story.prompts
    assert torch.allclose(read_latent(part, geometry), latent, atol=0.01)


def test_a_latent_decodes_to_the_story_that_was_encoded():
    story, vae = stories.random_story(stories.COLOR, 1, random.Random(0)), twin.vae()
    video = encode_stories.decode(vae, encode_stories.encode(vae, story.render()))
    assert (video - story.render().permute(0, 2, 3, 1)).square().mean() < 0.006


def test_a_model_of_the_picture_book_is_a_student_of_its_own_size_and_is_told_its_stories(picture_book):
    settings = {
        "kind": MLP,
        "heads": 4,
        "blocks": [1],
        "samples": 1,
        "sample_segments": 2,
        "weights": str(picture_book),
    }
    student, encoder, sampler = ttt_student.build(settings)
    assert (student.network.width, len(student.network.blocks), student.config.width) == (64, 3, 64)
    assert encoder.encode_text("a cat")["text"].shape == (20, text_encoder.BOOK_WIDTH)
    assert not torch.equal(encoder.encode_text("a cat")["text"], encoder.encode_text("a dog")["text"])
    (video,) = sampler()
    assert video.shape == (33, 96, 96, 3)  # shape world's are of 64 pixels
    assert encode_stories.stories_for(encoder.text) is picture_book_stories
    assert encode_stories.stories_for(twin.text()) is stories


def test_stories_of_the_picture_book_are_encoded_by_its_own_vae(picture_book, tmp_path, monkeypatch):
    monkeypatch.setattr(vae_net, "compile_norms", lambda: None)
    words = ["encode_stories", str(tmp_path), "--stories", "1", "--segments", "2", "--weights", str(picture_book)]
    monkeypatch.setattr("sys.argv", words)
    encode_stories.main()
    geometry = Geometry(ttt_student.FACTS, 96, 96, 5)
    (part,) = parts_of(read_dataset(tmp_path, geometry), 2)
    story = encode_stories.training_story(0, 0, 2, picture_book_stories)
    assert part.prompts == story.prompts
    wanted = encode_stories.encode(twin.vae(picture_book / twin.VAE), story.render())
    assert torch.allclose(read_latent(part, geometry), wanted, atol=0.01)
