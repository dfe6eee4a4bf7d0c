"""Files of ComfyUI's own folders: where a node reads clips from, and where it leaves what it made."""

from pathlib import Path

import folder_paths

SUFFIX = ".safetensors"


def input_folder(name: str) -> Path:
    """Raises ValueError for a folder outside of ComfyUI's input."""
    root = Path(folder_paths.get_input_directory()).resolve()
    folder = (root / name).resolve()
    if not folder.is_relative_to(root) or not folder.is_dir():
        raise ValueError(f"folder is {name!r}, 0 folders below {root}; put the clips there and choose theirs")
    return folder


def free_file(folder: Path, name: str) -> Path:
    """The next free number in core's naming: nothing that is there is overwritten. The folder is made."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 1
    while (path := folder / f"{name}_{number:05}_{SUFFIX}").exists():
        number += 1
    return path
