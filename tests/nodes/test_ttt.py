"""nodes/ttt.py in a running ComfyUI: files from models/ttt, layers on every family, and the whole timeline at once."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.engine.ttt.block import TTTBlock
from longreel.engine.ttt.files import LoadedTTT, save_ttt
from longreel.engine.ttt.layer import LACT, LINEAR, MLP, OWN, TTTConfig
from longreel.engine.ttt.weights import to_published
from tests.comfy_process import ComfyError
from tests.nodes.graphs import (
    ALPHA_SPACE,
    BOARD,
    EULER,
    change,
    latent,
    node,
    refusals,
    saved,
    shared,
    whole,
    with_layers,
    with_new_layers,
)
from tests.tiny_models import MODELS

NETWORKS = {  # family as files name it, channels, blocks
    "wan21": ("Wan", 64, 4),
    "wan22_14b_high": ("Wan", 64, 4),
    "wan22_14b_low": ("Wan", 64, 4),
    "wan22_5b": ("Wan 2.2 5B", 64, 4),
    "cogvideox10": ("CogVideoX", 64, 3),
    "cogvideox15": ("CogVideoX 1.5", 64, 3),
    "hunyuan_video": ("HunyuanVideo", 128, 4),
    "ltxv": ("LTXV", 64, 3),
}
HEAD_WIDTH = 16


def trained(name: str, kind: str = MLP, seed: int = 0, blocks: int | None = None) -> LoadedTTT:
    """Layers for a tiny model with every parameter drawn, so that they say something."""
    family, width, count = NETWORKS[name]
    config = TTTConfig(kind, width, width // HEAD_WIDTH, chunk=16, base_rate=1.0, rates=OWN)
    torch.manual_seed(seed)
    layers = {}
    for number in range(blocks or count):
        block = TTTBlock(config).requires_grad_(False)
        for parameter, value in block.named_parameters():
            torch.nn.init.normal_(value, mean=1.0 if parameter.endswith("norm_weight") else 0.0, std=0.2)
        layers[number] = dict(block.state_dict())
    return LoadedTTT(layers, config, family, 13, blocks or count, f"drawn for {name}")


def published(path: Path, loaded: LoadedTTT) -> None:
    save_file(
        {
            f"dit.layers.{number}.seq_modeling_block.{name}": value
            for number, block in loaded.layers.items()
            for name, value in to_published(block).items()
        },
        path,
    )


@pytest.fixture(scope="module")
def files(server):
    """models/ttt of the running ComfyUI with one file for each tiny model, `<name>.safetensors`, and some others."""
    folder = Path(server.base) / "models" / "ttt"
    folder.mkdir(exist_ok=True)
    for name in NETWORKS:
        save_ttt(folder / f"{name}.safetensors", trained(name))
    save_ttt(folder / "linear.safetensors", trained("wan21", LINEAR))
    save_ttt(folder / "sub" / "other.safetensors", trained("wan21", seed=1))
    save_ttt(folder / "deep.safetensors", trained("wan21", blocks=6))
    half = trained("wan21")
    save_ttt(folder / "half.safetensors", replace(half, layers={number: half.layers[number] for number in (0, 1)}))
    wide = replace(trained("hunyuan_video"), family="Wan")
    save_ttt(folder / "wide.safetensors", wide)
    published(folder / "published.safetensors", trained("cogvideox10"))
    save_file({"lora_unet_blocks_0.lora_up.weight": torch.zeros(2, 2)}, folder / "lora.safetensors")
    weights = load_file(folder / "published.safetensors")
    save_file({name: value for name, value in weights.items() if "gating" not in name}, folder / "ungated.safetensors")
    (folder / "short.safetensors").write_bytes((folder / "wan21.safetensors").read_bytes()[:-1000])
    torch.save({"x": torch.zeros(1)}, folder / "layers.pt")
    yield folder
    for (
        path
    ) in folder.iterdir():  # the folder stays: ComfyUI's list of files fails on a folder that it has seen and lost
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.fixture(scope="module")
def plain(tiny_models):
    return whole(tiny_models["wan21"], EULER)


@pytest.fixture(scope="module")
def plain_latent(server, plain):
    """Without layers."""
    return latent(server, plain)


@pytest.fixture(scope="module")
def base_latent(server, plain, files):
    return latent(server, with_layers(plain, "wan21.safetensors"))


def of_family(tiny, board=BOARD):
    return whole(tiny, ALPHA_SPACE if tiny.family == "cogvideox" else EULER, board)


@pytest.mark.parametrize("name", [name for name in MODELS if name in NETWORKS])
def test_every_family_samples_a_timeline_with_its_layers_and_new_ones_change_nothing(server, tiny_models, files, name):
    prompt = of_family(tiny_models[name])
    without, new = latent(server, prompt), latent(server, with_new_layers(prompt))
    assert without.isfinite().all() and without.std() > 0
    assert torch.equal(without, new)
    with_file = latent(server, with_layers(prompt, f"{name}.safetensors"))
    assert with_file.isfinite().all() and not torch.equal(with_file, without)


@pytest.mark.parametrize("kind", [MLP, LINEAR, LACT])
def test_new_layers_of_every_kind_change_nothing(server, plain, plain_latent, kind):
    assert torch.equal(latent(server, with_new_layers(plain, kind, "last 2")), plain_latent)


def test_strength_0_is_the_video_without_the_layers_to_the_bit(server, plain, plain_latent, files):
    assert torch.equal(latent(server, with_layers(plain, "wan21.safetensors", strength=0.0)), plain_latent)


@pytest.mark.parametrize(
    "inputs",
    [
        {"file": "sub/other.safetensors"},
        {"file": "linear.safetensors"},
        {"strength": 0.5},
        {"layers": "last 2"},
        {"layers": "1"},
    ],
    ids=lambda inputs: str(*inputs.values()),
)
def test_every_input_of_the_layers_changes_the_result(server, plain, plain_latent, base_latent, inputs):
    found = latent(server, with_layers(plain, **{"file": "wan21.safetensors", **inputs}))
    assert not torch.equal(found, base_latent) and not torch.equal(found, plain_latent)


def test_a_file_that_has_layers_for_some_blocks_is_those_blocks(server, plain, base_latent, files):
    half = latent(server, with_layers(plain, "half.safetensors"))
    assert torch.equal(half, latent(server, with_layers(plain, "wan21.safetensors", layers="0-1")))
    assert not torch.equal(half, base_latent)


def test_chunk_changes_what_a_file_computes_that_does_not_say(server, tiny_models, files):
    prompt = of_family(tiny_models["cogvideox10"])
    as_published, same, other = (
        latent(server, with_layers(prompt, "published.safetensors", chunk=chunk)) for chunk in (0, 64, 16)
    )
    assert torch.equal(as_published, same) and not torch.equal(as_published, other)


@pytest.mark.parametrize(
    "inputs",
    [
        {"seed": 6},
        {"cfg": 1.0},
        {"add_noise": False},
        {"lead_frames": 0},
        {"negative": ["encode", 0]},
        {"positive": ["encode", 1]},
        {"sampler": ["other_sampler", 0]},
        {"sigmas": ["other_sigmas", 0]},
        {"latent": ["other_latent", 0]},
        {"timeline": ["other_plan", 0]},
        {"model": ["other_model", 0]},
    ],
    ids=lambda inputs: next(iter(inputs)),
)
def test_every_input_of_the_sampler_changes_the_result(server, plain, base_latent, tiny_models, files, inputs):
    prompt = with_layers(plain, "wan21.safetensors")
    others = {
        "other_sampler": node("KSamplerSelect", sampler_name="heun"),
        "other_sigmas": change(prompt, "sigmas", steps=3)["sigmas"],
        "other_latent": node("LatentMultiply", samples=["drawn", 0], multiplier=2.0),
        "drawn": {**prompt["sample"], "inputs": {**prompt["sample"]["inputs"], "model": ["model", 0]}},
        "other_plan": change(prompt, "plan", segment_frames=6 * 4 + 1)["plan"],
        "loaded": tiny_models["wan22_14b_high"].prompt_nodes()["model"],
        "other_model": change(prompt, "apply", model=["loaded", 0])["apply"],
    }
    prompt = {**prompt, **others}
    if "latent" in inputs:
        prompt = change(prompt, "sigmas", denoise=0.5)
        start = latent(server, prompt)
        assert not torch.equal(latent(server, change(prompt, "sample", **inputs)), start)
    else:
        assert not torch.equal(latent(server, change(prompt, "sample", **inputs)), base_latent)


def test_a_shot_hears_its_own_prompt(server, tiny_models, files):
    """Without layers and behind a cut, only the last shot's frames know of its words."""
    board = replace(BOARD, shots=(*BOARD.shots[:2], Shot("two squares", 2.0, "cut")))
    one, other = (latent(server, whole(tiny_models["wan21"], EULER, shown)) for shown in (BOARD, board))
    changed = (one != other).flatten(3).any(dim=3).any(dim=1)[0]  # [F]
    cut = len(changed) - int(changed.sum())
    assert abs(cut - len(changed) * 2 / 3) <= 1 and changed[cut:].all()


