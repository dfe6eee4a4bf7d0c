"""The ready workflows: their files are those of core's templates, and with tiny files of the same names they run."""

from __future__ import annotations

import importlib.util
import json
from itertools import combinations
from pathlib import Path

import av
import pytest

from tests.bundled_workflows import READY, load, name_of
from tests.comfy_process import ComfyProcess
from tests.lay_out import overlap
from tests.ready_workflows import files, stories
from tests.ready_workflows.__main__ import build
from tests.ready_workflows.build import GRAPHS
from tests.ready_workflows.files import ModelFile
from tests.ready_workflows.graph import COLOURS
from tests.ready_workflows.shrink import SHOTS, SIDE, shrunk

SECONDS_TO_RUN = 300
NO_TEMPLATE = {files.COGVIDEOX, files.COGVIDEOX_VAE}  # core has none for CogVideoX
LOADERS = {"UNETLoader", "CLIPLoader", "DualCLIPLoader", "VAELoader", "LoraLoaderModelOnly", "CheckpointLoaderSimple"}


def models_in(value: object) -> set[ModelFile]:
    """All files that a template, or a part of it, names with their links."""
    if isinstance(value, list):
        return set().union(*map(models_in, value))
    if not isinstance(value, dict):
        return set()
    own = value.get("models")
    found = [model for model in own if isinstance(model, dict) and "url" in model] if isinstance(own, list) else []
    here = {ModelFile(m["name"], m["directory"], m["url"].removesuffix("?download=true")) for m in found}
    return here.union(*map(models_in, value.values()))


def test_every_graph_is_a_workflow():
    assert [path.stem for path in READY] == sorted(GRAPHS)


def test_files_and_links_are_those_of_cores_templates():
    folder = Path(importlib.util.find_spec("comfyui_workflow_templates_json").origin).parent / "templates"
    of_core = set().union(*(models_in(json.loads(path.read_text("utf-8"))) for path in folder.glob("*.json")))
    own = {value for value in vars(files).values() if isinstance(value, ModelFile)}
    assert len(own) > 10
    assert own - of_core == NO_TEMPLATE


@pytest.mark.parametrize("path", READY, ids=name_of)
def test_a_ready_workflow_is_as_it_was_built(path: Path, comfy: ComfyProcess):
    assert load(path) == build(path.stem, comfy.object_info()), "run python -m tests.ready_workflows"


@pytest.mark.parametrize("path", READY, ids=name_of)
def test_every_loader_names_its_files(path: Path):
    loaders = [node for node in load(path)["nodes"] if node["type"] in LOADERS]
    assert loaders
    for node in loaders:
        assert {model["name"] for model in node["properties"]["models"]} == {
            value for value in node["widgets_values"] if str(value).endswith(".safetensors")
        }


@pytest.mark.parametrize("path", READY, ids=name_of)
def test_a_ready_workflow_is_laid_out(path: Path):
    """The note is at the top left, every other node in one of the coloured groups, and no node lies on another."""
    workflow = load(path)
    boxes = {node["id"]: (*node["pos"], *node["size"]) for node in workflow["nodes"]}
    (note,) = [node for node in workflow["nodes"] if node["type"] == "MarkdownNote"]
    assert note["pos"] == [min(box[0] for box in boxes.values()), min(box[1] for box in boxes.values())]
    assert {group["title"]: group["color"] for group in workflow["groups"]} == COLOURS
    for number, box in boxes.items():
        inside = [group["title"] for group in workflow["groups"] if overlap(group["bounding"], box)]
        assert len(inside) == (number != note["id"]), (number, inside)
    assert not [pair for pair in combinations(boxes, 2) if overlap(boxes[pair[0]], boxes[pair[1]])]


@pytest.mark.parametrize("path", READY, ids=name_of)
def test_a_ready_workflow_runs_on_stand_ins(path: Path, comfy: ComfyProcess):
    """As it is it is valid, and small it makes a video of all shots."""
    prompt = comfy.to_prompt(load(path))
    assert comfy.validation_errors(prompt) is None
    small = shrunk(prompt)
    (file,) = [file for file in comfy.files(comfy.run(small, SECONDS_TO_RUN)) if file.suffix == ".mp4"]
    (board,) = [node["inputs"]["text"] for node in small.values() if node["class_type"] == "LongreelStoryboard"]
    board = json.loads(board)
    with av.open(file) as video:
        stream = video.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    asked = sum(shot["seconds"] for shot in board["shots"]) * board["fps"]
    assert len(board["shots"]) == SHOTS
    assert float(stream.average_rate) == pytest.approx(board["fps"])
    assert len(frames) == pytest.approx(asked, abs=8)
    assert all(frame.shape[:2] == (SIDE, SIDE) and frame.std() > 1 for frame in frames)


def test_stories_are_whole_storyboards():
    from longreel.engine.storyboard.board import parse_storyboard

    text = stories.storyboard("t", stories.FOX, seconds=5.0, fps=16, width=832, height=480, picture="start.png")
    assert [bool(shot.anchors) for shot in parse_storyboard(text).shots] == [True, False, False, False]
