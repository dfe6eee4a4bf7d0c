"""Write a file that is there whole or not at all, whenever the process is killed or the power fails.

It is written under another name in its own folder, given to the disk, and only then renamed, which every file system
does at once; the folder is given to the disk too, or the name could be lost. What the files hold is not known here.
Two processes that write the same file at once are not expected: engine/runs/lock.py keeps them apart.
"""

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

UNFINISHED = ".{}.part"
FOLDER_IS_NOT_SYNCED = (errno.EINVAL, errno.ENOTSUP)  # network folders that keep names by themselves


class WriteError(OSError):
    """Say that a file could not be written; what stood in its place is untouched."""


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` to `path`; a file that is there stays as it is until the new one is complete, and if it fails.

    Raises WriteError with the bytes needed and free: disk full, a folder that is gone or may not be written.
    """
    unfinished = path.with_name(UNFINISHED.format(path.name))
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
        raise WriteError(
            f"{path.name} needs {len(data):,} bytes, and writing stopped ({error.strerror}) with "
            f"{free_bytes(path.parent):,} bytes free in {path.parent}; free space there or make the folder "
            f"writable, then queue again: what was finished is kept"
        ) from error


def remove_unfinished(folder: Path) -> list[str]:
    """Remove what processes that were killed while writing left in `folder`, and return the names of the files they
    were to be.
    """
    prefix, suffix = UNFINISHED.split("{}")
    left_over = sorted(folder.glob(UNFINISHED.format("*")))
    for path in left_over:
        path.unlink()
    return [path.name[len(prefix) : -len(suffix)] for path in left_over]


def free_bytes(folder: Path) -> int:
    """Return the bytes that this user may still write where `folder` is, or would be."""
    return shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if os.path.exists(path))).free


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
    """Write a safetensors file that is there whole or not at all; `metadata` are the texts in its header."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    os.close(handle)
    try:
        save_file(dict(tensors), unfinished, metadata=dict(metadata))
        os.replace(unfinished, path)
    finally:
        Path(unfinished).unlink(missing_ok=True)


def check_whole(path: Path) -> None:
    """Raise ValueError for a safetensors file that was cut short.

    Such a file is 8 bytes that count those of its header, the header as JSON, and the bytes that it speaks of.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(8)
        header = int.from_bytes(start, "little")
        if len(start) == 8 and 2 <= header <= size - 8:
            try:
                entries = json.loads(file.read(header))
                ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
                needed = 8 + header + max(ends, default=0)
            except (ValueError, AttributeError, KeyError, TypeError, IndexError):
                return  # no header at all: safetensors says what is wrong with it
        else:
            needed = 8 + header
    if size < needed and header < 2**32:
        raise ValueError(
            f"the file has {size} bytes and its header speaks of {needed}: it was cut short, or is no "
            f"safetensors file; copy or convert it again"
        )
