"""engine/attention/focus_map.py: probabilities of words without the matrix of queries by keys, and maps per frame."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from longreel.engine.attention.focus_map import FocusMap, word_probability

relaxed = settings(max_examples=40, deadline=None)


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def softmax_columns(q: torch.Tensor, k: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """[B, Sq, Sk]: the whole matrix, mean over heads."""
    logits = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    return (logits if mask is None else logits + mask).softmax(-1).mean(1)


@relaxed
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.data())
def test_word_probability_is_the_softmax_column_of_each_word(batch, heads, queries, keys, data):
    q, k = randn(batch, heads, queries, 4, seed=1), randn(batch, heads, keys, 4, seed=2)
    words = data.draw(st.sets(st.integers(0, keys - 1)))
    mask = data.draw(st.sampled_from([None, randn(1, 1, 1, keys, seed=3), randn(batch, 1, queries, keys, seed=4)]))
    weight = torch.zeros(keys)
    weight[list(words)] = 1
    got = word_probability(attend, q, k, mask, weight)
    torch.testing.assert_close(got, softmax_columns(q, k, mask)[:, :, list(words)].sum(-1))


def test_each_row_may_have_words_of_its_own_and_shares_of_them():
    q, k = randn(2, 3, 5, 4, seed=1), randn(2, 3, 7, 4, seed=2)
    weight = torch.tensor([[0, 1, 0, 0, 0, 0, 0], [0, 0, 0.25, 0, 0, 0.75, 0]])
    columns = softmax_columns(q, k, None)
    expected = torch.stack([columns[0, :, 1], 0.25 * columns[1, :, 2] + 0.75 * columns[1, :, 5]])
    torch.testing.assert_close(word_probability(attend, q, k, None, weight), expected)


def test_all_keys_together_have_probability_one():
    q, k = randn(1, 2, 5, 4), randn(1, 2, 6, 4)
    torch.testing.assert_close(word_probability(attend, q, k, None, torch.ones(6)), torch.ones(1, 5))


def test_no_tensor_of_queries_by_keys_is_made():
    """Values and outputs have the head's width; a map of a long video costs one attention call."""
    seen = []

    def watching(q, k, v, mask):
        seen.append((q.shape, v.shape, mask))
        return attend(q, k, v, mask)

    word_probability(watching, randn(1, 2, 50, 4), randn(1, 2, 60, 4), None, torch.ones(60))
    assert seen == [((1, 2, 50, 4), (1, 2, 60, 4), None)]


def test_a_map_is_the_mean_of_the_layers_so_far():
    layers = randn(3, 2, 12).sigmoid()  # [layers, N, tokens]
    seen = FocusMap()
    for count, layer in enumerate(layers, start=1):
        seen.add(layer)
        mean = layers[:count].mean(0).view(2, 3, 4)
        low, high = mean.amin(2, keepdim=True), mean.amax(2, keepdim=True)
        torch.testing.assert_close(seen.normalised(3), (mean - low) / (high - low + 1e-6))
    torch.testing.assert_close(FocusMap(layers.sum(0), 3).normalised(3), seen.normalised(3))


@relaxed
@given(st.integers(1, 4), st.integers(2, 12), st.integers(0, 99))
def test_every_frame_is_stretched_to_its_own_range(frames, tokens, seed):
    seen = FocusMap()
    seen.add(randn(2, frames * tokens, seed=seed) * torch.tensor([[1.0], [0.01]]))
    pictures = seen.normalised(frames)  # [N, frames, tokens]
    assert pictures.shape == (2, frames, tokens)
    assert (pictures.amin(2) == 0).all() and (pictures.amax(2) <= 1).all()
    assert (seen.foreground(frames, 0.0)).all()
    assert (seen.foreground(frames, 0.5) == (pictures.flatten(1) >= 0.5)).all()


def test_one_bright_frame_does_not_darken_the_others():
    seen = FocusMap()
    seen.add(torch.tensor([[0.0, 0.1, 0.2, 0.0, 10.0, 20.0]]))
    torch.testing.assert_close(seen.normalised(2)[0, 0], seen.normalised(2)[0, 1], atol=1e-4, rtol=0)


def test_a_frame_without_the_words_has_no_foreground():
    seen = FocusMap()
    seen.add(torch.full((1, 8), 0.2))
    assert not seen.foreground(2, 0.3).any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_many_layers_of_half_precision_are_summed_in_float32(dtype):
    layer = torch.tensor([[1 / 3, 2 / 3]], dtype=dtype)
    seen = FocusMap()
    for _ in range(1000):
        seen.add(layer)
    torch.testing.assert_close(seen.total / seen.layers, layer.float())
