"""hosts/ttt/builder.py: the command trains what loads in the graph. The text encoder's file is gigabytes: only here
another is handed on for it."""

import json

import pytest
import torch
from PIL import Image

import comfy.sd
import comfy.utils
import nodes

from longreel.engine.ttt.files import load_ttt, save_ttt
from longreel.hosts.ttt import builder as ttt_builder
from longreel.training import ttt
from tests.hosts.ttt_cases import layers
from tests.training.tiny_student import write_clip

NAMES = {"clip": ["umt5.safetensors"], "clip_type": "wan"}


@pytest.fixture
def names(tiny, tiny_models, monkeypatch) -> dict:
    """The table [model] of the tiny Wan."""
    loaded, files = tiny("wan21"), tiny_models["wan21"]

    def load_clip(self, *names):
        assert names == ("umt5.safetensors", "wan")
        return (loaded.clip,)

    monkeypatch.setattr(nodes.CLIPLoader, "load_clip", load_clip)
    return {**NAMES, "unet": files.unet_file, "vae": files.vae_file, "dtype": "float32"}


def test_the_command_trains_a_model_by_the_names_of_its_files(names, tmp_path, capsys):
    for number in range(2):
        write_clip(tmp_path / "clips", f"clip{number}", 2, size=(64, 64), color=number)
    config = tmp_path / "config.json"
    config.write_text(
        json.dumps(
            {
                "title": "by name",
                "folder": "run",
                "model": {
                    **names,
                    "blocks": [1, 2],
                    "text_tokens": 16,
                    "sample": ["a fox", "a ship"],
                    "sample_width": 64,
                    "sample_height": 64,
                    "sample_segment_latent_frames": 3,
                    "sample_steps": 1,
                    "lead_frames": 1,
                },
                "data": {"folder": "clips", "width": 64, "height": 64, "segment_latent_frames": 3},
                "stage": [
                    {
                        "name": "all",
                        "segments": 2,
                        "steps": 2,
                        "batch": 2,
                        "ttt_rate": 1e-3,
                        "others_rate": 1e-2,
                        "others_end_rate": 1e-2,
                    }
                ],
                "training": {"ema": 0},
            }
        )
    )
    assert ttt.main([str(config)]) == 0, capsys.readouterr().err
    file = load_ttt(tmp_path / "run" / "ttt.safetensors")
    assert (sorted(file.layers), file.family, file.title, file.segment_latent_frames) == ([1, 2], "Wan", "by name", 3)
    assert file.lead_frames == 1
    said = capsys.readouterr().out
    assert "time per step" in said
    with Image.open(tmp_path / "run" / "samples" / "00000002.png") as page:
        assert page.size == (8 * 64, 64)
    # What else was trained takes its place through core's LoRA loader.
    others = comfy.utils.load_torch_file(str(tmp_path / "run" / "ttt.others.safetensors"), safe_load=True)
    model = nodes.UNETLoader().load_unet(names["unet"], "default")[0]
    patched = comfy.sd.load_lora_for_models(model, None, others, 1.0, 0.0)[0]
    name = "diffusion_model.blocks.1.self_attn.q"
    assert len(patched.patches) == len(others) and f"{name}.weight" in patched.patches
    patched.patch_model()
    after = patched.model.get_parameter(f"{name}.weight").float()
    patched.unpatch_model()
    torch.testing.assert_close(after, others[f"{name}.set_weight"].to(after), atol=1e-3, rtol=1e-2)
    assert not torch.equal(after, model.model.get_parameter(f"{name}.weight").float())


def test_layers_of_a_file_are_gone_on_from(names, tiny, tmp_path):
    held = layers(tiny("wan21").model, gate=0.5)
    save_ttt(tmp_path / "before.safetensors", held)
    student, encoder, sample = ttt_builder.build({**names, "layers": str(tmp_path / "before.safetensors")})
    assert sorted(student.layers) == sorted(held.layers) and sample is None
    torch.testing.assert_close(student.layers[0].forward_video.detach(), held.layers[0]["forward_video"].float())
    assert encoder.encode_text("a fox")["text"].dim() == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"unett": "a"}, 'model.unett is not a known key; did you mean "unet"'),
        ({"heads": "four"}, "model.heads is 'four', not a int"),
        ({"vae": ""}, "1 of 4 names are missing in .model., first vae"),
        ({"clip": ["a", "b", "c"]}, "model.clip names 3 files and ComfyUI's loaders take 1 or 2"),
        ({"lead_frames": -1}, "model.lead_frames is -1; use 0 as published, or 1 and more"),
        ({"dtype": "float8"}, "model.dtype 'float8' is not known; use bfloat16 or float32"),
        ({"sample": "a story"}, "model.sample is 'a story', not a list"),
        (
            {"layers": "x.safetensors", "chunk": 8},
            "model.layers names a file, .* but heads, chunk, base_rate are 0, 8, 0",
        ),
    ],
)
def test_settings_that_are_none_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        ttt_builder.build({**NAMES, "unet": "a", "vae": "b", **wrong})


def test_files_that_are_not_there_are_named(names):
    with pytest.raises(FileNotFoundError, match="none.safetensors"):
        ttt_builder.build({**names, "unet": "none.safetensors"})
    with pytest.raises(FileNotFoundError, match="there is no none.safetensors in .*ttt, nor at this path"):
        ttt_builder.build({**names, "layers": "none.safetensors"})
