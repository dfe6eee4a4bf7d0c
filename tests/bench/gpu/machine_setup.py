"""Make a bare machine able to import the pack and ComfyUI, and say which modules it lacks.

Import links for the pack come from `dev.py gpu`. ComfyUI is the one of COMFYUI_PATH, of .comfyui, or of
.gpu/comfyui.tar.xz; packages that such machines lack come from .gpu/site-<Python>.tar.xz (pack.py makes both). A module
that is missing all the same is a failed row of its own. For PyAV alone, which reads and writes video files and takes no
part in sampling, a stand-in is put in its place, because ComfyUI imports it first of all; its row says so.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

from .report import FAILED, OK, Report

ROOT = Path(__file__).resolve().parents[3]
PACKED = ROOT / ".gpu"
COMFYUI_ARCHIVE = PACKED / "comfyui.tar.xz"
MODULES = (  # what importing ComfyUI and the pack's hosts imports, and what the rows need beside it
    "torch", "triton", "numpy", "einops", "safetensors", "transformers", "tokenizers", "scipy", "psutil", "tqdm",
    "PIL", "yaml", "aiohttp", "yarl", "requests", "filelock", "torchsde", "trampoline", "torchvision", "torchaudio",
    "alembic", "sqlalchemy", "pydantic", "blake3", "comfy_kitchen", "comfy_aimdo", "av",
)  # fmt: skip
STAND_INS = {"av": "a stand-in took its place: it reads and writes video files, and nothing that is measured does"}
STAND_IN = '''\
"""Stands where PyAV would: it can be imported, and whatever is called in it raises. Written by machine_setup.py."""
import importlib.abc
import importlib.machinery
import sys
import types


class Missing:
    """Raises where it is made."""

    def __init__(self, *arguments, **named):
        raise ModuleNotFoundError("No module named 'av': dev.py gpu put a stand-in in its place")


class Inside(types.ModuleType):
    """A module of the missing package, in which every name is Missing."""

    __path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Missing


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds every module inside the missing package."""

    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self) if name.startswith(__name__ + ".") else None

    def create_module(self, spec):
        return Inside(spec.name)

    def exec_module(self, module):
        """There is nothing to run."""


sys.meta_path.insert(0, Finder())


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return Missing
'''
LOOK = """\
import importlib.metadata, importlib.util, json, sys
owners = importlib.metadata.packages_distributions()
found = {}
for name in json.loads(sys.argv[1]):
    try:
        there = importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        there = False
    versions = [importlib.metadata.version(owner) for owner in owners.get(name, ())[:1]]
    found[name] = (versions or ["there"])[0] if there else None
print(json.dumps(found))
"""


def site_archive() -> Path:
    """Where the packages for this Python would be."""
    return PACKED / f"site-{sys.version_info.major}.{sys.version_info.minor}.tar.xz"


def prepare(folder: Path, report: Report) -> dict[str, str]:
    """Unpack what was brought along into `folder`, write the rows about it, and return the rows' environment."""
    environment = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    comfyui = find_comfyui(folder)
    if comfyui is None:
        missing(report, "ComfyUI", "FileNotFoundError", f"neither COMFYUI_PATH nor .comfyui nor {COMFYUI_ARCHIVE.name}")
    else:
        environment["COMFYUI_PATH"] = str(comfyui)
        report.row("ComfyUI", state=OK, figures={"version": comfyui_version(comfyui), "folder": str(comfyui)})
    site = folder / "site"
    site.mkdir(exist_ok=True)
    if site_archive().is_file():
        unpack(site_archive(), site)
    add_path(environment, site)
    found = look(environment)
    for name in [name for name, version in found.items() if version is None]:
        text = f"No module named {name!r}"
        if name in STAND_INS:
            stand_in = folder / "stand_ins" / name
            stand_in.mkdir(parents=True)
            (stand_in / "__init__.py").write_text(STAND_IN, encoding="utf-8")
            add_path(environment, stand_in.parent)
            text += f"; {STAND_INS[name]}"
        missing(report, f"module {name}", "ModuleNotFoundError", text)
    report.row("modules", state=OK, figures={name: version for name, version in found.items() if version is not None})
    return environment


def missing(report: Report, name: str, kind: str, text: str) -> None:
    """Write that something is not there as a failed row."""
    report.row(name, state=FAILED, error={"type": kind, "text": text, "frames": []})
    print(f"{name}: {text}", flush=True)


def add_path(environment: dict[str, str], folder: Path) -> None:
    """Put a folder behind those of PYTHONPATH."""
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [environment["PYTHONPATH"], str(folder)]))


def find_comfyui(folder: Path) -> Path | None:
    """ComfyUI's folder, unpacked into `folder` where only the archive is there, or None."""
    named = os.environ.get("COMFYUI_PATH")
    candidates = [Path(named)] if named else sorted(ROOT.glob(".comfyui/*"), reverse=True)
    for path in candidates:
        if (path / "main.py").is_file() and (path / "comfy" / "sd.py").is_file():
            return path.resolve()
    if not named and COMFYUI_ARCHIVE.is_file():
        unpack(COMFYUI_ARCHIVE, folder / "comfyui")
        return folder / "comfyui"
    return None


def comfyui_version(folder: Path) -> str:
    """What it says of itself."""
    return (folder / "comfyui_version.py").read_text(encoding="utf-8").split('"')[-2]


def unpack(archive: Path, target: Path) -> None:
    """Unpack an archive that pack.py has made."""
    safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tarfile.open(archive) as tar:
        tar.extractall(target, **safe)


def look(environment: dict[str, str]) -> dict[str, str | None]:
    """Each of MODULES with its version, or None where it cannot be found, as the rows' processes see it."""
    done = subprocess.run(
        [sys.executable, "-c", LOOK, json.dumps(MODULES)],
        check=False,
        env={**os.environ, **environment},
        cwd=os.environ["PYTHONPATH"].split(os.pathsep)[0] if os.environ.get("PYTHONPATH") else None,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        return {"python": None}
    return json.loads(done.stdout)
