"""engine/runs/chunk_file.py: a chunk is read to the bit as it was written, and nothing else is taken for one."""

import json
import os
import stat
import time
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from longreel.engine.runs.chunk_file import (
    HEADER_BYTES,
    KEY,
    NAME,
    ChunkKey,
    DamagedChunk,
    NewerVersion,
    chunk_key,
    read_chunk,
    write_chunk,
)
from longreel.engine.runs.content_hash import content_hash
from longreel.engine.runs.whole_file import WriteError

key = chunk_key(7, 2, 1, {"the prompt": "a keeper", "the seed": 7, "the schedule": torch.linspace(1, 0, 5)})
tensors = {"samples": torch.randn(1, 4, 3, 2, 2, generator=torch.Generator().manual_seed(0)), "mask": torch.ones(1)}


@pytest.fixture
def path(tmp_path):
    return write_chunk(tmp_path, key, tensors).path


def about(path):
    header = path.read_bytes()
    return json.loads(json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])["__metadata__"][KEY])


def rewrite(path, values=None, **changes):
    """The file with other tensors or another description, whole as a safetensors file."""
    save_file(values or load_file(path), path, {KEY: json.dumps({**about(path), **changes})})


def test_a_chunk_is_read_as_it_was_written(path):
    chunk = read_chunk(path)
    assert chunk.key == key and chunk.path == path and chunk.hash == key.hash
    assert chunk.tensors.keys() == tensors.keys()
    assert all(torch.equal(chunk.tensors[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool], ids=str
)
def test_every_bit_of_every_dtype_comes_back(tmp_path, dtype):
    values = torch.tensor([0.0, -0.0, 1.0, float("inf"), float("nan")]).to(dtype)
    read = read_chunk(write_chunk(tmp_path, key, {"samples": values}).path).tensors["samples"]
    assert read.dtype == dtype and content_hash(read) == content_hash(values)


def test_what_is_returned_on_writing_is_what_is_read(tmp_path):
    written = write_chunk(tmp_path, key, tensors)
    read = read_chunk(written.path)
    assert written.key == read.key and content_hash(written.tensors) == content_hash(read.tensors)


def test_views_of_one_tensor_are_written_each_for_itself_and_stay_when_it_changes(tmp_path):
    whole = torch.arange(24.0).reshape(2, 3, 4)
    wanted = {"first": whole[:1].clone(), "second": whole[1:].clone(), "across": whole.transpose(0, 1).clone()}
    written = write_chunk(tmp_path, key, {"first": whole[:1], "second": whole[1:], "across": whole.transpose(0, 1)})
    whole.zero_()
    assert content_hash(written.tensors) == content_hash(read_chunk(written.path).tensors) == content_hash(wanted)


def test_what_is_read_stays_when_the_file_changes(path):
    read = read_chunk(path)
    path.write_bytes(bytes(path.stat().st_size))
    assert all(torch.equal(read.tensors[name], tensors[name]) for name in tensors)


def test_the_name_has_the_number_and_the_start_of_the_hash(path):
    assert path.name == f"chunk_0007_{key.hash[:12]}.safetensors"
    assert NAME.fullmatch(path.name)
    assert NAME.fullmatch(replace(key, number=12345).file_name)


def test_the_same_chunk_makes_the_same_file(path, tmp_path):
    before = path.read_bytes()
    write_chunk(tmp_path, key, tensors)
    assert path.read_bytes() == before


def test_a_header_of_many_dependencies_is_within_its_allowance(tmp_path):
    many = chunk_key(0, 0, 0, {f"a dependency with a long name, number {number}": number for number in range(100)})
    path = write_chunk(tmp_path, many, {"samples": torch.zeros(1000)}).path
    assert path.stat().st_size - 4000 < HEADER_BYTES


def test_a_hash_depends_on_names_and_values_and_not_on_places_or_order():
    dependencies = {"the prompt": "a", "the seed": 1}
    known = chunk_key(0, 0, 0, dependencies).hash
    assert chunk_key(5, 4, 3, {"the seed": 1, "the prompt": "a"}).hash == known
    others = [
        {},
        {"the prompt": "a"},
        {"the prompt": "b", "the seed": 1},
        {"the prompt": "a", "seed": 1},
        {"the prompt": 1, "the seed": "a"},
        {**dependencies, "cfg": 1},
    ]
    assert len({known, *(chunk_key(0, 0, 0, other).hash for other in others)}) == 7


def test_a_dependency_without_content_is_named():
    with pytest.raises(TypeError, match=r"the sampler\[0\] is of type builtins.object"):
        chunk_key(0, 0, 0, {"the seed": 1, "the sampler": [object()]})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(part=st.floats(0, 1, exclude_max=True))
def test_a_file_that_was_cut_short_is_damaged(path, part):
    short = path.with_name("short.safetensors")
    short.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(DamagedChunk, match=r"^short.safetensors has \d+ bytes that are no whole safetensors file \("):
        read_chunk(short)


def test_every_byte_counts(tmp_path):
    """Whichever byte of the file changes, it is not taken for the chunk that it was."""
    path = write_chunk(tmp_path, chunk_key(0, 0, 0, {"the seed": 1}), {"x": torch.arange(3.0)}).path
    whole, known = path.read_bytes(), read_chunk(path)
    taken = []
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            read = read_chunk(path)
        except DamagedChunk:
            continue
        if (read.hash, content_hash(read.tensors)) != (known.hash, content_hash(known.tensors)):
            taken.append(place)
    assert taken == []


def test_a_changed_number_is_named_by_the_checksums(path):
    rewrite(path, {**tensors, "samples": tensors["samples"] + 1})
    with pytest.raises(
        DamagedChunk,
        match=rf"{path.name} was written with checksum {about(path)['checksum'][:12]} and has "
        rf"[0-9a-f]{{12}}: its numbers were changed",
    ):
        read_chunk(path)


@pytest.mark.parametrize(
    "values",
    [
        {"samples": tensors["samples"]},
        {**tensors, "more": torch.ones(1)},
        {**tensors, "samples": tensors["samples"].reshape(1, 4, 3, 4)},
        {"samples": tensors["mask"], "mask": tensors["samples"]},
    ],
)
def test_other_tensors_are_damage(path, values):
    rewrite(path, values)
    with pytest.raises(DamagedChunk, match="its numbers were changed"):
        read_chunk(path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"hash": "0" * 64}, "describes chunk_0007_.*: it was renamed or its description changed"),
        ({"dependencies": {"the prompt": "0" * 64}}, "describes chunk_0007_"),
        ({"number": 8}, "describes chunk_0008_"),
        ({"number": "7"}, r"without Longreel's description of a chunk \(ValueError"),
        ({"checksum": None}, "with checksum None"),
        ({"dependencies": [1]}, "without Longreel's description"),
        ({"dependencies": None}, "without Longreel's description"),
        ({"dependencies": {"x": [[[]]]}}, r"\(TypeError: its dependencies are not all texts by name\)"),
        ({"dependencies": {"x": 1}}, "its dependencies are not all texts by name"),
        ({"number": 10**400}, "its number, shot and piece are not all whole numbers from 0"),
        ({"shot": -1}, "its number, shot and piece are not all whole numbers from 0"),
        ({"piece": True}, "its number, shot and piece are not all whole numbers from 0"),
        ({"hash": 1}, "it was renamed or its description changed"),
        ({"version": 0}, "is of version 0, and this Longreel reads 1"),
        ({"version": "2"}, "is of version '2', and this Longreel reads 1"),
        ({"version": None}, "is of version None"),
    ],
)
def test_another_description_is_damage(path, changes, says):
    rewrite(path, **changes)
    with pytest.raises(DamagedChunk, match=says):
        read_chunk(path)


