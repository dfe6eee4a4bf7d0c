"""nodes/validation.py: core says a reason once, whatever a node looks at to find it."""

import asyncio
import inspect

import pytest

from tests.comfy_inprocess import import_comfyui

core = import_comfyui()

import execution
from comfy_extras.nodes_preview_any import PreviewAny

from longreel.nodes import NODES


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_a_node_that_names_several_inputs_raises_its_reasons(node: type) -> None:
    if "validate_inputs" not in vars(node):
        return
    asked = inspect.signature(node.validate_inputs)
    several = len(asked.parameters) > 1 or any(one.kind is one.VAR_KEYWORD for one in asked.parameters.values())
    reasons_returned = "str" in str(asked.return_annotation)  # a type, or as text where annotations are postponed
    assert not (several and reasons_returned), f"{node.__name__} names {list(asked.parameters)} and returns reasons"


@pytest.mark.parametrize(
    ("name", "inputs", "said"),
    [
        ("LongreelPlan", {"width": -16, "height": 0}, "width is -16; use 0 to 16384"),
        ("LongreelPlan", {"segment_frames": 17, "overlap_frames": 17}, "overlap_frames is 17, which does not fit into"),
        ("LongreelRefine", {"chunk_latent_frames": 1, "overlap_latent_frames": 0}, "chunk_latent_frames is 1, and a"),
        ("LongreelLatentBlend", {"segment_latent_frames": 9, "overlap_latent_frames": 9}, "overlap_latent_frames is 9"),
    ],
)
def test_a_reason_is_listed_once(monkeypatch: pytest.MonkeyPatch, name: str, inputs: dict, said: str) -> None:
    (node,) = [node for node in NODES if node.__name__ == name]
    monkeypatch.setitem(core.NODE_CLASS_MAPPINGS, name, node)
    monkeypatch.setitem(core.NODE_CLASS_MAPPINGS, "PreviewAny", PreviewAny)
    prompt = {
        "1": {"class_type": name, "inputs": inputs},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
    }
    _, _, _, errors = asyncio.run(execution.validate_prompt("test", prompt, None))
    details = [reason["details"] for error in errors.values() for reason in error["errors"]]
    assert len([line for line in details if said in line]) == 1, details
