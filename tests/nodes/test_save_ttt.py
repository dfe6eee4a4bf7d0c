"""nodes/save_ttt.py: layers go into a new file each time, in the precision and under the title asked for."""

import pytest
import torch

from tests.comfy_inprocess import import_comfyui

core = import_comfyui()

import folder_paths

from longreel.engine.ttt.files import load_ttt
from longreel.nodes.save_ttt import LongreelSaveTTT
from tests.hosts.ttt_cases import layers
from tests.nodes.ttt_training import weights

pytestmark = pytest.mark.slow  # it loads a model


def test_layers_are_saved_under_the_next_number_as_asked_for(tiny_models, tmp_path, monkeypatch):
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "ttt", ([str(tmp_path)], {".safetensors"}))
    made = layers(tiny_models["wan21"].load().model, title="as made")
    names = [
        LongreelSaveTTT.execute(made, "mine", dtype, title).result[0]
        for dtype, title in (("bfloat16", ""), ("float32", "a title"))
    ]
    assert names == ["mine_00001_.safetensors", "mine_00002_.safetensors"]
    half, whole_ones = (load_ttt(tmp_path / name) for name in names)
    assert torch.equal(weights(whole_ones), weights(made)) and whole_ones.title == "a title"
    assert weights(half).dtype == torch.bfloat16 and half.title == made.title