def test_a_file_of_a_newer_version_is_no_damage_whatever_else_it_holds(path):
    says = rf"^{path.name} is of version 2, and this Longreel reads 1: a newer Longreel made it; update Longreel, or"
    rewrite(path, version=2)
    with pytest.raises(NewerVersion, match=says):
        read_chunk(path)
    assert not issubclass(NewerVersion, DamagedChunk)  # which is replaced
    save_file(tensors, path, {KEY: json.dumps({"version": 2, "chunks": "of another kind"})})
    with pytest.raises(NewerVersion, match=says):
        read_chunk(path)


def deep(depth=100_000):
    return "[" * depth + "]" * depth


@pytest.mark.parametrize("header", [json.dumps({"__metadata__": {KEY: deep()}}), deep(), '{"__metadata__":' + deep()])
def test_a_deep_description_is_damage(path, header):
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode())
    with pytest.raises(DamagedChunk, match=f"^{path.name} has .* bytes"):
        read_chunk(path)


def test_what_is_no_file_is_neither_read_nor_waited_for(path):
    path.unlink()
    os.mkfifo(path)
    started = time.monotonic()
    with pytest.raises(DamagedChunk, match=f"{path.name} is no file but a pipe, a socket or a device"):
        read_chunk(path)
    path.unlink()
    os.mknod(path, stat.S_IFSOCK | 0o600)
    with pytest.raises(DamagedChunk, match="is no file but a pipe, a socket or a device"):
        read_chunk(path)
    assert time.monotonic() - started < 5
    path.unlink()
    path.mkdir()
    with pytest.raises(WriteError, match=f"^{path.name} is a folder, and a chunk's file belongs there; move it out of"):
        read_chunk(path)


def test_a_link_is_read_as_what_it_leads_to(path):
    kept = path.rename(path.with_name("kept"))
    path.symlink_to(kept)
    assert read_chunk(path).key == key


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}, {KEY: ""}, {KEY: "[]"}, {KEY: "{}"}, {KEY: "null"}])
def test_a_file_of_something_else_is_not_taken(path, metadata):
    save_file(tensors, path, metadata)
    with pytest.raises(DamagedChunk, match=r"has \d+ bytes without Longreel's description of a chunk"):
        read_chunk(path)


def test_a_renamed_file_is_not_taken(path):
    other = path.rename(path.with_name("chunk_0008_000000000000.safetensors"))
    with pytest.raises(
        DamagedChunk, match=f"^chunk_0008_000000000000.safetensors describes {path.name}: it was renamed"
    ):
        read_chunk(other)


def test_a_pickle_is_not_run(path):
    torch.save(tensors, path)
    with pytest.raises(DamagedChunk, match="no whole safetensors file"):
        read_chunk(path)


def test_a_file_that_is_gone_is_an_error_of_its_own(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_chunk(tmp_path / ChunkKey(0, 0, 0, {}).file_name)
