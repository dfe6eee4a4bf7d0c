"""engine/attention/prompt_mix.py: the text of a transition is the weighted sum of its neighbours' texts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longreel.engine.attention.prompt_mix import mix_texts


def text(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 1), st.lists(st.integers(1, 9), min_size=2, max_size=4))
def test_the_mix_is_the_weighted_sum_with_zeros_after_the_shorter_text(share, tokens):
    shares = [share / (len(tokens) - 1)] * (len(tokens) - 1) + [1 - share]
    texts = [text(1, count, 4, seed=k) for k, count in enumerate(tokens)]
    expected = torch.zeros(1, max(tokens), 4)
    for one, part in zip(texts, shares, strict=True):
        expected[:, : one.shape[1]] += part * one
    torch.testing.assert_close(mix_texts(list(zip(texts, shares, strict=True))), expected)


def test_equal_texts_stay_and_a_whole_share_is_that_text():
    one, other = text(1, 5, 4), text(1, 5, 4, seed=1)
    torch.testing.assert_close(mix_texts([(one, 0.25), (one, 0.75)]), one)
    torch.testing.assert_close(mix_texts([(one, 0.0), (other, 1.0)]), other)


def test_a_single_text_is_passed_on_as_it_is():
    one = text(1, 5, 4)
    assert mix_texts([(one, 1.0)]) is one


@pytest.mark.parametrize("shape", [(1, 8), (1,), (2, 8)])
def test_pooled_texts_and_numbers_mix_too(shape):
    one, other = text(*shape), text(*shape, seed=1)
    torch.testing.assert_close(mix_texts([(one, 0.25), (other, 0.75)]), 0.25 * one + 0.75 * other)


@pytest.mark.parametrize("kind", [torch.bool, torch.int64])
def test_a_mask_keeps_every_token_that_one_of_the_texts_has(kind):
    mixed = mix_texts(
        [(torch.tensor([[1, 1, 0]], dtype=kind), 0.9), (torch.tensor([[1, 0, 0, 1, 1]], dtype=kind), 0.1)]
    )
    assert mixed.dtype == kind and mixed.tolist() == [[1, 1, 0, 1, 1]]


def test_half_precision_stays_half_precision():
    assert mix_texts([(text(1, 3, 4).half(), 0.5), (text(1, 3, 4).half(), 0.5)]).dtype == torch.float16


def test_shares_that_do_not_add_up_are_refused():
    with pytest.raises(
        ValueError, match="^the shares of a mixed prompt add up to 1.1, not 1; divide them by their sum$"
    ):
        mix_texts([(text(1, 2, 3), 0.5), (text(1, 2, 3), 0.6)])
