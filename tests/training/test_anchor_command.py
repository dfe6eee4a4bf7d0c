"""python -m longreel.training.anchor_lora: a config file becomes a LoRA, goes on, and bad files are named."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.training.anchor_lora import main
from tests.comfy_inprocess import import_comfyui

import_comfyui()

CLIPS, LATENT_FRAMES, SIDE = 3, 3, 64


@pytest.fixture
def config(tmp_path):
    """A file for the demo model through ComfyUI's network, with encoded clips beside it -> (path, change it)."""
    (tmp_path / "clips").mkdir()
    generator = torch.Generator().manual_seed(0)
    for number in range(CLIPS):
        latent = torch.randn(16, LATENT_FRAMES, SIDE // 8, SIDE // 8, generator=generator)
        save_file({"latent": latent}, tmp_path / "clips" / f"clip{number}.safetensors")
        board = Storyboard((Shot("a red circle moves left", (LATENT_FRAMES - 1) * 4 / 16),), width=SIDE, height=SIDE)
        (tmp_path / "clips" / f"clip{number}.json").write_text(board.to_json(), encoding="utf-8")
    table = {
        "folder": "run",
        "model": {"demo": True, "dtype": "float32"},
        "data": {
            "folder": "clips",
            "width": SIDE,
            "height": SIDE,
            "segment_latent_frames": LATENT_FRAMES,
            "held_out": 1,
        },
        "lora": {"rank": 2, "targets": "blocks.0.*", "steps": 2, "warmup_steps": 0, "batch": 2},
    }
    path = tmp_path / "config.json"

    def write(**changes):
        path.write_text(json.dumps({**table, **changes}), encoding="utf-8")
        return path

    return write


def test_a_config_file_becomes_a_lora_that_a_second_call_goes_on_with(config, tmp_path, capsys):
    assert main([str(config())]) == 0
    first = load_file(tmp_path / "run" / "anchor_lora.safetensors")
    assert len(first) == 3 * 10  # of one block: eight projections and two layers of its feed-forward
    more = {"rank": 2, "targets": "blocks.0.*", "steps": 3, "warmup_steps": 0, "batch": 2}
    assert main([str(config(lora=more))]) == 0
    said = capsys.readouterr().out
    assert "2 clips" in said and "goes on after 2 steps" in said and "held-out clips" in said
    second = load_file(tmp_path / "run" / "anchor_lora.safetensors")
    assert any(not torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model": {"builder": "nowhere:build"}}, "cannot be loaded"),
        ({"lora": {"steps": "many"}}, "lora.steps is 'many'"),
        ({"model": {"demo": False}}, "4 of the 4 files of a model are missing"),
        ({"stage": {}}, "stage is no known key"),
        ({"model": {"demo": True}, "lora": {"targets": "x"}}, "'x' fits none of"),
    ],
)
def test_bad_files_end_with_their_reason_and_status_1(config, capsys, change, message):
    assert main([str(config(**change))]) == 1
    assert message in capsys.readouterr().err


def test_a_file_that_is_not_there_is_named(tmp_path, capsys):
    assert main([str(tmp_path / "none.toml")]) == 1
    assert "none.toml" in capsys.readouterr().err
