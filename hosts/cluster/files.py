"""Name the files that a graph reads from ComfyUI's folders, and say whether another machine has the same ones.

Files are sought by the names that the loaders show, in the folders of their kind and in ComfyUI's input folder, and
nowhere else. Two machines have the same file where its sha256 is the same. That reads all of it, once: it is remembered
as long as the file is not written again, and not asked for where both look at one file of one disk.
"""

import hashlib
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import folder_paths

INPUT = "input"  # ComfyUI's input folder, beside the folders of models
NO_MODELS = ("custom_nodes", "datasets")
LONGEST_NAME = 1000  # characters; a longer text is a prompt or a storyboard
READ_BYTES = 8 * 2**20

Named = tuple[str, str]  # (kind of folder, name in it)
_hashes: dict[tuple, str] = {}  # by path, size and time


def named_in(prompt: Mapping[str, Mapping[str, Any]]) -> list[Named]:
    """Return the files that the nodes of a prompt name, each once."""
    values = [value for node in prompt.values() for value in node["inputs"].values() if isinstance(value, str)]
    names = [value for value in dict.fromkeys(values) if value and len(value) <= LONGEST_NAME and "\n" not in value]
    return [(kind, name) for name in names for kind in _kinds() if path_of((kind, name)) is not None]


def path_of(named: Sequence[str]) -> Path | None:
    """Return where a file lies here; None where its folders have none of that name, or it leads out of them."""
    kind, name = named
    if kind == INPUT:
        root = Path(folder_paths.get_input_directory()).resolve()
        path = (root / folder_paths.annotated_filepath(name)[0]).resolve()
        return path if path.is_relative_to(root) and path.is_file() else None
    if kind not in _kinds():
        return None
    found = folder_paths.get_full_path(kind, name)  # without the name's ways up
    return Path(found) if found and Path(found).is_file() else None


def stat_of(named: Sequence[str]) -> list | None:
    """Return what is the same for one file of one disk alone: host, device, inode, size and time of writing."""
    path = path_of(named)
    if path is None:
        return None
    about = path.stat()
    return [socket.gethostname(), about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns]


def sha256_of(named: Sequence[str]) -> str | None:
    """Return the sha256 of a file in hexadecimal digits; None where there is none."""
    path = path_of(named)
    if path is None:
        return None
    about = path.stat()
    key = (path, about.st_size, about.st_mtime_ns)
    if key not in _hashes:
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            while block := file.read(READ_BYTES):
                digest.update(block)
        _hashes[key] = digest.hexdigest()
    return _hashes[key]


def _kinds() -> Iterator[str]:
    yield INPUT
    yield from (kind for kind in folder_paths.folder_names_and_paths if kind not in NO_MODELS)
