"""Longreel Load Storyboard in the editor: a file is uploaded from the node, and an empty folder shows nothing odd."""

from __future__ import annotations

import json
from pathlib import Path

from longreel import dev
from tests.browser.editor import LARGE, Editor
from tests.comfy_process import ComfyProcess

ARTIFACTS = dev.ROOT / "tests" / "artifacts" / "browser"
BOARD = {"longreel": 1, "shots": [{"prompt": "a big red circle moves right", "seconds": 1}]}
ADD = """() => {
    window.app.graph.clear();
    const node = window.LiteGraph.createNode('LongreelLoadStoryboard');
    node.pos = [60, 60];
    window.app.graph.add(node);
}"""
VALUE = "window.app.graph.nodes[0].widgets.find(widget => widget.name === 'file').value"
PRESS = "window.app.graph.nodes[0].widgets.find(widget => widget.type === 'button').callback()"
DROP = """([name, text]) => {
    const data = new DataTransfer();
    data.items.add(new File([text], name));
    const event = new DragEvent('drop', {dataTransfer: data});
    return [window.app.graph.nodes[0].onDragOver(event), window.app.graph.nodes[0].onDragDrop(event)];
}"""


def test_an_empty_folder_shows_nothing_odd(editor: Editor):
    editor.page.evaluate(ADD)
    assert editor.page.evaluate(VALUE) != "undefined"
    assert editor.page.evaluate(f"typeof {VALUE}") == "string"
    editor.page.set_viewport_size(LARGE)
    editor.screenshot(ARTIFACTS / "load_storyboard.png")


def test_the_button_uploads_a_file_and_chooses_it(editor: Editor, comfy: ComfyProcess, tmp_path: Path):
    editor.page.evaluate(ADD)
    file = tmp_path / "uploaded from the node.json"
    file.write_text(json.dumps(BOARD), encoding="utf-8")
    with editor.page.expect_file_chooser() as chooser:
        editor.page.evaluate(PRESS)
    chooser.value.set_files(file)
    editor.page.wait_for_function(f"{VALUE} === '{file.name}'")
    assert json.loads((comfy.input_path / file.name).read_text(encoding="utf-8")) == BOARD
    (saved,) = editor.serialize()["nodes"]
    assert saved["widgets_values"] == [file.name, 0], "the button is stored in the graph"


def test_a_dropped_file_is_taken_and_a_picture_is_not(editor: Editor, comfy: ComfyProcess):
    editor.page.evaluate(ADD)
    assert editor.page.evaluate(DROP, ["dropped.json", json.dumps(BOARD)]) == [True, True]
    editor.page.wait_for_function(f"{VALUE} === 'dropped.json'")
    assert (comfy.input_path / "dropped.json").is_file()
    editor.page.evaluate(DROP, ["picture.png", "no storyboard"])
    editor.page.get_by_text("picture.png is no storyboard; use a file that ends in .json, .csv, .jsonl").wait_for()
    assert not (comfy.input_path / "picture.png").exists()
