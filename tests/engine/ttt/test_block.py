"""engine/ttt/block.py: two readings through gates, nothing at all through closed ones."""

import pytest
import torch

from longreel.engine.ttt.block import TTTBlock
from longreel.engine.ttt.layer import MLP, TTTConfig
from longreel.engine.ttt.order import even_layout
from tests.bench import ttt_bytes
from tests.engine.finite_differences import along_gradients
from tests.engine.ttt_cases import CHUNK, KINDS, THREE_SEGMENTS, WIDTH, make_block, tokens_like
from tests.live_bytes import LiveBytes

GATES = ("forward_text", "forward_video", "backward_text", "backward_video")


def shut(block: TTTBlock, *gates: str) -> TTTBlock:
    with torch.no_grad():
        for gate in gates:
            getattr(block, gate).zero_()
    return block


def test_a_new_block_gives_its_input_back_to_the_bit():
    block, x = TTTBlock(TTTConfig(MLP, WIDTH, 2, CHUNK, 0.1)), tokens_like(THREE_SEGMENTS)
    assert torch.equal(block(x, THREE_SEGMENTS), x)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_closed_gates_change_nothing_whatever_the_layer(kind, dtype):
    block, x = shut(make_block(kind), *GATES).to(dtype), tokens_like(THREE_SEGMENTS).to(dtype)
    assert torch.equal(block(x, THREE_SEGMENTS, slab_tokens=2 * CHUNK), x)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_the_backward_reading_sees_what_the_forward_one_made(kind):
    block, x, border = make_block(kind), tokens_like(THREE_SEGMENTS, batch=2), THREE_SEGMENTS.text_tokens
    forward = torch.cat(
        [block.forward_text.expand(border, -1), block.forward_video.expand(THREE_SEGMENTS.tokens - border, -1)]
    ).tanh()
    backward = torch.cat(
        [block.backward_text.expand(border, -1), block.backward_video.expand(THREE_SEGMENTS.tokens - border, -1)]
    ).tanh()
    y = x + forward * block.ttt(x, THREE_SEGMENTS)
    z = y + backward * block.ttt(y, THREE_SEGMENTS, backwards=True)
    torch.testing.assert_close(block(x, THREE_SEGMENTS), z, atol=2e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("part", ["text", "video"])
def test_text_and_video_have_gates_of_their_own(part):
    block, x = shut(make_block(MLP), f"forward_{part}", f"backward_{part}"), tokens_like(THREE_SEGMENTS)
    changed = (block(x, THREE_SEGMENTS) != x).all(-1)[0]
    is_text = torch.arange(THREE_SEGMENTS.tokens) < THREE_SEGMENTS.text_tokens
    assert torch.equal(changed, ~is_text if part == "text" else is_text)


@torch.no_grad()
@pytest.mark.parametrize("slab_tokens", [None, CHUNK, 5 * CHUNK])
def test_in_place_is_the_same_and_overwrites_the_input(slab_tokens):
    block, x = make_block(MLP), tokens_like(THREE_SEGMENTS)
    kept = x.clone()
    expected = block(x, THREE_SEGMENTS)
    assert torch.equal(x, kept)
    out = block(x, THREE_SEGMENTS, slab_tokens, in_place=True)
    assert out.data_ptr() == x.data_ptr()
    torch.testing.assert_close(out, expected, atol=2e-5, rtol=1e-4)


def test_in_place_is_refused_while_gradients_are_recorded():
    with pytest.raises(ValueError, match="overwrites what the gradients need"):
        make_block(MLP)(tokens_like(THREE_SEGMENTS), THREE_SEGMENTS, in_place=True)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_finite_differences(kind):
    """Along random directions of all parameters at once."""
    block, x = make_block(kind, base_rate=1.0), tokens_like(THREE_SEGMENTS)
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(2)) / x.numel() ** 0.5
    parameters = list(block.parameters())
    gradients = torch.autograd.grad((block(x, THREE_SEGMENTS, 3 * CHUNK) * weight).sum(), parameters)
    assert all(gradient.abs().max() > 0 for gradient in gradients)
    measured, along = along_gradients(lambda: (block(x, THREE_SEGMENTS) * weight).sum(), parameters, gradients, 1e-3)  # noqa: PLW0108
    torch.testing.assert_close(measured, along, rtol=0.02, atol=0)


def test_a_shut_gate_still_learns():
    block = shut(make_block(MLP), *GATES)
    block(tokens_like(THREE_SEGMENTS), THREE_SEGMENTS).square().sum().backward()
    assert all(getattr(block, gate).grad.abs().max() > 0 for gate in GATES)


@torch.no_grad()
def test_in_place_holds_one_slab_however_long_the_video():
    block, peaks = make_block(MLP, chunk=16), []
    for segments in (4, 16):
        layout = even_layout(text_tokens=6, segments=segments, frames=4 * segments + 1, height=4, width=8)
        x = tokens_like(layout)
        with LiveBytes(x, *block.parameters()) as memory:
            block(x, layout, slab_tokens=64, in_place=True)
        peaks.append(memory.peak - 4 * layout.tokens * block.ttt.config.heads)  # learning rates as trained
    assert peaks[1] < 1.1 * peaks[0]
    assert peaks[1] < x.nbytes


def test_a_one_pass_tail_leaves_little_to_move_around_the_scan():
    """Bytes of a token, channel and direction; at 3072 channels 39 of them are 120 KB."""
    width = 512
    with torch.inference_mode():
        found = ttt_bytes.rows_of(0, width)
    plain, one_pass = (1e3 * found[name]["KB"] / width for name in ("plain torch", "one pass"))
    assert one_pass < 39 and plain > 4 * one_pass
    assert found["one pass"]["of it the pass"] * 1e3 / width == pytest.approx(
        12 + 256 / width
    )  # six numbers, and angles
