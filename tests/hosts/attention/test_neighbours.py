"""Other nodes beside the features: a part of docs/neighbours.md sampled again, and what is named before sampling.

All of the page is what its command samples; that takes minutes, and is no test.
"""

from dataclasses import replace

import pytest
import torch

import comfy.ldm.modules.attention as core_attention
import comfy.ldm.wan.model as wan
from comfy_extras.nodes_slg import SkipLayerGuidanceDiT

from tests import neighbours
from tests.neighbours import FEATURES, NEIGHBOURS

FAST = [name for name in NEIGHBOURS if name not in ("TorchCompileModel", "MultiGPU CFG Split")]
PART = [
    *((neighbour, list(FEATURES)[5 * number % len(FEATURES)]) for number, neighbour in enumerate(FAST)),
    ("EasyCache", "Short Memory (known frames)"),
    *(("MultiGPU CFG Split", feature) for feature in ("KV Share", "KV Share, masks by words", "Focus Preview", "CAM")),
]


def test_the_page_of_neighbours_has_no_fault():
    text = neighbours.PAGE.read_text("utf-8")
    assert "FAULT" not in text
    assert all(f"## {neighbour}\n" in text for neighbour in NEIGHBOURS)


@pytest.mark.slow
@pytest.mark.parametrize(("neighbour", "feature"), PART)
def test_the_page_of_neighbours_says_what_comes_of_a_pair(neighbour: str, feature: str):
    now = neighbours.cell(neighbour, feature)
    assert neighbours.written(neighbour, feature) == now, f"write docs/neighbours.md anew with `{neighbours.COMMAND}`"


def test_skip_layer_guidance_stands_beside_a_feature_at_other_noise_levels(tiny):
    """KV Share in the second half of the schedule, and block 1 left out in the first."""
    late = replace(neighbours.PLAIN, start_percent=0.5)
    feature = neighbours.Feature(
        lambda model: neighbours.blended(neighbours.patching.attach(model, late)), neighbours.sample_core
    )

    def skip(start: float, end: float):
        return lambda model: SkipLayerGuidanceDiT.execute(model, 3.0, start, end, double_layers="1", single_layers="")

    assert isinstance(neighbours.made(feature, skip(0.0, 0.3), True), torch.Tensor)
    assert "leaves out 1 of the 2 blocks" in neighbours.made(feature, skip(0.3, 0.8), True)


ATTENDING = ["KV Share", "Prompt Edit", "Focus Preview", "Short Memory (keys and values)", "Long Memory"]


class Container:
    """A tensor that is handed over once, as ComfyUI 0.31 and newer hand q, k and v to attention."""

    def __init__(self, tensor: torch.Tensor):
        self.tensor = tensor

    def take(self) -> torch.Tensor:
        tensor, self.tensor = self.tensor, None
        return tensor


@pytest.mark.parametrize("feature", ATTENDING)
def test_attention_that_takes_containers_and_leaves_out_a_preference_is_tapped(tiny, monkeypatch, caplog, feature: str):
    """Newer cores unpack containers for an override that has no function for them, and drop what a block prefers."""
    expected, handed = neighbours.without(feature), []
    inner = core_attention.attention_pytorch.__wrapped__

    def attention(q, k, v, heads, *args, preferred_attention=None, **kwargs):
        override = (kwargs.get("transformer_options") or {}).get("optimized_attention_override")
        handed.append(override)
        tensors = [one.take() for one in (q, k, v)]
        if override is not None:
            assert not hasattr(override, "container_function")
            return override(inner, *tensors, heads, *args, _inside_attn_wrapper=True, **kwargs)
        return inner(*tensors, heads, *args, **kwargs)

    def block_attention(q, k, v, *args, **kwargs):
        return attention(Container(q), Container(k), Container(v), *args, preferred_attention="int8", **kwargs)

    monkeypatch.setattr(wan, "optimized_attention", block_attention)
    assert torch.equal(neighbours.made(FEATURES[feature], None, True), expected)
    assert any(handed)
    assert "ask for a kernel of their own" not in caplog.text


def test_a_kernel_that_blocks_ask_for_and_do_not_get_is_said(tiny, monkeypatch, caplog):
    kind = type("ComfyAttention", (torch.nn.Module,), {"function": staticmethod(lambda: None)})
    block = neighbours.loaded().model.model.diffusion_model.blocks[0]
    monkeypatch.setitem(block.self_attn._modules, "attention", kind())
    neighbours.made(FEATURES["KV Share"], None, True)
    assert "1 attention modules of this checkpoint ask for a kernel of their own" in caplog.text
    assert "Longreel KV Share" in caplog.text
