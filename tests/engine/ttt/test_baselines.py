"""engine/ttt/baselines.py: in a TTT layer's place, the delta rule remembers all, a window sees its neighbours."""

import math

import pytest
import torch

from longreel.engine.ttt.block import TTTBlock
from longreel.engine.ttt.files import LoadedTTT, load_ttt, save_ttt
from longreel.engine.ttt.layer import AS_TRAINED, GATED_DELTA, LINEAR, MLP, OWN, SLIDING_WINDOW, TTTConfig
from longreel.engine.ttt.order import Layout, even_layout
from tests.engine.finite_differences import along_gradients
from tests.engine.ttt_cases import CHUNK, HEADS, THREE_SEGMENTS, WIDTH, tokens_like

MIXERS = (GATED_DELTA, SLIDING_WINDOW)
GATES = ("forward_text", "forward_video", "backward_text", "backward_video")
SIX_SEGMENTS = even_layout(text_tokens=3, segments=6, frames=13, height=2, width=2)


def config_of(kind: str) -> TTTConfig:
    return TTTConfig(kind, WIDTH, HEADS, 1 if kind == SLIDING_WINDOW else CHUNK, 1.0, rates=OWN)


def mixer(kind: str, dtype: torch.dtype = torch.float32) -> TTTBlock:
    """Every parameter random, gates open."""
    torch.manual_seed(0)
    block = TTTBlock(config_of(kind), dtype=dtype)
    for name, value in block.named_parameters():
        torch.nn.init.normal_(value, mean=1.0 if name.endswith(("norm.weight", "norm_weight")) else 0.0, std=0.2)
        if name in GATES:
            torch.nn.init.constant_(value, 0.7)
        if name == "ttt.decay.bias":
            torch.nn.init.constant_(value, -3.0)
        if name == "ttt.logit_scale":
            torch.nn.init.constant_(value, 4.0)
    return block


def frames_that_see(block: TTTBlock, layout: Layout, frame: int, backwards: bool | None = None) -> set[int]:
    """Frames of the result (None: of both readings) that change with one frame of the input."""
    x = tokens_like(layout)
    other = x.clone()
    start, stop = layout.tokens_of((frame, frame + 1))
    other[:, start:stop] += 1
    with torch.no_grad():
        outs = [
            block(one, layout) if backwards is None else _reading(block, one, layout, backwards) for one in (x, other)
        ]
    changed = (outs[0] != outs[1]).any(-1)[0, layout.text_tokens :].unflatten(0, (layout.frames, -1)).any(-1)
    return set(changed.nonzero().flatten().tolist())


def _reading(block: TTTBlock, x: torch.Tensor, layout: Layout, backwards: bool) -> torch.Tensor:
    out = torch.empty_like(x)
    for slab, y in block.ttt.read(x, layout, backwards):
        for (start, stop), part in zip(slab.ranges, y.split([b - a for a, b in slab.ranges], 1), strict=True):
            out[:, start:stop] = part
    return out


@pytest.mark.parametrize("kind", MIXERS)
def test_a_new_block_gives_its_input_back_to_the_bit(kind):
    block, x = TTTBlock(config_of(kind)), tokens_like(THREE_SEGMENTS)
    assert torch.equal(block(x, THREE_SEGMENTS), x)


@pytest.mark.slow
@pytest.mark.parametrize("kind", MIXERS)
@pytest.mark.parametrize("checkpoint_every", [0, 2])
def test_gradients_are_those_of_finite_differences(kind, checkpoint_every):
    """Along one random direction of all parameters at once."""
    block, x = mixer(kind, torch.float64), tokens_like(THREE_SEGMENTS).double()
    block.ttt.checkpoint_every = checkpoint_every
    weight, parameters = torch.randn_like(x) / x.numel() ** 0.5, list(block.parameters())
    gradients = torch.autograd.grad((block(x, THREE_SEGMENTS, 3 * CHUNK) * weight).sum(), parameters)
    assert all(gradient.abs().max() > 0 for gradient in gradients)
    measured, along = along_gradients(lambda: (block(x, THREE_SEGMENTS) * weight).sum(), parameters, gradients, 1e-4)  # noqa: PLW0108
    # Some of it is computed in float32, whatever the layer's own dtype.
    torch.testing.assert_close(measured, along, rtol=2e-3, atol=0)


