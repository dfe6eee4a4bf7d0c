"""Keep a finished chunk in a file: its latents, the hash of all that it depends on, and a checksum of its bytes.

One safetensors file, `chunk_0007_<12 digits of the hash>.safetensors`. Its metadata has, as JSON under one key,

    {"version": 1, "number": 7, "shot": 2, "piece": 0, "hash": ..., "checksum": ..., "dependencies": {name: hash, ...}}

`hash` is that of the dependencies' hashes, so a chunk can be looked for before it is made; `checksum` is that of the
tensors, so a file that was changed or cut short is not taken for a chunk. Where the files lie, and which of them a run
uses, is not known here. Pickles are neither written nor read.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from .content_hash import content_hash
from .whole_file import write_whole

KEY = "longreel_chunk"
VERSION = 1
HEADER_BYTES = 64 * 1024  # more than names, shapes and metadata of a chunk take
NAME = re.compile(r"chunk_(\d{4,})_([0-9a-f]{12})\.safetensors")


class DamagedChunk(ValueError):
    """Say that a file is no whole chunk, or not the one that its name says."""


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
    about = {
        "version": VERSION,
        "number": key.number,
        "shot": key.shot,
        "piece": key.piece,
        "hash": key.hash,
        "checksum": content_hash(plain),
        "dependencies": dict(key.dependencies),
    }
    path = folder / key.file_name
    write_whole(path, save(plain, {KEY: json.dumps(about)}))
    return SavedChunk(key, plain, path)


def read_chunk(path: Path) -> SavedChunk:
    """Read and check a file. Raises DamagedChunk, naming the file and what is wrong, and OSError if it is gone."""
    data = path.read_bytes()  # not mapped: what was checked is what is used, also if the file changes afterwards
    try:
        tensors = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        about = json.loads(header["__metadata__"][KEY])
        key = ChunkKey(about["number"], about["shot"], about["piece"], about["dependencies"])
        version, said_hash, checksum = about["version"], about["hash"], about["checksum"]
        own_name, stored_hash = key.file_name, key.hash
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
    if said_hash != stored_hash or path.name != own_name:
        raise DamagedChunk(f"{path.name} describes {own_name}: it was renamed or its description changed")
    found = content_hash(tensors)
    if checksum != found:
        raise DamagedChunk(
            f"{path.name} was written with checksum {str(checksum)[:12]} and has {found[:12]}: its numbers were changed"
        )
    return SavedChunk(key, tensors, path)
