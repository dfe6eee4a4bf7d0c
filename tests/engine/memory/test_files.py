"""engine/memory/files.py: what is saved comes back, and nothing else is read."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from longreel.engine.memory.apm import APM, APMConfig
from longreel.engine.memory.cam import CAM, CAMConfig
from longreel.engine.memory.files import APM_KIND, CAM_KIND, KEY, LoadedMemory, load_memory, save_memory

LAYERS = (1, 3)
DEEP = "[" * 100_000 + "]" * 100_000
ONE_TENSOR = {"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}


def make(kind: str = CAM_KIND, dtype: torch.dtype = torch.float32) -> LoadedMemory:
    torch.manual_seed(0)
    if kind == CAM_KIND:
        config = CAMConfig(4, (8, 12), 64, 2)
        module = CAM(config, LAYERS)
    else:
        config = APMConfig(4, 16, 7, 3, vector=6, inner=5)
        module = APM(config, LAYERS)
    weights = {name: value.to(dtype) for name, value in module.state_dict().items()}
    return LoadedMemory(kind, config, weights, "Wan", 4, LAYERS, "first try")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "memory.safetensors"
    save_memory(path, make())
    return path


def change(path: Path, tensors: dict | None = None, **about) -> Path:
    """The same file with other tensors (None: left out) or other metadata."""
    with safe_open(path, "pt") as file:
        said = json.loads(file.metadata()[KEY])
    kept = {name: value for name, value in {**load_file(path), **(tensors or {})}.items() if value is not None}
    said = {name: value for name, value in {**said, **about}.items() if value is not None}
    save_file(kept, path, {KEY: json.dumps(said)})
    return path


@pytest.mark.parametrize("kind", [CAM_KIND, APM_KIND])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_is_saved_comes_back(tmp_path, kind, dtype):
    memory = make(kind, dtype)
    save_memory(tmp_path / "new" / "memory.safetensors", memory)
    loaded = load_memory(tmp_path / "new" / "memory.safetensors", kind)
    assert replace(loaded, weights={}) == replace(memory, weights={})
    assert set(loaded.weights) == set(memory.weights)
    assert all(
        torch.equal(weight, memory.weights[name]) and weight.dtype == dtype for name, weight in loaded.weights.items()
    )


@pytest.mark.parametrize("kind", [CAM_KIND, APM_KIND])
def test_a_built_module_holds_the_weights_themselves(kind):
    memory = make(kind)
    module = memory.build()
    assert all(value.data_ptr() == memory.weights[name].data_ptr() for name, value in module.state_dict().items())
    assert not any(value.requires_grad for value in module.parameters())


def test_a_summary_says_what_it_is():
    assert make().summary().splitlines() == [
        "first try",
        "CAM for Wan: 2 of 4 blocks, 64 channels",
        "0.1 million numbers, 0.2 MiB",
    ]


def test_the_other_kind_is_refused(saved):
    with pytest.raises(ValueError, match="memory.safetensors: holds CAM and APM is wanted"):
        load_memory(saved, APM_KIND)


def test_a_pickle_is_refused_by_name(tmp_path):
    path = tmp_path / "memory.pt"
    torch.save({}, path)
    with pytest.raises(ValueError, match=r"memory.pt is a .pt, .* pickles can run programs"):
        load_memory(path)


def test_a_pickle_that_is_called_safetensors_is_refused(tmp_path):
    path = tmp_path / "memory.safetensors"
    torch.save({"weight": torch.zeros(64)}, path)
    with pytest.raises(ValueError, match="memory.safetensors has|memory.safetensors: the file has"):
        load_memory(path)


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "lora.safetensors"
    save_file({"lora_A": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match=f"lora.safetensors: none of the 1 tensors .* without {KEY}"):
        load_memory(path)


def test_a_file_that_was_cut_short_is_refused(saved):
    whole = saved.read_bytes()
    for size in (4, 100, len(whole) - 1):
        saved.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="memory.safetensors"):
            load_memory(saved)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"injectors.3.proj_out.bias": None}, "1 of 34 weights are missing, first injectors.3.proj_out.bias"),
        ({"injectors.2.proj_out.bias": torch.zeros(64)}, "1 of 35 weights are not this memory's, first injectors.2"),
        ({"injectors.3.proj_out.bias": torch.zeros(63)}, r"injectors.3.proj_out.bias has shape \[63\] .* \[64\]"),
        ({"injectors.3.proj_out.bias": torch.zeros(64, dtype=torch.int64)}, "is stored as I64, and weights"),
        ({"injectors.3.proj_out.bias": torch.full((64,), torch.nan)}, "bias has 64 of 64 numbers NaN or infinite"),
    ],
)
def test_weights_that_do_not_fit_are_named(saved, tensors, message):
    with pytest.raises(ValueError, match=message):
        load_memory(change(saved, tensors))


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"version": 2}, "version 2, and this Longreel reads 1"),
        ({"kind": "ram"}, "kind 'ram' is none of 2, cam, apm"),
        ({"family": None}, "family is None and should be of type str"),
        ({"blocks": True}, "blocks is True and should be of type int"),
        ({"blocks": 3}, r"works in the blocks \[1, 3\] of a network of 3; use some of 0 to 2"),
        ({"layers": []}, r"works in the blocks \[\] of a network of 4"),
        ({"layers": ["1", 3]}, "not a list of blocks"),
        ({"layers": [1]}, "11 of 34 weights are not this memory's"),
        ({"config": {"width": 64}}, r"config has the fields \['width'\]"),
        ({"config": {"in_channels": 4, "channels": 8, "width": 64, "heads": 2}}, "channels is 8, not a list of whole"),
        ({"config": {"in_channels": 0, "channels": [8, 12], "width": 64, "heads": 2}}, "in_channels is 0, not a whole"),
        ({"config": {"in_channels": 4, "channels": [8, 12], "width": 48, "heads": 2}}, "48 channels do not divide"),
        ({"config": {"in_channels": 4, "channels": [8, 12], "width": 32, "heads": 2}}, r"has shape \[.*64.*\]"),
    ],
)
def test_metadata_that_is_wrong_is_named(saved, about, message):
    with pytest.raises(ValueError, match=message):
        load_memory(change(saved, **about))


def test_metadata_that_is_no_json_is_refused(saved):
    save_file(load_file(saved), saved, {KEY: "{"})
    with pytest.raises(ValueError, match="1 characters that are no JSON"):
        load_memory(saved)


def test_nothing_is_written_that_cannot_be_read(saved):
    before = saved.read_bytes()
    memory = make()
    with pytest.raises(ValueError, match="34 of 34 weights are missing"):
        save_memory(saved, replace(memory, weights={}))
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def cam_of(layers: int) -> dict[str, torch.Tensor]:
    """As many layers of one CAM as are asked for, of one number each, which no CAM has."""
    names = CAM(CAMConfig(4, (8, 12), 64, 2), (0,), device=torch.device("meta")).state_dict()
    mine = [name for name in names if name.startswith("injectors.0.")]
    return {name.replace(".0.", f".{number}.", 1): torch.zeros(1) for number in range(layers) for name in mine}


@pytest.mark.parametrize(
    ("tensors", "layers", "message"),
    [
        ({}, 300_000, r"works in 300,000 blocks and holds \d+ tensors"),  # it gave no answer within 300 s
        (cam_of(1500), 1500, "injectors.*has shape|weights are not this memory's|has shape"),
        (cam_of(5000), 5000, "the file holds .* tensors, and at most 20,000 are read|its header has"),
    ],
)
def test_a_file_of_many_layers_is_refused_at_once(saved, tensors, layers, message):
    """A file of 17 KB that named 3,000 layers kept ComfyUI from answering for 14 s."""
    path = change(saved, tensors, blocks=300_000, layers=list(range(layers)))
    started = time.process_time()
    with pytest.raises(ValueError, match=message):
        load_memory(path, shapes_only=True)
    assert time.process_time() - started < 1.0


def test_a_config_of_sizes_that_no_network_has_is_refused_before_it_is_built(saved):
    config = {"in_channels": 4, "channels": [8, 12], "width": 64, "heads": 2}
    for sizes in ({"channels": [8] * 100_000}, {"channels": [2**40, 2**40]}, {"width": 64 * 2**60}):
        with pytest.raises(ValueError, match="up to 64 numbers up to 1,048,576 are read"):
            load_memory(change(saved, config={**config, **sizes}))


def test_the_shapes_are_read_alone_where_they_are_asked_for(tmp_path):
    """The body may be of gigabytes: it is no file's header that takes long."""
    path = tmp_path / "memory.safetensors"
    save_memory(path, make())
    read = load_memory(path, shapes_only=True)
    assert {name: value.shape for name, value in read.weights.items()} == {
        name: value.shape for name, value in make().weights.items()
    }
    assert all(value.is_meta for value in read.weights.values()) and read.summary() == make().summary()


@pytest.mark.parametrize("header", [DEEP, json.dumps({"__metadata__": {KEY: DEEP}, **ONE_TENSOR})])
def test_deep_nesting_is_refused_by_name(tmp_path, header):
    path = tmp_path / "memory.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + bytes(4))
    with pytest.raises(ValueError, match="memory.safetensors.*(no whole safetensors|nested too deep)"):
        load_memory(path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "memory.safetensors")
    with pytest.raises(ValueError, match="memory.safetensors: it is no file but a folder, a pipe or a device"):
        load_memory(tmp_path / "memory.safetensors")
