"""engine/ttt/layer.py: one reading of a video is the same in any slabs, learns forwards in time, and stays small."""

import pytest
import torch

from longreel.engine.ttt.layer import AS_TRAINED, LINEAR, MLP, OWN, TTTConfig, TTTLayer
from longreel.engine.ttt.order import Layout, even_layout, pass_runs, scan_runs
from tests.engine.ttt_cases import ALIGNED, CHUNK, KINDS, THREE_SEGMENTS, WIDTH, make_block, tokens, tokens_like
from tests.live_bytes import LiveBytes

both_directions = pytest.mark.parametrize("backwards", [False, True])
both_kinds = pytest.mark.parametrize("kind", KINDS)


def make_layer(kind: str = MLP, **more) -> TTTLayer:
    return make_block(kind, **more).ttt.requires_grad_(False)


@pytest.mark.slow
@both_directions
@both_kinds
@pytest.mark.parametrize("rates", [AS_TRAINED, OWN])
def test_slabs_do_not_change_the_numbers(kind, backwards, rates):
    layer, x = make_layer(kind, rates=rates), tokens_like(THREE_SEGMENTS, batch=2)
    whole = layer(x, THREE_SEGMENTS, backwards)
    for slab_tokens in (CHUNK, 3 * CHUNK, 8 * CHUNK, 100 * CHUNK):
        torch.testing.assert_close(layer(x, THREE_SEGMENTS, backwards, slab_tokens), whole, atol=2e-5, rtol=1e-4)


@both_kinds
@pytest.mark.parametrize("rates", [AS_TRAINED, OWN])
@pytest.mark.parametrize("layout", [THREE_SEGMENTS, ALIGNED])
def test_backwards_is_forwards_on_the_video_turned_round(kind, rates, layout):
    """The definition of R, read token by token: texts in opposite order, the video from its last token to its first."""
    layer, x = make_layer(kind, rates=rates), tokens_like(layout)
    turned = torch.tensor(tokens(pass_runs(layout, backwards=True)))
    expected = torch.empty_like(x)
    expected[:, turned] = layer(x[:, turned], layout)
    torch.testing.assert_close(layer(x, layout, backwards=True), expected, atol=2e-5, rtol=1e-4)


@both_directions
@both_kinds
def test_what_comes_later_does_not_change_what_was_read(kind, backwards):
    layer, x = make_layer(kind, rates=OWN), tokens_like(THREE_SEGMENTS)
    order = tokens(scan_runs(THREE_SEGMENTS, backwards))
    early, late = order[: 5 * CHUNK], order[5 * CHUNK :]
    changed = x.clone()
    changed[:, late] += 1
    before, after = layer(x, THREE_SEGMENTS, backwards), layer(changed, THREE_SEGMENTS, backwards)
    assert torch.equal(before[:, early], after[:, early])
    assert (before[:, late] != after[:, late]).all()


@both_kinds
def test_what_was_read_changes_what_comes_later(kind):
    layer, x = make_layer(kind, rates=OWN), tokens_like(THREE_SEGMENTS)
    changed = x.clone()
    changed[:, :3] += 1  # the first text
    difference = (layer(x, THREE_SEGMENTS) - layer(changed, THREE_SEGMENTS)).abs().amax(-1)[0]
    assert (difference > 1e-4).all()


def test_every_token_learns_at_its_own_rate_where_parts_are_multiples_of_the_chunk():
    x = tokens_like(ALIGNED)
    for backwards in (False, True):
        trained, own = (make_layer(rates=rates)(x, ALIGNED, backwards) for rates in (AS_TRAINED, OWN))
        torch.testing.assert_close(trained, own, atol=1e-6, rtol=1e-6)


def test_rates_as_trained_differ_where_they_are_not():
    x = tokens_like(THREE_SEGMENTS)
    trained, own = (make_layer(rates=rates)(x, THREE_SEGMENTS) for rates in (AS_TRAINED, OWN))
    assert (trained - own).norm() > 0.01 * own.norm()


def test_learning_rates_lie_between_0_and_the_base_rate_over_the_head_width():
    layer = make_layer()
    rates = layer.learning_rates(100 * tokens_like(ALIGNED))
    assert rates.shape == (1, ALIGNED.tokens, layer.config.heads)
    assert 0 <= rates.min() < 0.1 * rates.max() and rates.max() <= layer.config.base_rate / layer.config.head_width


def test_without_a_learning_rate_only_a_tokens_own_value_matters():
    layer, x = make_layer(base_rate=0.0), tokens_like(THREE_SEGMENTS)
    changed = x.clone()
    changed[:, 0] += 1
    assert torch.equal(layer(x, THREE_SEGMENTS)[:, 1:], layer(changed, THREE_SEGMENTS)[:, 1:])


def test_what_is_learned_is_the_value_without_its_mean():
    layer, x = make_layer(), tokens_like(THREE_SEGMENTS)
    before = layer(x, THREE_SEGMENTS)
    layer.wv.bias += 3.0
    torch.testing.assert_close(layer(x, THREE_SEGMENTS), before, atol=2e-5, rtol=1e-4)
    layer.wv.bias[0] += 3.0
    assert (layer(x, THREE_SEGMENTS) - before).norm() > 0.01 * before.norm()


