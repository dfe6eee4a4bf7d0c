"""Layers in half precision are the same layers; those that the pack brings along fit the demo model, and remember."""

import random

import pytest
import torch

from longreel.demo import export_ttt, stories, ttt_student, world
from longreel.engine.ttt.files import LoadedTTT, load_ttt, save_ttt
from longreel.engine.ttt.layer import GATED_DELTA, LACT, LINEAR, MLP, SLIDING_WINDOW

BUNDLED_BYTES_MOST = 10_000_000


def layers_of(tmp_path, kind: str = MLP) -> LoadedTTT:
    ttt_student.DemoStudent(ttt_student.Settings(kind, chunk=1, base_rate=1.0, blocks=[2])).save(
        tmp_path / "layers.safetensors", 5, "a title"
    )
    return load_ttt(tmp_path / "layers.safetensors")


@pytest.mark.parametrize("kind", [MLP, LACT])
def test_half_precision_keeps_what_layers_are(kind, tmp_path):
    whole = layers_of(tmp_path, kind)
    save_ttt(tmp_path / "half.safetensors", export_ttt.halved(whole))
    half = load_ttt(tmp_path / "half.safetensors")
    assert (half.config, half.title, half.segment_latent_frames) == (whole.config, whole.title, 5)
    for name, weight in half.layers[2].items():
        assert weight.dtype == torch.float16
        assert torch.allclose(weight.float(), whole.layers[2][name], atol=1e-3)


@pytest.mark.parametrize(
    ("kind", "folder"),
    [(MLP, "ttt"), (LINEAR, "ttt"), (LACT, "ttt"), (GATED_DELTA, "compared"), (SLIDING_WINDOW, "compared")],
)
def test_layers_that_learn_are_shown_and_what_they_are_compared_with_is_not(kind, folder, tmp_path):
    assert export_ttt.folder_of(layers_of(tmp_path, kind)).name == folder


def test_a_weight_that_half_precision_cannot_hold_is_named(tmp_path):
    whole = layers_of(tmp_path)
    whole.layers[2]["ttt.b1"][0] = 1e6
    with pytest.raises(ValueError, match=r"ttt.b1 reaches 1e\+06"):
        export_ttt.halved(whole)


def test_bundled_layers_fit_the_demo_model_and_stay_small():
    paths = [
        path for folder in (export_ttt.SHOWN, export_ttt.COMPARED) for path in sorted(folder.glob("*.safetensors"))
    ]
    assert sum(path.stat().st_size for path in paths) < BUNDLED_BYTES_MOST
    for path in paths:
        layers = load_ttt(path, shapes_only=True)
        assert (layers.family, layers.blocks, layers.config.width) == ("Wan", 6, 192)


@pytest.mark.slow
def test_with_bundled_layers_the_last_segment_knows_the_color_that_the_first_prompt_named():
    student, encoder = student_with(export_ttt.SHOWN / "shapeworld_ttt_mlp.safetensors"), ttt_student.DemoEncoder()
    gains, without = [], []
    for seed in range(3):
        right, wrong = errors_at_the_end(student, encoder, seed)
        gains.append(1 - right / wrong)
        layers, student.layers = student.layers, {}
        right, wrong = errors_at_the_end(student, encoder, seed)
        without.append(right == wrong)
        student.layers = layers
    assert all(without)  # attention alone does not reach from the first segment to the eighth
    assert min(gains) > 0.02


def student_with(path) -> ttt_student.DemoStudent:
    layers = load_ttt(path)
    config = layers.config
    return ttt_student.DemoStudent(
        ttt_student.Settings(
            config.kind, config.heads, config.chunk, config.base_rate, sorted(layers.layers), start=str(path)
        )
    )


@torch.no_grad()
def errors_at_the_end(student, encoder, seed: int) -> tuple[float, float]:
    """Squared error of the velocity in the eighth segment of a story, told with the right color and with another."""
    story = stories.random_story(stories.COLOR, 8, random.Random(seed))
    clean = encoder.encode_video(story.render().permute(0, 2, 3, 1))[None]
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))
    level, windows = torch.tensor([0.9]), tuple((4 * number, 4 * number + 5) for number in range(8))
    noised, target = student.objective.noise(clean, noise, level), student.objective.target(clean, noise, level)
    named = story.scenes[0].color
    other = next(color for color in world.COLORS if color != named)
    found = []
    for color in (named, other):
        prompts = (story.prompts[0].replace(named, color), *story.prompts[1:])
        text = torch.stack([encoder.encode_text(prompt)["text"] for prompt in prompts])[None]
        velocity = student.predict(noised, level, {"text": text}, windows)
        found.append(float((velocity - target)[:, :, 29:].square().mean()))
    return found[0], found[1]
