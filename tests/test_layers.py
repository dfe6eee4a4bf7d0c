"""The arrows between the packages, as a test. An arrow that the table does not list is an error. It imports nothing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ARROWS = {  # package: the packages of the pack that it may import
    "kernels": set(),
    "engine": {"kernels"},
    "demo": {"engine"},
    "training": {"engine", "kernels"},
    "hosts": {"engine", "demo"},
    "nodes": {"engine", "hosts", "training", "demo"},
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


def imports(source: str, package_path: tuple[str, ...]) -> Iterator[tuple[str, bool]]:
    """(name, whether it lies in the pack) for every import of a file whose folder is `package_path` below the root."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0], False
        elif isinstance(node, ast.ImportFrom):
            above = package_path[: len(package_path) - node.level + 1]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from (((*above, *name.split("."))[0], True) for name in names)


def wrong_imports(source: str, package_path: tuple[str, ...]) -> list[str]:
    """One line for each import that the table does not allow."""
    package = package_path[0]
    wrong = []
    for name, inside in imports(source, package_path):
        if inside and name != package and name not in ARROWS[package]:
            wrong.append(f"{package} must not import {name}")
        elif not inside and name in OF_COMFYUI and name not in MAY_IMPORT_COMFYUI.get(package, ()):
            wrong.append(f"{package} must not import ComfyUI's {name}")
        elif not inside and (name == "longreel" or (name in ARROWS and name not in OF_COMFYUI)):
            wrong.append(f"import {name} by a relative import")
    return wrong


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_arrows(path: Path):
    assert wrong_imports(path.read_text(encoding="utf-8"), path.relative_to(ROOT).parent.parts) == []


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
