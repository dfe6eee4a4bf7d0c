"""Write a file that is there whole or not at all, whenever the process is killed or the power fails.

It is written under another name in its own folder, given to the disk, and only then renamed, which every file system
does at once; the folder is given to the disk too, or the name could be lost. What the files hold is not known here.
Two processes that write the same file at once are not expected: engine/runs/lock.py keeps them apart.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from .disk import WriteError, free_bytes, stopped
from .json_text import read_json
from .unfinished import growing_folder

__all__ = ["WriteError", "check_whole", "free_bytes", "remove_unfinished", "save_whole", "write_whole"]

UNFINISHED = ".{}.part"
MOST_HEADER_BYTES = 4 * 2**20  # 40 times those of the largest video models
MOST_TENSORS = 20_000
FOLDER_IS_NOT_SYNCED = (errno.EINVAL, errno.ENOTSUP)  # network folders that keep names by themselves


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` to `path`; a file that is there stays as it is until the new one is complete, and if it fails.

    Raises WriteError with the bytes needed and free: disk full, a folder that is gone or may not be written.
    """
    unfinished = path.with_name(UNFINISHED.format(path.name))
    for place in (path, unfinished):
        if place.is_dir():
            raise WriteError(f"{place.name} is a folder, and a file belongs there; move it out of {path.parent}")
    try:
        with open(unfinished, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        _sync_folder(path.parent)
    except OSError as error:
        # Its bytes may be what a full disk lacks; where even this fails, the next opening of the folder removes it.
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise stopped(path.name, f"needs {len(data):,} bytes", path.parent, error) from error


def remove_unfinished(folder: Path) -> list[str]:
    """Remove what processes that were killed while writing left in `folder`, and return the names of the files they
    were to be.
    """
    prefix, suffix = UNFINISHED.split("{}")
    left_over = sorted(path for path in folder.glob(UNFINISHED.format("*")) if path.is_symlink() or path.is_file())
    for path in left_over:  # a folder of such a name is somebody else's
        path.unlink()
    return [path.name[len(prefix) : -len(suffix)] for path in left_over]


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return  # Windows opens no folders, and NTFS writes names in order
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in FOLDER_IS_NOT_SYNCED:
            raise
    finally:
        os.close(handle)


def save_whole(path: Path | str, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file that is there whole or not at all; `metadata` are the texts in its header.

    Raises WriteError, as `write_whole` does.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # In a folder: safetensors puts a file of its own in the place of the one it is given, and so past its lock.
        with growing_folder(path.parent) as unfinished:
            whole = unfinished / "whole.safetensors"
            save_file(dict(tensors), whole, metadata=dict(metadata))
            os.replace(whole, path)
    except (OSError, SafetensorError) as error:
        needed = sum(tensor.nbytes for tensor in tensors.values())
        raise stopped(path.name, f"needs {needed:,} bytes", path.parent, error) from error


def check_whole(path: Path) -> None:
    """Raise ValueError for a safetensors file that was cut short, or whose header nobody's network needs.

    Such a file is 8 bytes that count those of its header, the header as JSON, and the bytes that it speaks of. Takes
    the time of a header, however large the file is; ComfyUI answers nobody meanwhile.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise ValueError("it is no file but a folder, a pipe or a device; remove it")  # a pipe is waited for
    size = about.st_size
    with open(path, "rb") as file:
        start = file.read(8)
        header = int.from_bytes(start, "little")
        if len(start) == 8 and 2 <= header <= size - 8:
            if header > MOST_HEADER_BYTES:
                raise ValueError(
                    f"its header has {header:,} bytes, and at most {MOST_HEADER_BYTES:,} are read; the file is no "
                    f"safetensors file, or damaged: copy or convert it again"
                )
            try:
                entries = read_json(file.read(header))
                ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
                needed = 8 + header + max(ends, default=0)
            except (ValueError, AttributeError, KeyError, TypeError, IndexError):
                return  # no header at all: safetensors says what is wrong with it
            if len(ends) > MOST_TENSORS:
                raise ValueError(
                    f"the file holds {len(ends):,} tensors, and at most {MOST_TENSORS:,} are read; choose another"
                )
        else:
            needed = 8 + header
    if size < needed and header < 2**32:
        raise ValueError(
            f"the file has {size} bytes and its header speaks of {needed}: it was cut short, or is no "
            f"safetensors file; copy or convert it again"
        )
