"""Keep a finished chunk in a file: its latents, the hash of all that it depends on, and a checksum of its bytes.

One safetensors file, `chunk_0007_<12 digits of the hash>.safetensors`. Its metadata has, as JSON under one key,

    {"version": 1, "number": 7, "shot": 2, "piece": 0, "hash": ..., "checksum": ..., "dependencies": {name: hash, ...}}

`hash` is that of the dependencies' hashes, so a chunk can be looked for before it is made; `checksum` is that of the
tensors, so a file that was changed or cut short is not taken for a chunk. One of a newer version is no damage but
somebody's work, and is told apart. Where the files lie, and which of them a run uses, is not known here. Pickles are
neither written nor read.
"""

import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from .content_hash import content_hash
from .whole_file import WriteError, write_whole

KEY = "longreel_chunk"
VERSION = 1
HEADER_BYTES = 64 * 1024  # more than names, shapes and metadata of a chunk take
LARGEST_NUMBER = 10**9  # of chunks, shots and pieces; more digits than this no run writes
NAME = re.compile(r"chunk_(\d{4,})_([0-9a-f]{12})\.safetensors")


class DamagedChunk(ValueError):
    """Say that a file is no whole chunk, or not the one that its name says."""


class NewerVersion(ValueError):
    """Say that a newer Longreel wrote a file, which is not damaged and must not be replaced."""


@dataclass(frozen=True)
class ChunkKey:
    """A key says which chunk it is, and what the chunk depends on.

    number: of the chunk in the video, from 0. shot: from 0. piece: of the shot, from 0; shot and piece find a chunk
    again when the shots before it grew. dependencies: content hash by the name that people read ("the prompt"), without
    numbers of shots or chunks, so that a chunk that moved is still the same; make them with `chunk_key`.
    """

    number: int
    shot: int
    piece: int
    dependencies: Mapping[str, str]

    @cached_property
    def hash(self) -> str:
        """Return 64 hexadecimal digits, of the names and hashes of the dependencies and of nothing else."""
        return content_hash(dict(self.dependencies), "dependencies")

    @property
    def file_name(self) -> str:
        return f"chunk_{self.number:04d}_{self.hash[:12]}.safetensors"


@dataclass(frozen=True)
class SavedChunk:
    """This is a chunk as it was written: `tensors` by name, as the caller gave them."""

    key: ChunkKey
    tensors: dict[str, torch.Tensor]
    path: Path

    @property
    def hash(self) -> str:
        """Return the hash of what a chunk that continues from this one depends on. A locked chunk has the hash that it
        was made with.
        """
        return self.key.hash


def chunk_key(number: int, shot: int, piece: int, dependencies: Mapping[str, object]) -> ChunkKey:
    """Hash everything that a chunk depends on, name by name, the likeliest change first: reports name the first.

    Raises TypeError for what has no content hash (engine/runs/content_hash.py), naming type and place.
    """
    return ChunkKey(number, shot, piece, {name: content_hash(value, name) for name, value in dependencies.items()})


def write_chunk(folder: Path, key: ChunkKey, tensors: Mapping[str, torch.Tensor]) -> SavedChunk:
    """Write the file, whole or not at all. Raises WriteError (disk full, read-only) with bytes needed and free."""
    # Copies: what the caller does to its tensors afterwards must not reach a chunk that is finished.
    plain = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    path = folder / key.file_name
    write_whole(path, chunk_bytes(key, plain))
    return SavedChunk(key, plain, path)


def chunk_bytes(key: ChunkKey, tensors: Mapping[str, torch.Tensor]) -> bytes:
    """Return the bytes of a chunk's file; tensors: contiguous and on the CPU."""
    plain = dict(tensors)
    about = {
        "version": VERSION,
        "number": key.number,
        "shot": key.shot,
        "piece": key.piece,
        "hash": key.hash,
        "checksum": content_hash(plain),
        "dependencies": dict(key.dependencies),
    }
    return save(plain, {KEY: json.dumps(about)})


