"""Longreel Sampler in mode rollout, with and without the memory nodes, in a running ComfyUI."""

import json
import time

import pytest
import torch

from tests.comfy_process import ComfyError
from tests.nodes.graphs import ALPHA_SPACE, BOARD, EULER, change, latent, node, refusals, sampled

KNOWN = {
    "method": "known frames",
    "method.shown": "noised",
    "method.frames": 0,
    "method.strength": 1.0,
    "method.decay": 0.0,
}
KEYS = {
    "method": "keys and values",
    "method.frames": 2,
    "method.strength": 1.0,
    "method.decay": 0.0,
    "method.layers": "all",
}
LONG = {"anchor": "video", "frames": 1, "placement": "before", "strength": 1.0, "layers": "all", "statistics": 0.5}
DEFAULTS = {**LONG, "frames": 2}  # the node's defaults


def rollout(prompt, **inputs):
    """A prompt of `sampled` in mode rollout."""
    mode = {"mode": "rollout", "mode.run_name": "", "mode.remove_old": False, "mode.low_noise_from": 0.875}
    return change(prompt, "sample", **{**mode, **{f"mode.{name}": value for name, value in inputs.items()}})


def short(prompt, **inputs):
    """With Longreel Short Memory behind the loader."""
    before = prompt["sample"]["inputs"]["model"]
    return change(
        {**prompt, "short": node("LongreelShortMemory", model=before, **inputs)}, "sample", model=["short", 0]
    )


def long(prompt, **inputs):
    """With Longreel Long Memory behind the loader."""
    before = prompt["sample"]["inputs"]["model"]
    return change({**prompt, "long": node("LongreelLongMemory", model=before, **inputs)}, "sample", model=["long", 0])


@pytest.fixture(scope="module")
def base(tiny_models):
    return rollout(sampled(tiny_models["wan21"], EULER))


@pytest.fixture(scope="module")
def base_latent(server, base):
    return latent(server, base)


def test_mode_joint_is_what_the_node_did_before_it_had_modes(server, tiny_models):
    prompt = sampled(tiny_models["wan21"], EULER)
    assert torch.equal(latent(server, prompt), latent(server, change(prompt, "sample", mode="joint")))


def test_rollout_differs_from_joint_and_has_the_same_size(server, tiny_models, base_latent):
    joint = latent(server, sampled(tiny_models["wan21"], EULER))
    assert joint.shape == base_latent.shape and not torch.equal(joint, base_latent)


def test_it_rolls_out_cogvideox_in_alpha_space(server, tiny_models):
    out = latent(server, rollout(sampled(tiny_models["cogvideox10"], ALPHA_SPACE)))
    assert torch.isfinite(out).all() and out.std() > 0


@pytest.mark.parametrize("inputs", [{"seed": 6}, {"cfg": 1.0}, {"add_noise": False}])
def test_every_widget_changes_the_result(server, base, base_latent, inputs):
    assert not torch.equal(latent(server, change(base, "sample", **inputs)), base_latent)


def test_the_second_expert_and_where_it_begins_change_the_result(server, base, base_latent, tiny_models):
    low = {**base, "low": tiny_models["wan22_14b_low"].prompt_nodes()["model"]}
    two = latent(server, rollout(low, low_noise_model=["low", 0], low_noise_from=0.95))
    assert not torch.equal(two, base_latent)
    late = rollout(low, low_noise_model=["low", 0], low_noise_from=0.8)  # below every step of this schedule
    assert torch.equal(latent(server, late), base_latent)


def test_a_run_of_the_same_name_is_used_again_and_says_so(server, base, base_latent):
    named = {**rollout(base, run_name="board"), "say": node("PreviewAny", source=["sample", 1])}
    first = server.run(named)["say"]["text"][0]
    assert {line.split(": ", 1)[1] for line in first.splitlines()} == {"made: new"}
    folder = server.output_path / "longreel" / "board"
    files = {path.name for path in folder.glob("chunk_*.safetensors")}
    assert len(files) == len(first.splitlines()) and (folder / "storyboard.json").exists()
    other = change(named, "board", text=BOARD.to_json().replace("a star", "a green star"))
    said = server.run(other)["say"]["text"][0].splitlines()
    assert all(line.endswith("reused") for line in said if "shot 3" not in line), said
    assert any("made again: the prompt changed" in line for line in said if "shot 3" in line), said
    tidy = {**rollout(other, run_name="board", remove_old=True)}
    server.run(change(tidy, "save", filename_prefix="tidy"))
    assert {path.name for path in folder.glob("chunk_*.safetensors")} != files
    assert len(list(folder.glob("chunk_*.safetensors"))) == len(files)
    assert torch.equal(latent(server, change(named, "save", filename_prefix="again")), base_latent)


