"""Layers in half precision are the same layers, and those that the pack brings along fit the demo model."""

import pytest
import torch

from longreel.demo import export_ttt, ttt_student
from longreel.engine.ttt_files import LoadedTTT, load_ttt, save_ttt

BUNDLED_BYTES_MOST = 10_000_000


def layers_of(tmp_path) -> LoadedTTT:
    ttt_student.DemoStudent(ttt_student.Settings(blocks=[2])).save(tmp_path / "layers.safetensors", 5, "a title")
    return load_ttt(tmp_path / "layers.safetensors")


def test_half_precision_keeps_what_layers_are(tmp_path):
    whole = layers_of(tmp_path)
    save_ttt(tmp_path / "half.safetensors", export_ttt.halved(whole))
    half = load_ttt(tmp_path / "half.safetensors")
    assert (half.config, half.title, half.segment_latent_frames) == (whole.config, whole.title, 5)
    for name, weight in half.layers[2].items():
        assert weight.dtype == torch.float16
        assert torch.allclose(weight.float(), whole.layers[2][name], atol=1e-3)


def test_a_weight_that_half_precision_cannot_hold_is_named(tmp_path):
    whole = layers_of(tmp_path)
    whole.layers[2]["ttt.b1"][0] = 1e6
    with pytest.raises(ValueError, match=r"ttt.b1 reaches 1e\+06"):
        export_ttt.halved(whole)


def test_bundled_layers_fit_the_demo_model_and_stay_small():
    paths = [path for folder in (export_ttt.SHOWN, export_ttt.COMPARED) for path in sorted(folder.glob("*.safetensors"))]
    assert sum(path.stat().st_size for path in paths) < BUNDLED_BYTES_MOST
    for path in paths:
        layers = load_ttt(path, shapes_only=True)
        assert (layers.family, layers.blocks, layers.config.width) == ("Wan", 6, 192)