def test_the_layers_carry_one_shots_words_to_the_others(server, tiny_models, files):
    board = replace(BOARD, shots=(*BOARD.shots[:2], Shot("two squares", 2.0, "cut")))
    one, other = (
        latent(server, with_layers(whole(tiny_models["wan21"], EULER, shown), "wan21.safetensors"))
        for shown in (BOARD, board)
    )
    assert (one != other).flatten(3).any(dim=3).any(dim=1).all()


def test_cores_sampler_takes_a_model_with_layers(server, tiny_models, files):
    """One shot, no timeline: all that the network is shown is one segment."""
    single = Storyboard((Shot("a red circle", 2.0),), width=64, height=64, negative="blurry")
    prompt = with_layers(whole(tiny_models["wan21"], EULER, single), "wan21.safetensors")
    by_core = {**prompt, "text": node("CLIPTextEncode", clip=["clip", 0], text="a red circle"), **saved("sample")}
    by_core["sample"] = node(
        "KSampler",
        model=["apply", 0],
        positive=["text", 0],
        negative=["text", 0],
        latent_image=["plan", 1],
        seed=5,
        steps=2,
        cfg=1.0,
        sampler_name="euler",
        scheduler="simple",
        denoise=1.0,
    )
    with_ttt, without = latent(server, by_core), latent(server, change(by_core, "sample", model=["model", 0]))
    assert with_ttt.isfinite().all() and not torch.equal(with_ttt, without)


