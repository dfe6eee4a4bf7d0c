"""Presets in the editor's classic renderer: what a preset holds is not shown, and nothing that is stored changes."""

from __future__ import annotations

import ast

import pytest

from longreel import dev
from tests.browser.editor import LARGE, Editor
from tests.bundled_workflows import WORKFLOWS, load

ARTIFACTS = dev.ROOT / "tests" / "artifacts" / "browser"
NODES = {"LongreelKVShare": "KV_SHARE", "LongreelLongMemory": "LONG_MEMORY"}
SHOWN = "node => node.widgets.filter(widget => !widget.hidden).map(widget => widget.name)"
CHOOSE = f"""([type, preset]) => {{
    const graph = window.app.graph;
    let node = graph.nodes.find(node => node.type === type);
    if (!node) {{ graph.clear(); node = window.LiteGraph.createNode(type); node.pos = [60, 60]; graph.add(node) }}
    const widget = node.widgets.find(widget => widget.name === 'preset');
    widget.value = preset; widget.callback(preset);
    return [({SHOWN})(node), node.serialize().widgets_values.slice(0, -1), node.size[1]];
}}"""


def held(presets: str) -> set[str]:
    """The inputs that the presets of nodes/presets.py set, read without ComfyUI."""
    tree = ast.parse((dev.ROOT / "nodes" / "presets.py").read_text(encoding="utf-8"))
    (table,) = [node.value for node in tree.body if isinstance(node, ast.AnnAssign) and node.target.id == presets]
    return {key.value for preset in table.values for key in preset.keys}


@pytest.mark.parametrize("node", NODES)
def test_a_preset_hides_the_settings_that_it_holds_and_custom_shows_them(node: str, editor: Editor):
    editor.page.evaluate("window.app.graph.clear()")
    presets = [name for name in editor.page.evaluate(
        "type => { const node = window.LiteGraph.createNode(type);"
        " return node.widgets.find(widget => widget.name === 'preset').options.values }", node,
    ) if name != "custom"]  # fmt: skip
    everything, stored, tall = editor.page.evaluate(CHOOSE, [node, "custom"])
    assert held(NODES[node]) < set(everything)
    for preset in presets:
        shown, still, less = editor.page.evaluate(CHOOSE, [node, preset])
        assert shown == [name for name in everything if name not in held(NODES[node])]
        assert still == stored and less < tall
        assert editor.page.evaluate(CHOOSE, [node, "custom"])[:2] == [everything, stored]


def test_a_graph_that_is_opened_shows_what_its_preset_leaves(editor: Editor):
    workflow = load(WORKFLOWS / "03_same_subject_in_every_shot.json")
    editor.load(workflow, "presets")
    shown = editor.page.evaluate(f"({SHOWN})(window.app.graph.nodes.find(node => node.type === 'LongreelKVShare'))")
    assert "preset" in shown and not held("KV_SHARE") & set(shown)
    saved = next(node for node in editor.serialize()["nodes"] if node["type"] == "LongreelKVShare")
    before = next(node for node in workflow["nodes"] if node["type"] == "LongreelKVShare")
    assert saved["widgets_values"] == before["widgets_values"]
    assert saved["size"][1] == pytest.approx(before["size"][1], abs=40), "hidden settings leave an empty node"
    editor.page.set_viewport_size(LARGE)
    editor.page.screenshot(path=ARTIFACTS / "preset.png")