@pytest.mark.parametrize("name", ["a/b", "..", "con", "x" * 300, "日" * 100])
def test_a_run_name_that_is_no_folder_is_refused_when_the_prompt_is_posted(server, base, name):
    found = refusals(server, rollout(base, run_name=name))
    assert len(found) == 1 and found[0].startswith("the run name ")


def test_a_run_name_that_comes_through_a_wire_is_refused_when_it_arrives(server, base):
    wired = {**rollout(base, run_name=["name", 0]), "name": node("PrimitiveString", value="a/b")}
    assert refusals(server, wired) == []
    with pytest.raises(ComfyError, match="the run name 'a/b' has '/' at character 2 of 3"):
        server.run(wired)


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"cfg": 101.0}, "cfg is 101.0; use 0.0 to 100.0"),
        ({"seed": -1}, f"seed is -1; use 0 to {2**64 - 1}"),
        ({"blend": "smear"}, "blend: 'smear' not in ['triangle'"),
        ({"mode.low_noise_from": 2.0}, "low_noise_from is 2.0; use 0.0 to 1.0"),
    ],
)
def test_values_out_of_their_range_are_refused_when_the_prompt_is_posted(server, base, inputs, says):
    found = refusals(server, change(rollout(base, run_name="board"), "sample", **inputs))
    assert len(found) == 1 and found[0].startswith(says)


def test_neutral_memories_leave_the_result_as_it_was(server, base, base_latent):
    assert torch.equal(latent(server, short(base, **KNOWN)), base_latent)
    assert torch.equal(latent(server, short(base, **{**KEYS, "method.strength": 0.0})), base_latent)
    assert torch.equal(latent(server, long(base, **{**LONG, "strength": 0.0, "statistics": 0.0})), base_latent)


@pytest.mark.parametrize(
    ("settings", "inputs"),
    [
        (KNOWN, {"method.shown": "clean"}),
        (KNOWN, {"method.shown": "clean at time 0"}),
        (KNOWN, {"method.frames": 3}),
        (KNOWN, {"method.strength": 0.5}),
        (KNOWN, {"method.frames": 3, "method.decay": 0.5}),
        (KEYS, {}),
        (KEYS, {"method.frames": 1}),
        (KEYS, {"method.strength": 0.5}),
        (KEYS, {"method.layers": "first 1"}),
    ],
)
def test_every_input_of_short_memory_changes_the_result(server, base, base_latent, settings, inputs):
    with_it = latent(server, short(base, **{**settings, **inputs}))
    assert not torch.equal(with_it, base_latent)
    if inputs and settings is KEYS:
        assert not torch.equal(with_it, latent(server, short(base, **settings)))


def test_decay_weakens_what_older_chunks_left(server, tiny_models):
    board = BOARD.to_json().replace('"seconds": 2.0', '"seconds": 4.0')
    base = rollout(sampled(tiny_models["wan21"], EULER, board))
    reads = short(base, **{**KEYS, "method.frames": 6})
    assert not torch.equal(
        latent(server, reads), latent(server, short(base, **{**KEYS, "method.frames": 6, "method.decay": 0.5}))
    )


@pytest.mark.parametrize(
    "inputs",
    [
        {"anchor": "take"},
        {"frames": 3},
        {"placement": "true"},
        {"strength": 0.5},
        {"layers": "first 1"},
        {"statistics": 0.0},
    ],
)
def test_every_input_of_long_memory_changes_the_result(server, base, base_latent, inputs):
    remembered = latent(server, long(base, **LONG))
    assert not torch.equal(remembered, base_latent)
    assert not torch.equal(remembered, latent(server, long(base, **{**LONG, **inputs})))


