"""The arrows between packages and between their rooms, as a test that imports nothing of the pack.

An arrow that the tables do not list is an error, and so is one that they list and nothing uses.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ARROWS = {  # package: the packages of the pack that it may import
    "kernels": set(),
    "engine": {"kernels"},
    "demo": {"engine"},
    "training": {"engine", "kernels"},
    "hosts": {"engine", "demo"},
    "cluster": {"hosts"},
    "nodes": {"engine", "hosts", "training", "demo"},
}
ROOMS = {  # package: its rooms (folders, or files beside them): the rooms of the package that each may import
    "engine": {
        "settings": {"storyboard"},
        "storyboard": set(),
        "plan": {"storyboard"},
        "attention": {"plan", "to_device"},
        "sampling": set(),
        "finite": set(),
        "to_device": set(),
        "lora": set(),
        "measure": {"runs"},
        "compare": {"runs"},
        "runs": set(),
        "factory_arguments": set(),
        "ttt": {"attention", "factory_arguments", "finite", "runs", "to_device"},
        "convert_ttt": {"ttt"},
        "memory": {"factory_arguments", "finite", "runs"},
        "published": {"sampling"},
    },
    "hosts": {
        "families": {"types"},
        "keys": set(),
        "standalone": set(),
        "types": set(),
        "attention": {"families", "keys", "types"},
        "demo_model": {"types"},
        "prompts": {"keys", "types"},
        "video": {"types"},
        "measure": {"types"},
        "windows": {"families", "keys", "types", "attention", "prompts"},
        "features": {"families", "keys", "types", "attention", "prompts", "windows"},
        "training": {"families", "types", "windows"},
        "anchor": {"families", "keys", "types", "attention", "demo_model", "windows", "training"},
        "memory": {"families", "keys", "types", "attention", "prompts", "windows", "training"},
        "ttt": {"families", "keys", "types", "attention", "prompts", "windows", "training"},
        "sampling": {
            *("families", "keys", "types", "attention", "prompts", "windows", "features", "anchor", "memory", "ttt")
        },
        "cluster": {"sampling", "windows"},
        "web": {"families", "prompts"},
    },
}
OF_COMFYUI = {
    "comfy",
    "comfy_api",
    "comfy_api_nodes",
    "comfy_config",
    "comfy_execution",
    "comfy_extras",
    "app",
    "execution",
    "folder_paths",
    "latent_preview",
    "node_helpers",
    "nodes",
    "server",
    "utils",
}
MAY_IMPORT_COMFYUI = {"hosts": OF_COMFYUI, "nodes": {"comfy_api", "folder_paths"}}
FILES = [path for package in ARROWS for path in sorted((ROOT / package).rglob("*.py"))]


def imports(source: str, package_path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], bool]]:
    """(parts of the name, whether it lies in the pack) for every import of a file in the folder `package_path`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((tuple(alias.name.split(".")), False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield tuple(node.module.split(".")), False
        elif isinstance(node, ast.ImportFrom):
            above = package_path[: len(package_path) - node.level + 1]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from (((*above, *name.split(".")), True) for name in names)


def wrong_imports(source: str, package_path: tuple[str, ...]) -> list[str]:
    """One line for each import that the table does not allow."""
    package = package_path[0]
    wrong = []
    for (name, *_), inside in imports(source, package_path):
        if inside and name != package and name not in ARROWS[package]:
            wrong.append(f"{package} must not import {name}")
        elif not inside and name in OF_COMFYUI and name not in MAY_IMPORT_COMFYUI.get(package, ()):
            wrong.append(f"{package} must not import ComfyUI's {name}")
        elif not inside and (name == "longreel" or (name in ARROWS and name not in OF_COMFYUI)):
            wrong.append(f"import {name} by a relative import")
    return wrong


def wrong_rooms(source: str, file: tuple[str, ...]) -> list[str]:
    """One line for each import of the file (package, room, ...) that leads into a room its own may not import.

    A package's own __init__ may import all of its rooms, and what a room takes from there is not known by its name.
    """
    package, own = file[0], file[1].removesuffix(".py")
    rooms = ROOMS.get(package)
    if rooms is None or own == "__init__":
        return []
    if own not in rooms:
        return [f"{package}/{own} is a room that the table does not name"]
    into = {name[1] for name, inside in imports(source, file[:-1]) if inside and name[0] == package and len(name) > 1}
    return [f"{package}/{own} must not import {package}/{room}" for room in sorted(into - rooms[own] - {own})]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_arrows(path: Path):
    assert wrong_imports(path.read_text(encoding="utf-8"), path.relative_to(ROOT).parent.parts) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_arrows_between_rooms(path: Path):
    assert wrong_rooms(path.read_text(encoding="utf-8"), path.relative_to(ROOT).parts) == []


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_have_an_order_and_every_arrow_is_used(package: str):
    rooms = ROOMS[package]
    TopologicalSorter(rooms).prepare()  # raises where arrows run in a circle
    assert {into for arrows in rooms.values() for into in arrows} <= set(rooms)
    used: dict[str, set[str]] = {room: set() for room in rooms}
    for path in (ROOT / package).rglob("*.py"):
        file = path.relative_to(ROOT).parts
        if (own := file[1].removesuffix(".py")) in rooms:
            names = imports(path.read_text(encoding="utf-8"), file[:-1])
            used[own] |= {name[1] for name, inside in names if inside and name[0] == package and len(name) > 1}
    assert {room: used[room] & set(rooms) - {room} for room in rooms} == rooms


def test_the_table_names_every_package():
    no_package = {"tests", "web", "workflows", "build"}
    folders = {
        path.name
        for path in ROOT.iterdir()
        if path.is_dir() and path.name[0].isalpha() and not path.name.endswith(".egg-info")
    }
    with_code = {name for name in folders if any((ROOT / name).rglob("*.py"))}
    assert with_code - no_package <= set(ARROWS)


@pytest.mark.parametrize(
    ("package", "line"),
    [
        ("engine", "import comfy.samplers"),
        ("engine", "from ..hosts import wan"),
        ("engine", "from .. import nodes"),
        ("engine", "import nodes"),
        ("kernels", "from ..engine import timeline"),
        ("nodes", "import comfy.utils"),
        ("nodes", "from ..kernels import ttt"),
        ("nodes", "from longreel.engine import timeline"),
        ("training", "from ..hosts import wan"),
        ("demo", "from ..hosts import wan"),
        ("hosts", "import engine"),
        ("hosts", "from ..nodes import plan"),
    ],
)
def test_a_wrong_import_is_found(package: str, line: str):
    assert wrong_imports(line, (package,))


@pytest.mark.parametrize(
    ("package", "line"),
    [
        ("nodes", "from ..engine.timeline import plan_timeline"),
        ("nodes", "from comfy_api.latest import io"),
        ("hosts", "import nodes"),
        ("hosts", "import comfy.samplers"),
        ("hosts", "from ..demo import text_encoder"),
        ("engine", "from . import timeline"),
        ("training", "from ..kernels import ttt"),
        ("engine", "import torch"),
    ],
)
def test_a_right_import_passes(package: str, line: str):
    assert wrong_imports(line, (package,)) == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("engine/storyboard/board.py", "from ..plan.timeline import Timeline"),
        ("engine/storyboard/board.py", "from .. import plan"),
        ("engine/runs/folder.py", "from ..ttt.files import load_ttt"),
        ("engine/settings.py", "from .plan import facts"),
        ("engine/memory/files.py", "from ..ttt import block"),
        ("engine/new_room/file.py", "import torch"),
    ],
)
def test_a_wrong_import_of_a_room_is_found(file: str, line: str):
    assert wrong_rooms(line, tuple(file.split("/")))


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("engine/plan/timeline.py", "from ..storyboard.board import Shot"),
        ("engine/plan/timeline.py", "from .facts import ModelFacts"),
        ("engine/settings.py", "from .storyboard.rules import nearest"),
        ("engine/ttt/layer.py", "from ...kernels import scan"),
    ],
)
def test_a_right_import_of_a_room_passes(file: str, line: str):
    assert wrong_rooms(line, tuple(file.split("/"))) == []
