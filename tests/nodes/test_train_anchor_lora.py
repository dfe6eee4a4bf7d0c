"""nodes/train_anchor_lora.py in this process: a folder of clips becomes a LoRA that loads, and every input matters."""

import contextlib
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.comfy_inprocess import import_comfyui

core = import_comfyui()

from safetensors.torch import load_file

import folder_paths

from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.hosts.anchor.lora import attach, read_lora
from longreel.nodes.train_anchor_lora import LongreelTrainAnchorLoRA

pytestmark = pytest.mark.slow  # ComfyUI processes of their own, or training

SIDE, LATENT_FRAMES, FPS = 32, 3, 16
FRAMES = 1 + 4 * (LATENT_FRAMES - 1)


def write_clip(folder: Path, name: str) -> None:
    """A folder of pictures in which a grey bar moves, and its storyboard."""
    (folder / name).mkdir(parents=True)
    for frame in range(FRAMES):
        pixels = torch.full((SIDE, SIDE, 3), 40, dtype=torch.uint8)
        pixels[:, frame % SIDE] = 200
        Image.fromarray(pixels.numpy()).save(folder / name / f"{frame:04}.png")
    board = Storyboard((Shot(f"a bar of {name}", (FRAMES - 1) / FPS),), fps=FPS, width=SIDE, height=SIDE)
    (folder / f"{name}.json").write_text(board.to_json(), encoding="utf-8")


@pytest.fixture(scope="module")
def loaded(tiny_models):
    return tiny_models["wan21"].load()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """ComfyUI's input, output and LoRA folders in this process, lent to the tests."""
    base = tmp_path_factory.mktemp("comfyui")
    kept = folder_paths.get_input_directory(), folder_paths.get_output_directory()
    loras = folder_paths.folder_names_and_paths["loras"]
    for name in ("one", "two", "three"):
        write_clip(base / "input" / "clips", name)
    folder_paths.set_input_directory(str(base / "input"))
    folder_paths.set_output_directory(str(base / "output"))
    folder_paths.folder_names_and_paths["loras"] = ([str(base / "loras")], loras[1])
    yield base
    folder_paths.set_input_directory(kept[0])
    folder_paths.set_output_directory(kept[1])
    folder_paths.folder_names_and_paths["loras"] = loras


@pytest.fixture(scope="module")
def train(loaded, folders):
    """Run the node -> (path of the LoRA, curve, report); each run in a folder of its own unless named."""
    count = iter(range(1000))

    def run(**inputs):
        given = {
            "model": loaded.model,
            "clip": loaded.clip,
            "vae": loaded.vae,
            "folder": "clips",
            "run": f"run {next(count)}",
            "width": SIDE,
            "height": SIDE,
            "latent_frames": LATENT_FRAMES,
            "rank": 3,
            "targets": "blocks.*self_attn.q",
            "steps": 2,
            "batch": 2,
            "rate": 1e-2,
            "noise_from": 0.0,
            "noise_to": 1.0,
            "seed": 0,
            "compute": "float32",
            "ema": 0.0,
        }
        with torch.inference_mode():  # as ComfyUI runs nodes
            file, curve, report = LongreelTrainAnchorLoRA.execute(**{**given, **inputs}).result
        return folders / "loras" / file, curve, report

    return run


@pytest.fixture(scope="module")
def first(train):
    return train()


def test_the_lora_lands_among_comfyuis_loras_and_fits_the_model(first, loaded):
    path, curve, report = first
    _, converted = attach(loaded.model, read_lora(path))
    assert converted.layers == tuple(f"blocks.{number}.self_attn.q" for number in range(4))
    assert curve.shape[0] == 1 and curve.shape[3] == 3 and curve.min() >= 0 and curve.max() <= 1
    assert "4 layers" in report and "2 steps" in report and str(path) in report


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"batch": 1},
        {"rate": 1e-3},
        {"noise_from": 0.9},
        {"noise_to": 0.5},
        {"steps": 3},
        {"alpha": 9.0},
        {"first_share": 0.0},
        {"text_dropout": 1.0},
        {"ema": 0.5},
        {"compute": "bfloat16"},
        {"held_out": 1},
    ],
)
def test_every_input_changes_what_is_learned(train, first, change):
    before, after = load_file(first[0]), load_file(train(**change)[0])
    assert set(before) == set(after) and any(not torch.equal(before[name], after[name]) for name in before)


def test_rank_and_targets_say_what_is_trained(train):
    weights = load_file(train(rank=5, targets="*blocks.0.ffn.0, blocks.1.ffn.2")[0])
    layers = {name.removesuffix(".lora_down.weight") for name in weights if name.endswith("lora_down.weight")}
    assert layers == {"diffusion_model.blocks.0.ffn.0", "diffusion_model.blocks.1.ffn.2"}
    assert weights["diffusion_model.blocks.0.ffn.0.lora_down.weight"].shape[0] == 5


def test_micro_batches_change_memory_and_not_what_is_learned(train, first):
    before, after = load_file(first[0]), load_file(train(micro_batch=2)[0])
    assert all(torch.allclose(before[name].float(), after[name].float(), atol=2e-3) for name in before)


def test_held_out_clips_are_in_the_report(train):
    assert "held-out clips" in train(held_out=1)[2]


def test_a_run_goes_on_and_no_file_is_overwritten(train):
    short, _, _ = train(run="again", steps=20)
    longer, _, report = train(run="again", steps=21)
    assert short != longer and short.is_file() and "21 steps" in report


def test_a_run_with_other_settings_is_refused(train):
    train(run="kept")
    with pytest.raises(ValueError, match="with rank 3, and now it is 4"):
        train(run="kept", rank=4)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"width": 48}, "has 32x32 pixels and the data set 48x32"),
        ({"latent_frames": 5}, "and a segment has 16"),
        ({"folder": "../.."}, "is no folder below"),
        ({"targets": "nothing"}, "'nothing' fits none of"),
        ({"noise_from": 0.5, "noise_to": 0.1}, "0.5 to noise_to 0.1"),
    ],
)
def test_bad_inputs_name_themselves(train, change, message):
    with pytest.raises(ValueError, match=message):
        train(**change)


@pytest.mark.parametrize(
    "name, right", [("first", True), ("a/b", False), ("", False), ("日" * 80, False), (None, True)]
)
def test_the_runs_name_is_checked_before_anything_is_loaded(name, right):
    assert (LongreelTrainAnchorLoRA.validate_inputs(run=name) is True) == right


def test_a_cancelled_run_keeps_what_it_learned(train, folders):
    import comfy.model_management

    comfy.model_management.interrupt_current_processing(True)
    with contextlib.suppress(comfy.model_management.InterruptProcessingException):
        train(run="cut")
    comfy.model_management.interrupt_current_processing(False)
    assert train(run="cut")[0].is_file()