def read_chunk(path: Path) -> SavedChunk:
    """Read and check a file.

    Raises DamagedChunk, naming the file and what is wrong, NewerVersion for a file that a newer Longreel wrote,
    WriteError for a folder, which no file can take the place of, and OSError if it is gone or may not be read.
    """
    # not mapped: what was checked is what is used, also if the file changes afterwards
    return parse_chunk(path, _read_bytes(path))


def parse_chunk(path: Path, data: bytes, any_name: bool = False) -> SavedChunk:
    """Check the bytes of a chunk's file, from a disk or from another machine; errors are those of `read_chunk`.

    path: under which they lie, or would; nothing is read there. any_name: it need not be the one that the chunk has.
    """
    about: Any = _description(path, data)
    version = about.get("version") if isinstance(about, dict) else None
    try:
        tensors = load(data)
        key = _key(about)
        said_hash, checksum = about["hash"], about["checksum"]
    except SafetensorError as error:
        raise DamagedChunk(
            f"{path.name} has {len(data):,} bytes that are no whole safetensors file ({error})"
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedChunk(
            f"{path.name} has {len(data):,} bytes without Longreel's description of a chunk "
            f"({type(error).__name__}: {error})"
        ) from error
    if version != VERSION:
        raise DamagedChunk(f"{path.name} is of version {version!r}, and this Longreel reads {VERSION}")
    if said_hash != key.hash or not (any_name or path.name == key.file_name):
        raise DamagedChunk(f"{path.name} describes {key.file_name}: it was renamed or its description changed")
    found = content_hash(tensors)
    if checksum != found:
        raise DamagedChunk(
            f"{path.name} was written with checksum {str(checksum)[:12]} and has {found[:12]}: its numbers were changed"
        )
    return SavedChunk(key, tensors, path)


def check_version(path: Path) -> None:
    """Raise NewerVersion for a file that a newer Longreel wrote, by its header alone."""
    if path.is_file():
        with open(path, "rb") as file:
            start = file.read(8)
            _description(path, start + file.read(min(int.from_bytes(start, "little"), HEADER_BYTES)))


def _description(path: Path, data: bytes) -> object:
    """Return what the header of a file says of its chunk, and None where it says nothing that can be read, which
    `read_chunk` names once safetensors has said whether the file is whole. Raises NewerVersion.
    """
    try:
        about = json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"][KEY])
        version = about["version"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    if type(version) is int and version > VERSION:
        raise NewerVersion(
            f"{path.name} is of version {version}, and this Longreel reads {VERSION}: a newer Longreel made it; update "
            f"Longreel, or use another run name"
        )
    return about


def _read_bytes(path: Path) -> bytes:
    """Read a plain file, and wait for nothing else that has its name: a pipe would be read for ever."""
    kind = path.stat().st_mode
    if stat.S_ISDIR(kind):
        raise WriteError(f"{path.name} is a folder, and a chunk's file belongs there; move it out of {path.parent}")
    if not stat.S_ISREG(kind):
        raise DamagedChunk(f"{path.name} is no file but a pipe, a socket or a device")
    # Not blocking: it may have become a pipe since.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
        return file.read()


def _key(about: object) -> ChunkKey:
    """Return the key that a description has. Raises TypeError or ValueError where one of its parts is none."""
    if not isinstance(about, dict):
        raise TypeError("it is no mapping of names to values")
    number, shot, piece = about["number"], about["shot"], about["piece"]
    if not all(type(place) is int and 0 <= place < LARGEST_NUMBER for place in (number, shot, piece)):
        raise ValueError("its number, shot and piece are not all whole numbers from 0")
    dependencies = about["dependencies"]
    if not isinstance(dependencies, dict) or not all(type(value) is str for value in dependencies.values()):
        raise TypeError("its dependencies are not all texts by name")
    return ChunkKey(number, shot, piece, dependencies)
