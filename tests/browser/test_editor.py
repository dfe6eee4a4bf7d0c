"""The bundled workflows in the real editor: they open whole, run, and leave no error in the console."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from longreel import dev
from tests.browser.editor import Editor
from tests.bundled_workflows import PATHS, READY, load, name_of
from tests.comfy_process import PACK_FOLDER_NAME, ComfyProcess

ARTIFACTS = dev.ROOT / "tests" / "artifacts" / "browser"
SECONDS_TO_RUN = 900
NOT_OURS = (  # what the editor logs on a first visit without any pack
    "/api/userdata",
    "/user.css",  # the user has saved nothing yet
    "Content Security Policy",  # it looks up the sizes of its default workflow's models on the internet
    "https://huggingface.co/Comfy-Org/z_image",  # the same, where no policy keeps it from there
    "graph accessed before initialization",
)


def errors_of_the_pack(editor: Editor) -> list[str]:
    return [error for error in editor.errors if not any(part in error for part in NOT_OURS)]


def test_the_editor_knows_every_node_of_the_pack(editor: Editor, comfy: ComfyProcess):
    ours = {name for name in comfy.object_info() if name.startswith("Longreel")}
    assert ours and ours <= editor.node_types()
    assert errors_of_the_pack(editor) == []


def inputs(prompt: dict) -> dict[str, dict]:
    return {node_id: node["inputs"] for node_id, node in prompt.items()}


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_a_bundled_workflow_opens_and_runs_in_the_editor(path: Path, editor: Editor, comfy: ComfyProcess):
    workflow = load(path)
    editor.load(workflow, path.stem)
    assert editor.node_count() == len(workflow["nodes"])
    assert editor.broken_nodes() == []
    prompt = editor.to_prompt()
    events = editor.queue(SECONDS_TO_RUN)
    editor.screenshot(ARTIFACTS / f"{path.stem}.png")
    assert events[-1][0] == "execution_success", json.dumps(events[-1])[:2000]
    assert any(kind == "executed" for kind, _ in events), "no output node showed anything"
    assert errors_of_the_pack(editor) == []
    assert inputs(comfy.to_prompt(workflow)) == inputs(prompt)


@pytest.mark.parametrize("path", READY, ids=name_of)
def test_a_ready_workflow_opens_in_the_editor_with_every_node_and_file(path: Path, editor: Editor, comfy: ComfyProcess):
    """Files are the stand-ins: a node whose file is not there counts as broken."""
    workflow = load(path)
    editor.load(workflow, path.stem)
    assert editor.node_count() == len(workflow["nodes"])
    assert editor.broken_nodes() == []
    assert errors_of_the_pack(editor) == []
    shown = inputs(editor.to_prompt())
    for node in shown.values():
        node.pop("video-preview", None)  # the editor's own, of Load Video
    assert inputs(comfy.to_prompt(workflow)) == shown


@pytest.mark.parametrize("path", [*PATHS, *READY], ids=name_of)
def test_a_bundled_workflow_is_a_template_with_a_picture(path: Path, comfy: ComfyProcess):
    assert path.stem in comfy.get("/api/workflow_templates")[PACK_FOLDER_NAME]
    assert comfy.get(f"/api/workflow_templates/{PACK_FOLDER_NAME}/{path.name}") == load(path)
    picture = comfy.get(f"/api/workflow_templates/{PACK_FOLDER_NAME}/{path.stem}.jpg")
    assert picture[:3] == b"\xff\xd8\xff" and len(picture) > 1000
