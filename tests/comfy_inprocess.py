"""Import ComfyUI into the test process, once, on the CPU.

The tests of `hosts` call ComfyUI's own loaders and samplers directly instead of over HTTP; this file makes
`import nodes`, `import folder_paths` and `import comfy...` mean ComfyUI's modules. It knows nothing of the pack.
"""

import importlib
import sys
from pathlib import Path
from types import ModuleType

from longreel import dev

ARGUMENTS = ("--cpu", "--use-pytorch-cross-attention")


def find_comfyui() -> Path:
    """Folder of the ComfyUI that dev.py set up or was told of (COMFYUI_PATH).

    Raises:
        FileNotFoundError: it is not there; the message names the place and the remedy.
    """
    folder = dev.comfyui_path().resolve()
    if not (folder / "comfy" / "sd.py").is_file():
        raise FileNotFoundError(f"no ComfyUI in {folder}; run `python dev.py setup`")
    return folder


def import_comfyui() -> ModuleType:
    """ComfyUI's `nodes` module, in this process. The first call imports ComfyUI (seconds), later ones return it.

    ComfyUI reads its command line while it is imported, so sys.argv is lent to it and given back.

    Raises:
        FileNotFoundError: there is no ComfyUI (see `find_comfyui`).
        ImportError: another `nodes` is imported already, for instance the pack's through a wrong sys.path.
    """
    folder = find_comfyui()
    if "nodes" not in sys.modules:
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
        arguments = sys.argv
        sys.argv = ["main.py", *ARGUMENTS]
        try:
            importlib.import_module("comfy.options").enable_args_parsing()
            importlib.import_module("comfy.cli_args")
        finally:
            sys.argv = arguments
        importlib.import_module("nodes")
        importlib.import_module("comfy.utils").set_progress_bar_enabled(False)
    module = sys.modules["nodes"]
    if Path(str(module.__file__)).resolve().parent != folder:
        raise ImportError(f"`nodes` is {module.__file__}, not {folder / 'nodes.py'}; take the pack's root off sys.path")
    return module
