"""ComfyUI as a library: what `import comfy` needs where no ComfyUI is running, as in the command that trains.

In ComfyUI's own process its main.py has done all of this before any node is loaded, and nothing happens here. Elsewhere
ComfyUI is looked for in the folder that COMFYUI_PATH names, in the one whose custom_nodes holds this pack, and in the
working folder. Extra model paths (extra_model_paths.yaml) are read by main.py alone, and not here.
"""

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

PACK = Path(__file__).parents[1]
ARGUMENTS = "comfy.cli_args"


def prepare() -> None:
    """Make `import comfy` work, and have it choose the CPU where torch finds no other device.

    Raises ImportError, naming the folders that were looked at, where there is no ComfyUI.
    """
    if ARGUMENTS in sys.modules:
        return
    if importlib.util.find_spec("comfy") is None:
        sys.path.insert(0, str(find_comfyui()))
    arguments = importlib.import_module(ARGUMENTS).args
    accelerated = torch.cuda.is_available() or torch.backends.mps.is_available() or torch.xpu.is_available()
    arguments.cpu = arguments.cpu or not accelerated


def find_comfyui() -> Path:
    """The first of `_places` that holds a ComfyUI; raises ImportError as above."""
    looked_at = list(_places())
    for folder in looked_at:
        if (folder / "comfy" / "sd.py").is_file():
            return folder
    raise ImportError(
        f"none of these folders holds a ComfyUI: {', '.join(map(str, looked_at))}; set "
        f"COMFYUI_PATH to the one with main.py"
    )


def _places() -> Iterator[Path]:
    if named := os.environ.get("COMFYUI_PATH"):
        yield Path(named).resolve()
    if PACK.parent.name == "custom_nodes":
        yield PACK.parent.parent
    yield Path.cwd()
