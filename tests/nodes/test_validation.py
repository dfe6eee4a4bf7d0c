"""nodes/validation.py in a running ComfyUI: what a node's own values tell is refused when the prompt is posted."""

import pytest

from tests.nodes.graphs import node, refusals

SHARE = {
    "mode": "fast", "source": "previous", "shots": "", "across_cuts": True, "join": "replace", "placement": "aligned",
    "strength": 1.0, "share_text": True, "layers": "all", "start_percent": 0.0, "end_percent": 0.5, "mask": "off",
}  # fmt: skip
SWAP = {"edit": "swap", "edit.layers": "all", "edit.start_percent": 0.0, "edit.end_percent": 0.5}
REWEIGHT = {
    **{f"edit.{name}": value for name, value in {"words": "a", "weight": 2.0, "form": "after softmax"}.items()},
    "edit": "reweight",
    "edit.layers": "all",
    "edit.start_percent": 0.0,
    "edit.end_percent": 1.0,
    "edit.layout_percent": 0.0,
}
KEYS = {"method": "keys and values", "method.frames": 2, "method.strength": 1.0, "method.decay": 0.0}
DATASET = {"clips": "videos", "clips.segment_seconds": 3.0}


@pytest.mark.parametrize(
    ("name", "inputs", "says"),
    [
        ("LongreelKVShare", {**SHARE, "layers": "top"}, 'layers "top" is not understood at "top"'),
        ("LongreelKVShare", {**SHARE, "shots": "1-10000000"}, "shots names shot 10,000,000, and a storyboard"),
        ("LongreelKVShare", {**SHARE, "shots": "two"}, 'shots "two" is not understood at "two"; use numbers from 1'),
        ("LongreelKVShare", {**SHARE, "start_percent": 0.5}, "start 0.5 and end 0.5 hold no step"),
        ("LongreelKVShare", {**SHARE, "start_percent": 0.6}, "start 0.6 and end 0.5 hold no step"),
        ("LongreelKVShare", {**SHARE, "strength": 2.0}, "strength is 2.0; use 0.0 to 1.0"),
        ("LongreelKVShare", {**SHARE, "source": "last"}, "source is no choice of this node; use previous, fi"),
        ("LongreelPromptEdit", SWAP, "a swap copies the layout of an original, and none is wired"),
        ("LongreelPromptEdit", {**REWEIGHT, "edit.layers": "5-1"}, 'layers "5-1": 5-1 runs backwards'),
        ("LongreelPromptEdit", {**REWEIGHT, "edit.end_percent": 0.0}, "start 0 and end 0 hold no step"),
        ("LongreelPromptEdit", {**REWEIGHT, "edit.weight": -1.0, "edit.form": "logits"}, "weight -1 has no logarithm"),
        ("LongreelShortMemory", {**KEYS, "method.layers": "none"}, 'layers "none" is not understood'),
        ("LongreelLongMemory", {"layers": "1-"}, 'layers "1-" is not understood'),
        ("LongreelFocusPreview", {"layers": ""}, 'layers "" is not understood'),
        (
            "LongreelApplyTTT",
            {"weights": "new", "weights.kind": "mlp", "layers": "last 2/1"},
            'layers "last 2/1" is not a share of 1',
        ),
        ("LongreelTTTDataset", {**DATASET, "clips.name": "../x"}, "name is '../x', which names no folder or file"),
        ("LongreelTTTDataset", {**DATASET, "clips.name": "日" * 90}, "name has 90 characters in 270 bytes"),
        ("LongreelSaveTTT", {"name": ""}, "name is '', which names no folder or file"),
        ("LongreelSaveTTT", {"name": "日" * 90}, "name has 90 characters in 270 bytes, and at most 236 bytes"),
        ("LongreelTrainTTT", {"run": ""}, "run is '', which names no folder or file"),
    ],
)
def test_what_a_nodes_values_tell_is_refused_when_the_prompt_is_posted(server, name, inputs, says):
    prompt = {"it": node(name, **inputs), "say": node("PreviewAny", source=["it", 0])}
    assert any(says in line for line in refusals(server, prompt)), refusals(server, prompt)


def test_a_value_from_a_wire_is_left_to_the_run(server):
    wired = {
        "text": node("PrimitiveString", value="top"),
        "demo": node("LongreelDemoModel"),
        "it": node("LongreelKVShare", **{**SHARE, "model": ["demo", 0], "layers": ["text", 0], "shots": ["text", 0]}),
        "say": node("PreviewAny", source=["it", 0]),
    }
    assert refusals(server, wired) == []
