"""Blueprints in the editor: the node library has them, they come onto the canvas, and one makes a video."""

from __future__ import annotations

import json

import av
import pytest

from longreel import dev
from tests.blueprints import BLUEPRINTS
from tests.browser.editor import Editor
from tests.comfy_process import ComfyProcess

ARTIFACTS = dev.ROOT / "tests" / "artifacts" / "browser"
BOARD = {
    "longreel": 1, "fps": 16, "width": 64, "height": 64,
    "shots": [
        {"prompt": "a big red circle moves right on a teal background", "seconds": 0.6},
        {"prompt": "a small yellow star bounces on a black background", "seconds": 0.6, "transition": "cut"},
    ],
}  # fmt: skip
# As the node library adds one (addNodeOnGraph of the front's litegraphService), out of the store that it reads.
ADD = """([name, board]) => {
    const app = window.app, graph = app.graph;
    const pinia = document.querySelector('#vue-app').__vue_app__.config.globalProperties.$pinia;
    const store = pinia._s.get('subgraph');
    const listed = store.subgraphBlueprints.find(entry => entry.display_name === name);
    graph.clear();
    const blueprint = store.getBlueprint(listed.name);
    const items = {nodes: blueprint.nodes, subgraphs: blueprint.definitions.subgraphs};
    const box = [...app.canvas._deserializeItems(items, {position: [560, 60]}).nodes.values()][0];
    const make = (type, at) => {
        const node = window.LiteGraph.createNode(type); node.pos = at; graph.add(node); return node;
    };
    const demo = make('LongreelDemoModel', [60, 60]), story = make('LongreelStoryboard', [60, 220]);
    story.widgets.find(widget => widget.name === 'text').value = JSON.stringify(board);
    const wire = (from, slot, name) => from.connect(slot, box, box.inputs.findIndex(input => input.name === name));
    wire(demo, 0, 'model'); wire(demo, 1, 'clip'); wire(demo, 2, 'vae'); wire(story, 0, 'storyboard');
    const values = {steps: 2, segment_frames: 9, overlap_frames: 4};
    for (const widget of box.widgets) if (widget.name in values) widget.value = values[widget.name];
    const shown = make('PreviewAny', [960, 60]);
    box.connect(box.outputs.findIndex(output => output.name === 'plan'), shown, 0);
    return [listed.category, listed.description, box.widgets.map(widget => widget.name)];
}"""


@pytest.mark.parametrize("name", BLUEPRINTS)
def test_a_blueprint_comes_onto_the_canvas_with_its_widgets(name: str, editor: Editor):
    _, _, widgets, description, _ = BLUEPRINTS[name]
    category, said, shown = editor.page.evaluate(ADD, [name, BOARD])
    assert (category, said) == ("Subgraph Blueprints/Longreel", description)
    assert shown == list(widgets)
    assert editor.broken_nodes() == []
    editor.screenshot(ARTIFACTS / f"{name}.png")


def test_a_blueprint_makes_a_video(editor: Editor, comfy: ComfyProcess):
    editor.page.evaluate(ADD, ["Longreel Storyboard to Video", BOARD])
    before = set(comfy.output_path.rglob("*.mp4"))
    prompt = editor.to_prompt()
    plan = next(node["inputs"] for node in prompt.values() if node["class_type"] == "LongreelPlan")
    assert (plan["steps"], plan["segment_frames"], plan["overlap_frames"]) == (2, 9, 4)
    events = editor.queue(300)
    assert events[-1][0] == "execution_success", json.dumps(events[-1])[:2000]
    (file,) = set(comfy.output_path.rglob("*.mp4")) - before
    with av.open(file) as video:
        assert sum(1 for _ in video.decode(video=0)) in range(17, 24)