def test_a_changed_file_is_read_again(server, plain, base_latent, files):
    file = files / "changing.safetensors"
    save_ttt(file, trained("wan21"))
    first = latent(server, with_layers(plain, "changing.safetensors"))
    save_ttt(file, trained("wan21", seed=1))
    second = latent(server, with_layers(plain, "changing.safetensors"))
    assert torch.equal(first, base_latent) and not torch.equal(first, second)


def test_the_list_shows_safetensors_alone(server, files):
    listed = server.object_info("LongreelLoadTTT")["LongreelLoadTTT"]["input"]["required"]["file"][1]["options"]
    assert {"wan21.safetensors", "sub/other.safetensors"} <= set(listed) and "layers.pt" not in listed


def test_the_summary_says_whose_layers_they_are(server, files):
    prompt = {
        "load": node("LongreelLoadTTT", file="half.safetensors", chunk=0),
        "show": node("PreviewAny", source=["load", 1]),
    }
    assert server.run(prompt)["show"]["text"][0].startswith(
        "drawn for wan21\nTTT-mlp for Wan: 2 of 4 blocks, 4 heads of 16 channels\nlearns from 16 tokens at once"
    )


@pytest.mark.parametrize(
    ("file", "chunk", "says"),
    [
        ("layers.pt", 0, "layers.pt is a .pt, and TTT layers are read from .safetensors alone, because pickles"),
        (
            "lora.safetensors",
            0,
            "lora.safetensors: none of the 1 tensors is TTT's, with no longreel_ttt in the metadata",
        ),
        ("short.safetensors", 0, "it was cut short, or is no safetensors file; copy or convert it again"),
        ("ungated.safetensors", 0, "block 0: 4 of 22 TTT weights are missing, first backward_text"),
        (
            "wan21.safetensors",
            64,
            "trained with 16 tokens at once, and chunk is 64, which would compute something else",
        ),
        ("lost.safetensors", 0, "file 'lost.safetensors' is not in "),
        ("../vae/tiny_wan21_vae.safetensors", 0, "tiny_wan21_vae.safetensors' is not in "),
    ],
)
def test_bad_files_are_refused_before_anything_is_loaded(server, plain, files, file, chunk, says):
    found = refusals(server, with_layers(plain, file, chunk))
    assert found and says in found[0]


