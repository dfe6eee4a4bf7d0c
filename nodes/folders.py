"""Files of ComfyUI's own folders: where a node reads clips and weights from, and where it leaves what it made."""

import os
import re
from pathlib import Path
from reprlib import Repr

import folder_paths

from ..engine.runs.disk import stopped
from ..engine.runs.name import check_bytes

SUFFIX = ".safetensors"
NAME = re.compile(r"[\w][\w .-]{0,99}")
NUMBERED = len(f"_00001_{SUFFIX}")  # bytes that `free_file` puts behind a name
MOST_PATH_BYTES = 4095  # Linux's PATH_MAX without its last byte
_SHORT = Repr()
_SHORT.maxstring = 200
short = _SHORT.repr  # of a text that may be of megabytes
FILLED_IN = re.compile(r"%(width|height|year|month|day|hour|minute|second)%")  # what core writes for them is shorter


def add_model_folder(name: str, *further: Path) -> None:
    """Make models/`name` a folder of ComfyUI's, where files are saved, and `further` ones in which it looks for
    them."""
    for folder in (Path(folder_paths.models_dir) / name, *further):
        folder_paths.add_model_folder_path(name, str(folder))
    folder_paths.folder_names_and_paths[name][1].add(SUFFIX)  # what the list of files shows


def model_file(folder: str, file: str) -> Path:
    """A file of one of ComfyUI's model folders. Raises ValueError where there is none of this name."""
    path = folder_paths.get_full_path(folder, file)
    if path is None:
        looked_in = " and ".join(folder_paths.get_folder_paths(folder))
        raise ValueError(f"file {short(file)} is not in {looked_in}; put it there, or choose another")
    return Path(path)


def fingerprint(path: Path | None) -> tuple[int, int] | float:
    """What changes when a file is written again; None, a file that comes through a wire, is read on every run."""
    if path is None:
        return float("nan")  # unlike itself
    about = path.stat()
    return about.st_mtime_ns, about.st_size


def input_folder(name: str) -> Path:
    """A folder below ComfyUI's input. Raises ValueError for one that lies elsewhere, or is not there."""
    root = Path(folder_paths.get_input_directory()).resolve()
    folder = (root / name).resolve()
    if not folder.is_relative_to(root) or not folder.is_dir():
        raise ValueError(f"folder {name!r} is no folder below {root}; put the clips into one there and choose it")
    return folder


def clips_folder(name: str) -> Path:
    """A folder of clips below ComfyUI's input. Raises ValueError as `input_folder` does, and for a file that is a link
    to elsewhere: a data set reads what the input folder holds and nothing else, as anchors do."""
    root, folder = Path(folder_paths.get_input_directory()).resolve(), input_folder(name)
    for path in sorted(folder.iterdir()):
        for file in (path, *(sorted(path.iterdir()) if path.is_dir() else ())):
            if not file.resolve().is_relative_to(root):
                raise ValueError(
                    f"{file.relative_to(folder)} in folder {name!r} is a link that leaves the input folder {root}; "
                    f"copy the file into that folder"
                )
    return folder


def output_folder(below: str) -> Path:
    """A folder below ComfyUI's output, which need not be there yet."""
    return Path(folder_paths.get_output_directory()) / below


def free_file(folder: Path, name: str) -> Path:
    """The next free number in core's naming: nothing that is there is overwritten. The folder is made."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 1
    while (path := folder / f"{name}_{number:05}_{SUFFIX}").exists():
        number += 1
    return path


def check_name(what: str, name: str, added: int = 0) -> str:
    """-> `name`, the input `what`, of a file or folder that is to be made, with bytes `added` behind it. Raises
    ValueError for a path or an odd one."""
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{what} is {short(name)}, which names no folder or file; use 1 to 100 letters, digits, spaces, dots, "
            f"dashes and underscores"
        )
    check_bytes(what, name, added)
    return name


def numbered_place(prefix: str, width: int = 0, height: int = 0) -> tuple[Path, str, int, str]:
    """-> the folder below the output folder, which is made, the name in it, its next number, and the subfolder. Raises
    WriteError where the folder cannot be made or read."""
    output = folder_paths.get_output_directory()
    try:
        folder, name, counter, below, _ = folder_paths.get_save_image_path(prefix, output, width, height)
    except OSError as error:
        raise stopped(f"the folder of {short(prefix)}", "cannot be used", Path(output), error) from error
    return Path(folder), name, counter, below


def check_prefix(prefix: str, ending: str) -> None:
    """Raise ValueError where core can make no new file `<prefix>_00001_<ending>` in the output folder."""
    output = Path(folder_paths.get_output_directory())
    if (taken := len(prefix.encode("utf-8", "surrogatepass"))) > MOST_PATH_BYTES:  # before it is looked for
        raise ValueError(f"filename_prefix has {taken:,} bytes, and a path has at most {MOST_PATH_BYTES:,}; shorten it")
    if "\0" in prefix or any(0xD800 <= ord(letter) <= 0xDFFF for letter in prefix):
        raise ValueError(
            f"filename_prefix is {short(prefix)}, which has a letter that no file name may have; use letters, digits, "
            f"spaces, - and _"
        )
    if not folder_paths.is_within_directory(str(output), str(output / prefix)):
        raise ValueError(f"filename_prefix {short(prefix)} leaves the output folder {output}; use a name inside it")
    if Path(prefix).name in ("", "..") or prefix.endswith(("/", "\\")):
        raise ValueError(f"filename_prefix {short(prefix)} has no file name; use for instance longreel/video")
    if Path(prefix).name.startswith("."):
        raise ValueError(
            f"filename_prefix {short(prefix)} is the name of a hidden file, which file managers do not show; let it "
            f"begin with a letter"
        )
    *folders, name = Path(FILLED_IN.sub("00", prefix)).parts
    for folder in folders:
        check_bytes(f"filename_prefix: the folder {folder[:20]}...", folder)
    check_bytes("filename_prefix: the name of the file", name, len(f"_00001_{ending}"))
    path = output.joinpath(*folders)
    if (taken := len(os.fsencode(path / name))) > MOST_PATH_BYTES - NUMBERED:
        raise ValueError(
            f"filename_prefix: the path of the file has {taken:,} bytes, and at most "
            f"{MOST_PATH_BYTES - NUMBERED:,} are taken; shorten it"
        )
    while not path.exists():  # ends at the output folder, or above it where there is none yet
        path = path.parent
    if not path.is_dir():
        raise ValueError(
            f"filename_prefix {short(prefix)} wants the folder {path}, and there is a file of this name; use another"
        )
