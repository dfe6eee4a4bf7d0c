"""engine/ttt/files.py: what is saved comes back, ttt-video's names are read, and nothing else is."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from longreel.engine.ttt.files import KEY, LoadedTTT, load_ttt, save_ttt
from longreel.engine.ttt.layer import AS_TRAINED, LINEAR, MLP, OWN
from longreel.engine.ttt.weights import to_published
from tests.engine.ttt_cases import KINDS, make_block


def make_ttt(kind: str = MLP, numbers: tuple[int, ...] = (0, 2), **more) -> LoadedTTT:
    blocks = {number: make_block(kind, seed=number, **more) for number in numbers}
    layers = {number: dict(block.state_dict()) for number, block in blocks.items()}
    return LoadedTTT(layers, blocks[numbers[0]].ttt.config, "Wan", 13, 4, "first try")


def same(one: LoadedTTT, other: LoadedTTT) -> bool:
    layers = all(
        torch.equal(weight, other.layers[number][name])
        for number, block in one.layers.items()
        for name, weight in block.items()
    )
    return list(one.layers) == list(other.layers) and layers and replace(one, layers={}) == replace(other, layers={})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "layers.safetensors"
    save_ttt(path, make_ttt())
    return path


def change(path: Path, tensors: dict | None = None, **about) -> Path:
    """The same file with other tensors (None: left out) or other metadata."""
    with safe_open(path, "pt") as file:
        said = json.loads(file.metadata()[KEY])
    kept = {**load_file(path), **(tensors or {})}
    said = {name: value for name, value in {**said, **about}.items() if value is not None}
    save_file({name: value for name, value in kept.items() if value is not None}, path, {KEY: json.dumps(said)})
    return path


def published(path: Path, kind: str = MLP, numbers=(0, 1), prefix: str = "dit.") -> Path:
    save_file(
        {
            f"{prefix}layers.{number}.seq_modeling_block.{name}": value
            for number in numbers
            for name, value in to_published(make_block(kind, seed=number).state_dict()).items()
        },
        path,
    )
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_what_is_saved_comes_back(tmp_path, kind, dtype):
    ttt = make_ttt(kind, norm_eps=1e-8, rates=OWN)
    ttt = replace(
        ttt,
        layers={
            number: {name: weight.to(dtype) for name, weight in block.items()} for number, block in ttt.layers.items()
        },
    )
    save_ttt(tmp_path / "new" / "layers.safetensors", ttt)
    assert same(ttt, load_ttt(tmp_path / "new" / "layers.safetensors"))


def test_the_header_alone_says_what_the_file_is(saved):
    header, whole = load_ttt(saved, shapes_only=True), load_ttt(saved)
    assert replace(header, layers={}) == replace(whole, layers={}) and header.summary() == whole.summary()
    assert all(weight.is_meta for block in header.layers.values() for weight in block.values())


def test_the_summary_says_whose_how_many_and_how_large(saved):
    assert load_ttt(saved).summary() == (
        "first try\nTTT-mlp for Wan: 2 of 4 blocks, 2 heads of 16 channels\n"
        "learns from 4 tokens at once; trained on segments of 13 latent frames\n0.0 million numbers, 0.1 MiB"
    )


def test_the_summary_of_ttt_videos_layers_says_what_is_otherwise_here():
    loaded = replace(make_ttt(rates=AS_TRAINED), family="CogVideoX")
    for word in ("<end_scene>", "<start_scene>", "458 to 502 tokens, here 226", "multiplies them by 0.7"):
        assert word in loaded.summary()
        assert word not in replace(loaded, family="Wan").summary()
        assert word not in replace(make_ttt(rates=OWN), family="CogVideoX").summary()


def test_a_failed_save_leaves_the_old_file_and_nothing_else(saved, monkeypatch):
    before = saved.read_bytes()

    def fail(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("longreel.engine.runs.whole_file.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save_ttt(saved, make_ttt())
    assert saved.read_bytes() == before and list(saved.parent.iterdir()) == [saved]


def test_leads_are_kept_and_a_file_that_names_none_has_none(tmp_path):
    path = tmp_path / "a.safetensors"
    for lead in (2, 0):
        save_ttt(path, replace(make_ttt(), lead_frames=lead))
        assert load_ttt(path).lead_frames == lead
        assert ("latent frames led by 2" in load_ttt(path).summary()) == bool(lead)
        with safe_open(path, "pt") as file:
            assert ("lead_frames" in file.metadata()[KEY]) == bool(lead)


def test_weights_that_are_not_what_they_are_said_to_be_are_not_saved(tmp_path):
    ttt = make_ttt()
    with pytest.raises(ValueError, match="TTT layers for the blocks 0, 2 of a network of 2; use blocks 0 to 1"):
        save_ttt(tmp_path / "a.safetensors", replace(ttt, blocks=2))
    del ttt.layers[2]["forward_text"]
    with pytest.raises(ValueError, match="block 2: 1 of 22 TTT weights are missing, first forward_text"):
        save_ttt(tmp_path / "a.safetensors", ttt)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("kind", "chunk", "base_rate"), [(MLP, 64, 0.1), (LINEAR, 16, 1.0)])
@pytest.mark.parametrize("prefix", ["dit.", "model.dit.", "model.", ""])
def test_ttt_videos_names_are_read(tmp_path, prefix, kind, chunk, base_rate):
    ttt = load_ttt(published(tmp_path / "x.safetensors", kind, prefix=prefix))
    assert (ttt.family, ttt.blocks, ttt.segment_latent_frames, list(ttt.layers)) == ("CogVideoX", 2, 13, [0, 1])
    assert (ttt.config.kind, ttt.config.chunk, ttt.config.base_rate) == (kind, chunk, base_rate)
    assert ttt.config.rates == AS_TRAINED and ttt.config.norm_eps == 1e-6
    expected = make_block(kind, seed=1).state_dict()
    assert all(torch.equal(ttt.layers[1][name], weight) for name, weight in expected.items())


def test_the_rest_of_a_checkpoint_is_left_where_it_is(tmp_path):
    path = published(tmp_path / "x.safetensors")
    others = {
        "dit.layers.0.mlp.layer1.weight": torch.zeros(2),
        "dit.layers.7.q.weight": torch.zeros(2, dtype=torch.int8),
    }
    save_file({**load_file(path), **others}, path)
    assert load_ttt(path).blocks == 2


def test_chunk_is_taken_where_the_file_does_not_say_and_refused_where_it_does(tmp_path, saved):
    assert load_ttt(published(tmp_path / "x.safetensors"), chunk=16).config.chunk == 16
    assert load_ttt(saved, chunk=4).config.chunk == 4
    with pytest.raises(
        ValueError,
        match="layers.safetensors: trained with 4 tokens at once, and chunk is 16, which "
        "would compute something else; use 0, the file's own",
    ):
        load_ttt(saved, chunk=16)


@pytest.mark.parametrize("name", ["layers.pt", "layers.ckpt", "layers.pth", "layers.bin", "layers"])
def test_pickles_are_refused_by_name_and_not_opened(tmp_path, name):
    with pytest.raises(ValueError, match=f"^{name} is a .*, and TTT layers are read from .safetensors alone"):
        load_ttt(tmp_path / name)


@pytest.mark.parametrize(
    "tensors",
    [
        {"blocks.0.attn.to_q.lora_up.weight": torch.zeros(2, 2), "blocks.0.attn.to_q.alpha": torch.zeros(1)},
        {
            "blocks.0.self_attn.q.weight": torch.zeros(2, 2),
            "blocks.0.self_attn.q.bias": torch.zeros(2, dtype=torch.int8),
        },
        {"layers.0.mlp.layer1.weight": torch.zeros(2, 2), "x": torch.zeros(1)},
    ],
    ids=["lora", "wan", "cogvideox"],
)
def test_a_file_of_something_else_is_refused(tmp_path, tensors):
    path = tmp_path / "other.safetensors"
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(
        ValueError, match="other.safetensors: none of the 2 tensors is TTT's, with no longreel_ttt in the"
    ):
        load_ttt(path)


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"blocks.2.backward_text": None}, "block 2: 1 of 22 TTT weights are missing, first backward_text"),
        ({"blocks.0.more": torch.zeros(1)}, "block 0: 1 of 23 weights are not this TTT block's, first more"),
        (
            {"blocks.0.ttt.W1": torch.zeros(2, 16, 32)},
            r"block 0: ttt.W1 has shape \[2, 16, 32\], the block \[2, 16, 64\]",
        ),
        (
            {"blocks.0.ttt.W1": torch.zeros(2, 16, 64, dtype=torch.int8)},
            "blocks.0.ttt.W1 is stored as I8, and TTT layers are read from F64, F32, F16, BF16",
        ),
        (
            {"blocks.3.forward_text": torch.zeros(32)},
            "holds the blocks 0, 2-3 and should hold 0, 2; the file is not whole",
        ),
    ],
)
def test_tensors_that_do_not_belong_together_are_named(saved, tensors, says):
    with pytest.raises(ValueError, match=says):
        load_ttt(change(saved, tensors))


def test_a_layer_that_is_gone_is_missed(saved):
    gone = {name: None for name in load_file(saved) if name.startswith("blocks.2.")}
    with pytest.raises(ValueError, match="holds the blocks 0 and should hold 0, 2; the file is not whole"):
        load_ttt(change(saved, gone))


@pytest.mark.parametrize(
    ("about", "says"),
    [
        ({"version": 2}, "metadata longreel_ttt is of version 2, and this Longreel reads 1; update the pack"),
        ({"version": None}, "of version None"),
        ({"width": 64}, r"block 0: forward_text has shape \[32\], the block \[64\]; the file belongs to another model"),
        ({"heads": 1}, r"ttt.learnable_ttt_lr_weight has shape \[2, 1, 32\], the block \[1, 1, 32\]"),
        ({"heads": 3}, "32 channels in 3 heads are 10.6667 each"),
        ({"kind": "cubic"}, "unknown kind of TTT layer 'cubic', none of 5; use linear, mlp"),
        ({"kind": "linear"}, "weights are not this TTT block's"),
        ({"rates": "fast"}, "unknown learning rates 'fast'"),
        ({"blocks": 2}, "TTT layers for the blocks 0, 2 of a network of 2; use blocks 0 to 1"),
        ({"layers": [0, 2, 3]}, "holds the blocks 0, 2 and should hold 0, 2-3"),
        ({"layers": ["0", 2]}, "not a list of blocks"),
        ({"width": 2**62}, "width is 4611686018427387904, and numbers up to 1,048,576 are read"),
        ({"chunk": 0}, "chunk is 0, not a whole number above 0"),
        ({"chunk": 1.5}, "chunk is 1.5, not a whole number"),
        ({"chunk": True}, "chunk is True"),
        ({"base_rate": float("inf")}, "base_rate is inf, not a number above 0"),
        ({"base_rate": "1"}, "base_rate is '1'"),
        ({"norm_eps": float("nan")}, "norm_eps is nan"),
        ({"family": None}, "family is None, not text"),
        ({"segment_latent_frames": -1}, "segment_latent_frames is -1"),
        ({"lead_frames": -1}, "lead_frames is -1, not a whole number from 0"),
        ({"lead_frames": 1.0}, "lead_frames is 1.0"),
    ],
)
def test_metadata_that_says_something_else_is_refused(saved, about, says):
    with pytest.raises(ValueError, match=says):
        load_ttt(change(saved, **about))


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "5"])
def test_metadata_that_is_no_object_is_refused(saved, text):
    save_file(load_file(saved), saved, {KEY: text})
    with pytest.raises(ValueError, match="layers.safetensors: metadata longreel_ttt is"):
        load_ttt(saved)


@pytest.mark.parametrize("numbers", [(1, 2), (0, 2)])
def test_a_checkpoint_in_which_a_layer_has_no_ttt_is_not_whole(tmp_path, numbers):
    missing = 3 - sum(numbers)
    with pytest.raises(ValueError, match=f"2 of 3 blocks have TTT layers, and block {missing} has none"):
        load_ttt(published(tmp_path / "x.safetensors", numbers=numbers))


def test_a_checkpoint_without_gates_is_refused(tmp_path):
    path = published(tmp_path / "x.safetensors")
    kept = {name: value for name, value in load_file(path).items() if "gating" not in name}
    save_file(kept, path)
    with pytest.raises(ValueError, match="block 0: 4 of 22 TTT weights are missing, first backward_text"):
        load_ttt(path)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(part=st.floats(0, 1, exclude_max=True))
def test_a_file_that_was_cut_short_is_refused(saved, part):
    whole = saved.read_bytes()
    short = saved.with_name("short.safetensors")
    short.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(ValueError, match=r"short.safetensors.* has \d+ bytes .*copy or convert it again"):
        load_ttt(short)


def test_a_file_that_was_cut_short_says_how_much_is_missing(saved):
    whole = saved.read_bytes()
    saved.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match=f"has {len(whole) - 100} bytes and its header speaks of {len(whole)}"):
        load_ttt(saved)


def test_a_pickle_with_another_name_is_not_run(tmp_path):
    torch.save({"x": torch.zeros(3)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="x.safetensors has .* bytes that are no whole safetensors file"):
        load_ttt(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    "number, said",
    [
        (float("nan"), "has 1 of [0-9,]+ numbers NaN or infinite"),
        (float("inf"), "has 1 of [0-9,]+ numbers NaN or infinite"),
        (1e30, "has a number of size 1e.30, and 65,504 is the largest"),
        (-7e4, "has a number of size 7e.04, and 65,504 is the largest"),
    ],
)
def test_weights_that_are_no_numbers_or_beyond_float16_are_named_when_they_are_loaded(saved, tmp_path, number, said):
    name = "blocks.2.ttt.W1"
    wrong = load_file(saved)[name].clone()
    wrong[0, 0, 1] = number
    change(saved, {name: wrong})
    assert load_ttt(saved, shapes_only=True).blocks == 4, "a header has no numbers"
    with pytest.raises(ValueError, match=f"layers.safetensors: {name} {said}"):
        load_ttt(saved)
    ttt = make_ttt()
    ttt.layers[2]["ttt.W1"] = wrong
    with pytest.raises(ValueError, match=f"{name} {said}"):
        save_ttt(tmp_path / "new.safetensors", ttt)
    assert not (tmp_path / "new.safetensors").exists()


def test_published_weights_that_are_no_numbers_are_named(tmp_path):
    path = published(tmp_path / "video.safetensors")
    weights = load_file(path)
    name = next(iter(weights))
    weights[name].flatten()[0] = float("nan")
    save_file(weights, path)
    with pytest.raises(ValueError, match=f"video.safetensors: {name} has 1 of"):
        load_ttt(path)


@pytest.mark.parametrize(
    "field, number",
    [("base_rate", 1e9), ("base_rate", 1001.0), ("norm_eps", 5.0), ("norm_eps", 0.02), ("norm_eps", 1e-30)],
)
def test_rates_and_epsilons_that_no_layer_learns_with_are_refused_by_name(saved, field: str, number: float):
    change(saved, **{field: number})
    for shapes_only in (True, False):
        with pytest.raises(ValueError, match=f"layers.safetensors: .*{field}"):
            load_ttt(saved, shapes_only=shapes_only)