def refused(server, prompt) -> str:
    """What the failing node says; nothing may have been sampled by then."""
    seen = []
    with pytest.raises(ComfyError) as error:
        server.run(prompt, listen=lambda kind, data: seen.append(kind))
    assert "progress" not in seen
    return str(error.value)


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"file": "cogvideox10.safetensors"}, "were trained for CogVideoX and this model is Wan; load the file"),
        ({"file": "wan22_5b.safetensors"}, "were trained for Wan 2.2 5B and this model is Wan; load the file"),
        ({"file": "deep.safetensors"}, "were trained for 6 blocks and this model has 4"),
        ({"file": "wide.safetensors"}, "were trained for 128 channels and this model has 64"),
        (
            {"file": "half.safetensors", "layers": "last 2"},
            "none of the 2 blocks asked for is among the 2 that these TTT",
        ),
        ({"file": "wan21.safetensors", "layers": "9"}, 'layers "9": 9 is not in the network\'s 4 blocks; use 0 to 3'),
    ],
)
def test_layers_that_do_not_fit_the_model_are_refused(server, plain, files, inputs, says):
    assert says in refused(server, with_layers(plain, **inputs))


def test_layers_on_layers_are_refused(server, plain, files):
    once = with_layers(plain, "wan21.safetensors")
    twice = {**once, "again": change(once, "apply", model=["apply", 0])["apply"]}
    assert "this model carries TTT layers already; wire the model from before that node" in refused(
        server, change(twice, "sample", model=["again", 0])
    )


def test_nodes_that_work_between_segments_are_refused(server, plain, files):
    assert "Longreel KV Share works between the segments of a timeline, and this sampler has no timeline" in refused(
        server, shared(plain)
    )


def test_a_second_way_to_show_the_timeline_is_refused(server, plain, files):
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
    prompt = change({**plain, "blend": blend}, "sample", model=["blend", 0])
    assert "wire the model from before that node" in refused(server, prompt)


def test_a_trained_choice_without_layers_is_refused(server, plain):
    prompt = with_new_layers(plain)
    prompt["apply"] = node(
        "LongreelApplyTTT", **{"model": ["model", 0], "weights": "trained", "weights.strength": 1.0, "layers": "all"}
    )
    assert refusals(server, prompt)


def test_the_demo_models_own_layers_are_among_the_files(server):
    inputs = server.object_info("LongreelLoadTTT")["LongreelLoadTTT"]["input"]["required"]
    assert "shapeworld_ttt_mlp.safetensors" in inputs["file"][1]["options"]
