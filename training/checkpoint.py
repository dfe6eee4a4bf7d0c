"""Keep checkpoints: all that a run needs to go on as if it had never stopped.

One safetensors file for each, `checkpoints/<number>.safetensors`, which is there whole or not at all: it is written
under another name, forced to the disk, and renamed. The one before is deleted only then, so a disk that is full in the
middle costs the new one alone. What the tensors mean is the trainer's matter; `about` is JSON in the metadata.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

KEY = "longreel_training"
VERSION = 1
SUFFIX, UNFINISHED = ".safetensors", ".unfinished-"


@dataclass(frozen=True)
class Checkpoint:
    """This is what a run goes on from. about: what JSON holds of the run; tensors by name."""

    path: Path
    about: dict
    tensors: dict[str, torch.Tensor]


def save(folder: Path, number: int, tensors: Mapping[str, torch.Tensor], about: Mapping) -> Path:
    """Write checkpoint `number` (0 or more) and delete all others, and what a killed process left half written. One
    process at a time writes to a folder.

    Raises OSError, naming how much was needed and how much is free, where the disk is full; those that were there
    still are.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{number:08}{SUFFIX}"
    for left in folder.glob(f"{UNFINISHED}*"):
        left.unlink()
    handle, unfinished = tempfile.mkstemp(dir=folder, prefix=UNFINISHED)
    os.close(handle)
    try:
        save_file(
            {name: value.detach().cpu().contiguous() for name, value in tensors.items()},
            unfinished,
            {KEY: json.dumps({"version": VERSION, **about})},
        )
        with open(unfinished, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except (OSError, SafetensorError) as error:
        needed, free = bytes_of(tensors), shutil.disk_usage(folder).free
        kept = [old.name for old in sorted(folder.glob(f"*{SUFFIX}"))]
        last = f"the last good one, {kept[-1]}, is still there" if kept else "there is none before it"
        raise OSError(
            f"a checkpoint of {needed:,} bytes could not be written to {folder}, which has {free:,} free "
            f"({error}); {last}: make room and start again with the same command"
        ) from error
    finally:
        Path(unfinished).unlink(missing_ok=True)
    for old in folder.glob(f"*{SUFFIX}"):
        if old != path:
            old.unlink()
    return path


def check_room(folder: Path, needed: int) -> None:
    """Raise ValueError where the disk of `folder` has fewer than `needed` bytes free."""
    existing = next(path for path in (Path(folder).absolute(), *Path(folder).absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise ValueError(
            f"{folder} has {free:,} bytes free and the run's checkpoints take {needed:,}; make room, or "
            f"choose a folder on another disk"
        )


def load_last(folder: Path) -> Checkpoint | None:
    """Return the checkpoint with the highest number, None where there is none.

    Raises ValueError, naming the file, where it is damaged or of another version.
    """
    paths = sorted(Path(folder).glob(f"*{SUFFIX}"))
    if not paths:
        return None
    path = paths[-1]
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get(KEY, "{}"))
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, ValueError) as error:
        raise ValueError(
            f"{path} is no whole checkpoint ({error}, {path.stat().st_size} bytes); delete it to go on from "
            f"{f'an earlier one of {len(paths) - 1}' if len(paths) > 1 else 'the start'}"
        ) from error
    if about.get("version") != VERSION:
        raise ValueError(
            f"{path} is a checkpoint of version {about.get('version')}, and this Longreel reads "
            f"{VERSION}; finish the run with the pack that began it, or start a new run folder"
        )
    return Checkpoint(path, about, tensors)


def bytes_of(tensors: Mapping[str, torch.Tensor]) -> int:
    """Return how many bytes all of these take."""
    return sum(value.nbytes for value in tensors.values())