def test_text_has_no_position_and_video_has_its_own():
    """The same token everywhere and nothing learned: all text reads alike, video as its place."""
    layer = make_layer(base_rate=0.0)
    layout = even_layout(text_tokens=3, segments=1, frames=2, height=2, width=2)
    out = layer(torch.ones(1, layout.tokens, WIDTH), layout)[0]
    assert torch.equal(out[:3], out[:1].expand(3, -1))
    torch.testing.assert_close(out[3], out[0])  # frame 0, row 0, column 0
    assert len({tuple(row.tolist()) for row in out[3:]}) == 8


def test_the_clips_of_a_batch_do_not_see_each_other():
    layer, x = make_layer(), tokens_like(THREE_SEGMENTS, batch=3)
    together = layer(x, THREE_SEGMENTS)
    for row in range(3):
        torch.testing.assert_close(
            layer(x[row : row + 1], THREE_SEGMENTS), together[row : row + 1], atol=2e-5, rtol=1e-4
        )


def test_a_model_without_joined_text_has_video_alone():
    layout = Layout(text_lengths=(0, 0), windows=((0, 2), (2, 4)), height=2, width=2)
    layer, x = make_layer(), tokens_like(layout)
    assert layer(x, layout).shape == x.shape
    torch.testing.assert_close(layer(x, layout, slab_tokens=CHUNK), layer(x, layout), atol=2e-5, rtol=1e-4)


@both_kinds
def test_gradients_reach_every_parameter_and_the_input(kind):
    layer, x = make_block(kind).ttt, tokens_like(THREE_SEGMENTS).requires_grad_()
    layer(x, THREE_SEGMENTS, slab_tokens=3 * CHUNK).square().sum().backward()
    for name, value in (("x", x), *layer.named_parameters()):
        assert value.grad is not None and value.grad.isfinite().all() and value.grad.abs().max() > 0, name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near(dtype):
    layer, x = make_layer(base_rate=0.5), tokens_like(THREE_SEGMENTS)
    exact = layer(x, THREE_SEGMENTS)
    half = layer.to(dtype)(x.to(dtype), THREE_SEGMENTS)
    assert half.dtype == dtype
    assert (half.float() - exact).norm() < 0.02 * exact.norm()


@pytest.mark.slow
@both_directions
@pytest.mark.parametrize("rates", [AS_TRAINED, OWN])
def test_the_memory_of_reading_does_not_grow_with_the_video(backwards, rates):
    layer = make_layer(LINEAR, rates=rates, chunk=16)
    peaks = []
    for segments in (4, 8, 16):
        layout = even_layout(text_tokens=6, segments=segments, frames=4 * segments + 1, height=4, width=8)
        x = tokens_like(layout)
        with LiveBytes(x, *layer.parameters()) as memory:
            for _slab, part in layer.read(x, layout, backwards, slab_tokens=128):
                del part
        rates_held = 4 * layout.tokens * layer.config.heads if rates == AS_TRAINED else 0
        peaks.append(memory.peak - rates_held)
    assert max(peaks) < 1.1 * min(peaks)
    assert max(peaks) < x.nbytes  # of the longest video; q, k and v of all of it would be three times that


def test_a_new_layer_has_the_published_start():
    layer = TTTLayer(TTTConfig(MLP, 64, 2, 16, 0.1))
    assert {tuple(value.shape) for name, value in layer.named_parameters() if name in ("W1", "b1", "W2", "b2")} == {
        (2, 32, 128),
        (2, 1, 128),
        (2, 128, 32),
        (2, 1, 32),
    }
    assert layer.b1.abs().max() == layer.b2.abs().max() == layer.learnable_ttt_lr_bias.abs().max() == 0
    assert 0.01 < layer.W1.std() < 0.03 and 0.01 < layer.W2.std() < 0.03
    assert (layer.ttt_norm_weight == 1).all() and (layer.ttt_norm_bias == 0).all()


def test_a_layout_of_another_video_is_refused():
    with pytest.raises(ValueError, match="28 tokens of 32 channels, but the layout 37 and the layer 32"):
        make_layer()(tokens_like(ALIGNED), THREE_SEGMENTS)


def test_a_layer_of_another_model_is_refused():
    with pytest.raises(ValueError, match="28 tokens of 48 channels, but the layout 28 and the layer 32"):
        make_layer()(tokens_like(ALIGNED, width=48), ALIGNED)


@pytest.mark.parametrize("slab_tokens", [-4, 0, 6])
def test_a_slab_that_cuts_a_chunk_is_refused(slab_tokens):
    with pytest.raises(ValueError, match=f"a slab of {slab_tokens} tokens cuts a chunk of 4"):
        make_layer()(tokens_like(ALIGNED), ALIGNED, slab_tokens=slab_tokens)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kind": "rnn"}, "unknown kind of TTT layer 'rnn'"),
        ({"rates": "mine"}, "unknown learning rates 'mine'"),
        ({"heads": 3}, "32 channels in 3 heads are 10.6667 each"),
        ({"heads": 4}, "32 channels in 4 heads are 8 each"),
    ],
)
def test_a_layer_that_cannot_be_is_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        TTTConfig(**{"kind": MLP, "width": 32, "heads": 2, "chunk": 16, "base_rate": 0.1, **changes})
