"""The pack as ComfyUI sees it: it loads from a folder of any name, quickly, and says so loudly when it cannot."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from longreel import dev
from tests.comfy_process import PACK_FOLDER_NAME, ComfyProcess

SHARE_OF_START = 0.08  # of what ComfyUI takes to start: half a second of the processor where that takes 7 s
HEAVY = {"triton", "cv2", "av", "matplotlib", "scipy", "transformers", "torchvision", "torchaudio", "kornia", "pandas"}
TEMPLATE_FOLDERS = ("example_workflows", "example", "examples", "workflow", "workflows")
NODE_FILES = [p for p in sorted((dev.ROOT / "nodes").glob("*.py")) if not p.name.startswith("_")]


def load_packs(*folders: Path) -> tuple[list[dict], str]:
    """What tests/load_pack.py reports about packs that it loads one after the other, and everything that was logged."""
    command = [sys.executable, str(dev.ROOT / "tests" / "load_pack.py"), str(dev.comfyui_path()), *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folders[0].parent)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()[-len(folders) :]], done.stdout + done.stderr


@pytest.fixture(scope="module")
def loads(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, dict, str]:
    """The pack, then one that raises an error, and what was logged; the cheapest of up to three loads."""
    folder = tmp_path_factory.mktemp("custom_nodes")
    link, broken = folder / "my-pack", folder / "broken"
    link.symlink_to(dev.ROOT, target_is_directory=True)
    (broken / "nodes").mkdir(parents=True)
    shutil.copy(dev.ROOT / "__init__.py", broken)
    source = "def fail():\n    raise RuntimeError('the roof is missing')\n\n\nfail()\n"
    (broken / "nodes" / "__init__.py").write_text(source)
    found = []
    while len(found) < 3 and all(one["share"] >= SHARE_OF_START for one, _, _ in found):
        (one, other), logged = load_packs(link, broken)
        found.append((one, other, logged))
    return min(found, key=lambda load: load[0]["share"])


@pytest.fixture(scope="module")
def loading(loads: tuple[dict, dict, str]) -> dict:
    return loads[0]


SEARCHES = {  # what people type, and the node that does it
    "shot, scenes, scene list, director, transition, prompt travel, prompt relay, prompt schedule": "Storyboard",
    "loop, infinite video, extend video, long video sampler, wan, hunyuanvideo, cogvideox, ltxv": "Sampler",
    "prompt travel, prompt per shot": "Encode",
    "crossfade, context windows, sliding window": "LatentBlend",
    "reference, consistent character, same subject": "KVShare",
    "color match, color drift": "LongMemory",
    "extend video, continue video": "ShortMemory",
    "first frame, keyframe, reference image": "AnchorFrame",
    "metrics, video quality, flicker, drift, cscv, mawe, clip score": "Report",
    "side by side, blind test, elo, vote": "Compare",
}


def pack_nodes(comfy: ComfyProcess) -> dict[str, dict]:
    return {name: definition for name, definition in comfy.object_info().items() if name.startswith("Longreel")}


def test_pack_loads_its_nodes_in_any_folder(loading: dict, comfy: ComfyProcess):
    assert loading["loaded"]
    assert loading["nodes"] and all(name.startswith("Longreel") for name in loading["nodes"])
    assert set(loading["nodes"]) == set(pack_nodes(comfy))


@pytest.mark.slow
def test_pack_adds_little_to_the_start_of_comfyui(loading: dict):
    assert loading["share"] < SHARE_OF_START


@pytest.mark.slow
def test_pack_loads_nothing_heavy(loading: dict):
    assert not HEAVY & set(loading["modules"])


@pytest.mark.slow
def test_a_pack_that_cannot_load_logs_its_traceback(loads: tuple[dict, dict, str]):
    _, report, logged = loads
    assert not report["loaded"]
    assert "Traceback" in logged and "in fail" in logged and "the roof is missing" in logged


def test_every_node_file_is_listed(comfy: ComfyProcess):
    """A node class that nodes/__init__.py forgets is dead code."""
    sources = "\n".join(path.read_text(encoding="utf-8") for path in NODE_FILES)
    assert set(re.findall(r'node_id="(\w+)"', sources)) == set(pack_nodes(comfy))


def test_every_node_is_in_the_menu_with_a_name_and_a_description(comfy: ComfyProcess):
    for name, definition in pack_nodes(comfy).items():
        assert definition["category"].split("/")[0] == "Longreel", name
        assert definition["display_name"] != name, name
        assert definition["description"], name


def test_the_menu_is_ordered_by_task(comfy: ComfyProcess):
    tasks = {"storyboard", "sampling", "memory", "anchor", "ttt", "training"}
    categories = {name: definition["category"].split("/") for name, definition in pack_nodes(comfy).items()}
    assert {category[1] for category in categories.values() if len(category) > 1} == tasks
    assert [name for name, category in categories.items() if len(category) != 2] == ["LongreelDemoModel"]


def test_what_people_type_finds_a_node(comfy: ComfyProcess):
    """The editor searches names and search_aliases, and nothing else."""
    aliases = {name: definition["search_aliases"] for name, definition in pack_nodes(comfy).items()}
    for words, node in SEARCHES.items():
        for word in words.split(", "):
            assert word in aliases[f"Longreel{node}"], (word, node)


def test_every_input_has_a_tooltip(comfy: ComfyProcess):
    bare = [
        f"{name}.{key}"
        for name, definition in pack_nodes(comfy).items()
        for group in ("required", "optional")
        for key, specification in definition["input"].get(group, {}).items()
        if len(specification) < 2 or not specification[1].get("tooltip")
    ]
    assert not bare


def test_every_node_has_a_help_page_that_names_its_inputs(comfy: ComfyProcess):
    for name, definition in pack_nodes(comfy).items():
        with urllib.request.urlopen(f"{comfy.url}/extensions/{PACK_FOLDER_NAME}/docs/{name}.md") as answer:
            page = answer.read().decode()
        unnamed = [
            key for group in ("required", "optional") for key in definition["input"].get(group, {}) if key not in page
        ]
        assert not unnamed, f"web/docs/{name}.md does not name {unnamed}"


def test_no_help_page_is_left_of_a_node_that_is_gone(comfy: ComfyProcess):
    assert {path.stem for path in (dev.ROOT / "web" / "docs").glob("*.md")} == set(pack_nodes(comfy))


def test_there_is_one_folder_of_templates():
    """ComfyUI lists the files of a second folder and then answers 404 for them."""
    assert [name for name in TEMPLATE_FOLDERS if (dev.ROOT / name).is_dir()] == ["workflows"]


def test_registry_rules_hold():
    """The rules that `comfy node validate` runs: no exec, no eval, no two statements on a line."""
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--isolated",
        "--select",
        "S102,S307,E702",
        "--extend-exclude",
        ".comfyui",
        str(dev.ROOT),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_comfyui_reads_the_project_file(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(dev.comfyui_path()))
    parser = importlib.import_module("comfy_config.config_parser")
    configuration = parser.extract_node_configuration(str(dev.ROOT))
    assert configuration.project.name == "longreel"
    assert configuration.project.dependencies == []
    assert configuration.tool_comfy.publisher_id == "longreel"
    assert configuration.tool_comfy.display_name == "Longreel"
    assert not configuration.tool_comfy.web, "WEB_DIRECTORY serves the files; naming them twice loads them twice"