@pytest.mark.parametrize(
    ("preset", "settings"),
    [
        ("custom", LONG),
        ("same scene throughout", {**DEFAULTS, "anchor": "video"}),
        ("new scene after each cut", {**DEFAULTS, "anchor": "take"}),
        ("colours only", {**DEFAULTS, "anchor": "video", "strength": 0.0, "statistics": 1.0}),
    ],
)
def test_a_preset_of_long_memory_holds_whatever_else_is_set(server, base, preset, settings):
    other = LONG if preset == "custom" else {**LONG, "frames": 1, "placement": "true", "strength": 0.3, "layers": "99"}
    assert torch.equal(latent(server, long(base, **other, preset=preset)), latent(server, long(base, **settings)))


def test_a_memory_without_rollout_is_refused_with_the_remedy(server, tiny_models):
    prompt = sampled(tiny_models["wan21"], EULER)
    for with_it in (long(prompt, **LONG), short(prompt, **KEYS), short(prompt, **KNOWN)):
        with pytest.raises(ComfyError, match="remembers finished chunks, and this sampler makes none; .* mode rollout"):
            server.run(with_it)


def test_two_memories_of_one_kind_are_refused(server, base):
    twice = short(base, **KEYS)
    twice["again"] = node("LongreelShortMemory", model=["short", 0], **KEYS)
    with pytest.raises(ComfyError, match="cannot work on one model: each reads the frames before the window"):
        server.run(change(twice, "sample", model=["again", 0]))


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        (lambda base: long(base, **{**LONG, "statistics": 1.5}), "statistics"),
        (lambda base: long(base, **{**LONG, "anchor": "scene"}), "anchor"),
        (lambda base: long(base, **LONG, preset="best"), "preset"),
        (lambda base: short(base, **{**KEYS, "method.frames": 0}), "frames"),
    ],
)
def test_values_out_of_range_are_refused_before_anything_runs(server, base, prompt, reason):
    found = refusals(server, prompt(base))
    assert found and any(reason in line for line in found), found


def test_progress_names_shot_chunk_and_step_and_an_interrupt_is_quick(server, base):
    texts, asked = [], []

    def listen(kind, data):
        if kind == "preview" and data[:4] == b"\0\0\0\3":
            texts.append(data.decode(errors="replace"))
        if kind == "progress" and data["value"] >= 5 and not asked:
            asked.append(time.monotonic())
            server.interrupt()

    with pytest.raises(ComfyError, match=r"interrupted in LongreelSampler \(node sample\)"):
        server.run(change(change(base, "sigmas", steps=2000), "sample", seed=101), listen=listen)
    assert time.monotonic() - asked[0] < 10  # 2000 steps of each chunk take minutes
    assert any("shot 1/3, chunk 1/" in text and "step " in text for text in texts), texts


def test_each_turn_of_a_loop_keeps_its_own_chunks_of_one_run(server, tiny_models):
    """The body's copies have ids of their own (12.0.0.1, 12.0.0.2), and the same ones in the next queue."""
    prompt = sampled(tiny_models["wan21"], EULER)
    wired = prompt.pop("sample")["inputs"]
    settings = {
        "cfg": 3.0,
        "blend": "triangle",
        "mode": "rollout",
        "mode.run_name": "a loop",
        "mode.remove_old": True,
        "mode.low_noise_from": 0.875,
    }
    takes = ("model", "timeline", "positive", "negative", "latent", "sampler", "sigmas")
    loop = {name: wired[name] for name in takes}
    prompt["loop"] = node("TinyLoop", body="LongreelSampler", settings="", turns=2, **loop)
    prompt |= {f"say{turn}": node("PreviewAny", source=["loop", turn]) for turn in range(2)}
    prompt = {name: one for name, one in prompt.items() if name != "save"}
    said = []
    for add_noise in (True, True, False):
        settings["mode.remove_old"] = len(said) != 1  # so that ComfyUI asks again
        settings["add_noise"] = add_noise
        outputs = server.run(change(prompt, "loop", settings=json.dumps(settings)))
        said.append([outputs[f"say{turn}"]["text"][0] for turn in range(2)])
    first, again, other = said
    assert all("made" in report for report in (*first, *other))
    assert not any("made" in report for report in again)
    assert len(first) == 2