@torch.no_grad()
@pytest.mark.parametrize("kind", MIXERS)
@pytest.mark.parametrize("slab_tokens", [CHUNK, 5 * CHUNK])
def test_in_place_and_in_slabs_it_is_the_same(kind, slab_tokens):
    block, x = mixer(kind), tokens_like(THREE_SEGMENTS, batch=2)
    expected = block(x, THREE_SEGMENTS)
    out = block(x, THREE_SEGMENTS, slab_tokens, in_place=True)
    assert out.data_ptr() == x.data_ptr() and not torch.equal(x, tokens_like(THREE_SEGMENTS, batch=2))
    torch.testing.assert_close(out, expected, atol=2e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("kind", MIXERS)
def test_bfloat16_is_near_float32(kind):
    block, x = mixer(kind), tokens_like(THREE_SEGMENTS)
    expected = block(x, THREE_SEGMENTS)
    out = block.bfloat16()(x.bfloat16(), THREE_SEGMENTS)
    assert out.dtype == torch.bfloat16 and (out - expected).norm() < 0.03 * expected.norm()


@pytest.mark.parametrize("frame, segments", [(0, (0, 1)), (1, (0, 1)), (5, (1, 2, 3)), (12, (4, 5))])
def test_a_window_sees_neighbouring_segments_and_no_further(frame, segments):
    """Segments of 3 frames that share one; a shared frame counts with the earlier segment."""
    own = {0: {0, 1, 2}} | {number: {2 * number + 1, 2 * number + 2} for number in range(1, 6)}
    assert frames_that_see(mixer(SLIDING_WINDOW), SIX_SEGMENTS, frame) == set().union(*(own[i] for i in segments))


def test_a_window_looks_back_in_one_reading_and_ahead_in_the_other():
    block = mixer(SLIDING_WINDOW)
    assert frames_that_see(block, SIX_SEGMENTS, 5, backwards=False) == {5, 6, 7, 8}
    assert frames_that_see(block, SIX_SEGMENTS, 5, backwards=True) == {3, 4, 5, 6}


def test_a_window_hears_the_text_of_its_segments():
    block, x = mixer(SLIDING_WINDOW), tokens_like(SIX_SEGMENTS)
    other = x.clone()
    start, stop = SIX_SEGMENTS.text_of(4)
    other[:, start:stop] += 1
    with torch.no_grad():
        changed = (block(x, SIX_SEGMENTS) != block(other, SIX_SEGMENTS)).any(-1)[0, SIX_SEGMENTS.text_tokens :]
    frames = changed.unflatten(0, (13, -1)).any(-1).nonzero().flatten().tolist()
    assert frames == [7, 8, 9, 10, 11, 12]


def test_the_delta_rule_carries_the_first_frame_to_the_last_and_back():
    block = mixer(GATED_DELTA)
    assert frames_that_see(block, SIX_SEGMENTS, 0, backwards=False) == set(range(13))
    assert frames_that_see(block, SIX_SEGMENTS, 5, backwards=False) == set(range(5, 13))
    assert frames_that_see(block, SIX_SEGMENTS, 5, backwards=True) == set(range(6))


def test_new_delta_heads_remember_from_10_to_10000_tokens():
    torch.manual_seed(0)
    decay = torch.nn.functional.softplus(TTTBlock(TTTConfig(GATED_DELTA, 1600, 100, 64, 1.0, rates=OWN)).ttt.decay.bias)
    assert 1e-4 <= decay.min() < 3e-4 and 0.03 < decay.max() <= 0.1


def test_they_have_about_as_many_parameters_as_ttt_mlp():
    def count(kind: str) -> int:
        block = TTTBlock(TTTConfig(kind, 192, 6, 1 if kind == SLIDING_WINDOW else 64, 1.0, rates=OWN))
        return sum(value.numel() for value in block.parameters())

    mlp = count(MLP)
    assert {kind: round(count(kind) / mlp, 2) for kind in (LINEAR, *MIXERS)} == {
        LINEAR: 0.78,
        GATED_DELTA: 0.94,
        SLIDING_WINDOW: 0.74,
    }
    assert math.isclose(mlp, 4 * 192**2 + 8 * 192 * 32, rel_tol=0.03)


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"kind": GATED_DELTA, "rates": AS_TRAINED}, "gated_delta reads its own learning rates"),
        ({"kind": SLIDING_WINDOW, "chunk": 64}, "sliding_window has chunk 64 and base_rate 1 and learns nothing"),
        ({"kind": MLP, "heads": 0}, "a TTT layer with heads 0 reads nothing"),
        ({"kind": LINEAR, "chunk": 0}, "a TTT layer with chunk 0 reads nothing"),
        ({"kind": "mamba"}, "unknown kind of TTT layer 'mamba', none of 5"),
    ],
)
def test_configs_that_would_say_nothing_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        TTTConfig(**{"width": WIDTH, "heads": HEADS, "chunk": 1, "base_rate": 1.0, "rates": OWN} | changed)


@pytest.mark.parametrize(("kind", "name"), [(GATED_DELTA, "gated delta rule"), (SLIDING_WINDOW, "sliding window")])
def test_a_file_carries_the_kind(tmp_path, kind, name):
    block = mixer(kind)
    save_ttt(tmp_path / "x.safetensors", LoadedTTT({1: block.state_dict()}, block.ttt.config, "Wan", 5, 3))
    loaded = load_ttt(tmp_path / "x.safetensors")
    assert loaded.config == block.ttt.config and loaded.summary().startswith(f"{name} for Wan: 1 of 3 blocks")
    again = TTTBlock(loaded.config)
    again.load_state_dict(loaded.layers[1])
    x = tokens_like(THREE_SEGMENTS)
    assert torch.equal(again(x, THREE_SEGMENTS), block(x, THREE_SEGMENTS))


@pytest.mark.parametrize("kind", MIXERS)
def test_bad_readings_are_refused(kind):
    block, x = mixer(kind), tokens_like(THREE_SEGMENTS)
    with pytest.raises(ValueError, match="x has 36 tokens of 32 channels, but the layout 37"):
        block(x[:, 1:], THREE_SEGMENTS)
    with pytest.raises(ValueError, match="backend triton was asked for"):
        block(x, THREE_SEGMENTS, backend="triton")
    if kind == GATED_DELTA:
        with pytest.raises(ValueError, match="a slab of 6 tokens cuts a chunk of 4"):
            block(x, THREE_SEGMENTS, slab_tokens=6)
