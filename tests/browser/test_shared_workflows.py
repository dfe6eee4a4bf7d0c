"""A graph that somebody shares finds its pack: as a file, and as the video that it made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from longreel import dev
from tests.browser.editor import LARGE, Editor
from tests.bundled_workflows import WORKFLOWS, load
from tests.comfy_process import ComfyProcess
from tests.pack_identity import nodes_of, pack

ARTIFACTS = dev.ROOT / "tests" / "artifacts" / "browser"
BOARD = {
    "longreel": 1, "fps": 16, "width": 64, "height": 64,
    "shots": [{"prompt": "a big red circle moves right on a teal background", "seconds": 0.3}],
}  # fmt: skip


def small_graph() -> dict:
    """The bundled storyboard, of one shot and one step."""
    workflow = load(WORKFLOWS / "01_storyboard_to_video.json")
    by_type = {node["type"]: node for node in workflow["nodes"]}
    by_type["LongreelStoryboard"]["widgets_values"] = [json.dumps(BOARD)]
    schedule = by_type["BasicScheduler"]
    schedule["widgets_values"] = [schedule["widgets_values"][0], 1, 1.0]
    return workflow


def identities(workflow: dict) -> list[dict]:
    """What the pack's own nodes of a graph say about where they are from."""
    own = [node for node in nodes_of(workflow) if node["type"].startswith("Longreel")]
    assert own
    return [{key: node["properties"].get(key) for key in ("cnr_id", "ver")} for node in own]


@pytest.fixture(scope="module")
def bare_comfy() -> Iterator[ComfyProcess]:
    """A ComfyUI without the pack."""
    with ComfyProcess(folder_name=None) as process:
        yield process


@pytest.fixture(scope="module")
def bare(browser: Browser, bare_comfy: ComfyProcess) -> Iterator[Editor]:
    editor = Editor(browser, bare_comfy)
    yield editor
    editor.close()


@pytest.fixture(scope="module")
def video(page: Editor, comfy: ComfyProcess) -> Path:
    """A video that the editor made with a graph of before nodes named their pack."""
    workflow = small_graph()
    for node in workflow["nodes"]:
        node["properties"] = {"Node name for S&R": node["type"]}
    page.load(workflow, "shared")
    before = set(comfy.output_path.rglob("*.mp4"))
    assert page.queue(300)[-1][0] == "execution_success"
    (made,) = set(comfy.output_path.rglob("*.mp4")) - before
    return made


def test_a_new_node_names_its_pack(editor: Editor):
    made = editor.page.evaluate("window.LiteGraph.createNode('LongreelPlan').properties")
    assert {key: made.get(key) for key in ("cnr_id", "ver")} == pack()
    assert "cnr_id" not in editor.page.evaluate("window.LiteGraph.createNode('KSampler').properties")


def test_a_saved_graph_of_before_names_its_pack_when_it_is_saved_again(editor: Editor):
    workflow = small_graph()
    for node in workflow["nodes"]:
        node["properties"] = {}
    editor.load(workflow, "old")
    assert all(found == pack() for found in identities(editor.serialize()))


def test_what_another_release_or_the_manager_wrote_stays(editor: Editor):
    workflow = small_graph()
    for node in workflow["nodes"]:
        node["properties"] = {"cnr_id": "longreel", "ver": "9.8.7"}
    editor.load(workflow, "newer")
    assert all(found == {"cnr_id": "longreel", "ver": "9.8.7"} for found in identities(editor.serialize()))


def test_a_video_brings_its_graph_back(editor: Editor, video: Path):
    editor.page.evaluate("window.app.graph.clear()")
    editor.drop(video)
    assert editor.node_count() == len(small_graph()["nodes"])
    assert editor.broken_nodes() == []
    shown = {node["type"]: node for node in editor.serialize()["nodes"]}
    assert json.loads(shown["LongreelStoryboard"]["widgets_values"][0]) == BOARD
    assert all(found == pack() for found in identities(editor.serialize()))


@pytest.mark.parametrize("kind", ["json", "mp4"])
def test_without_the_pack_the_editor_says_what_to_install(kind: str, bare: Editor, video: Path, tmp_path: Path):
    file = video if kind == "mp4" else tmp_path / "shared.json"
    if kind == "json":
        file.write_text(json.dumps(small_graph()), encoding="utf-8")
    page = bare.page
    page.set_viewport_size(LARGE)
    page.evaluate("window.app.graph.clear()")
    bare.drop(file)
    if page.locator("[data-testid=error-overlay-see-errors]").count():
        page.click("[data-testid=error-overlay-see-errors]")
    card = page.locator("[data-testid=missing-node-card]")
    card.wait_for()
    page.screenshot(path=ARTIFACTS / f"missing_pack_{kind}.png")
    lines = card.inner_text().splitlines()
    assert pack()["cnr_id"] in lines and "--enable-manager" in card.inner_text()
    assert not any("nknown" in line for line in lines), lines
