"""engine/attention/prompt_edit.py against the whole matrix of probabilities, which it never makes itself."""

import pytest
import torch

from longreel.engine.attention import prompt_edit
from longreel.engine.attention.kv_share import KeysValues
from longreel.engine.attention.prompt_edit import AFTER_SOFTMAX, FORMS, LOGITS, reweight, word_factors

TEXT, VIDEO, ROWS, HEADS, WIDTH = 5, 12, 2, 3, 8


def attend(q, k, v, mask):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def drawn(text=TEXT):
    generator = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(ROWS, HEADS, text + VIDEO, WIDTH, generator=generator) for _ in range(3))
    return q, KeysValues(k, v, text_tokens=text)


def factors(*weights_by_row):
    """[B, TEXT], by token number."""
    out = torch.ones(ROWS, TEXT)
    for row, weights in enumerate(weights_by_row):
        for token, weight in weights.items():
            out[row, token] = weight
    return out


def whole_matrix(q, read, keys, queries, form, mask=None):
    """The published way: probabilities [B, H, Sq, Sk], written out."""
    logits = q @ read.k.transpose(-1, -2) / WIDTH**0.5
    if mask is not None:
        logits = logits + mask
    factor = torch.ones(q.shape[0], 1, q.shape[2], read.k.shape[2])
    factor[:, 0, TEXT:, :TEXT] = keys[:, None]
    factor[:, 0, :TEXT, TEXT:] = queries[:, :, None]
    if form == LOGITS:
        return (logits + factor.log()).softmax(-1) @ read.v
    return (logits.softmax(-1) * factor) @ read.v


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0])
def test_joint_attention_equals_the_whole_matrix(form, weight):
    q, read = drawn()
    keys, queries = factors({1: weight, 3: weight}), factors({1: weight, 3: weight})
    expected = whole_matrix(q, read, keys, queries, form)
    assert torch.allclose(reweight(attend, q, read, keys, queries, form), expected, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_shares_of_a_weight_and_words_at_other_places_on_both_sides(form):
    q, read = drawn()
    keys, queries = factors({0: 0.25}, {2: 3.0}), factors({4: 0.5, 1: 2.0}, {1: 0.0})
    expected = whole_matrix(q, read, keys, queries, form)
    assert torch.allclose(reweight(attend, q, read, keys, queries, form), expected, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(1, 1, 1, TEXT + VIDEO), (ROWS, 1, TEXT + VIDEO, TEXT + VIDEO)])
def test_a_mask_that_is_there_goes_on_working(form, shape):
    q, read = drawn()
    mask = torch.zeros(shape)
    mask[..., 2] = mask[..., -1] = -1e4
    keys = factors({1: 0.0, 2: 5.0}, {0: 2.0})
    out = reweight(attend, q, KeysValues(read.k, read.v, mask, TEXT), keys, keys, form)
    assert torch.allclose(out, whole_matrix(q, read, keys, keys, form, mask), atol=1e-5)


def test_negative_weights_turn_a_word_around():
    q, read = drawn()
    keys = factors({1: -5.0})
    expected = whole_matrix(q, read, keys, keys, AFTER_SOFTMAX)
    assert torch.allclose(reweight(attend, q, read, keys, keys), expected, atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_at_weight_zero_the_video_reads_nothing_of_the_word(form):
    """Whatever the word's values are; in cross attention, where all keys are text."""
    q, read = drawn(text=0)
    q, keys, none = q[:, :, :VIDEO], torch.ones(ROWS, VIDEO), torch.ones(ROWS, 0)
    keys[:, 4] = 0.0
    changed = read.v.clone()
    changed[:, :, 4] += 100.0
    before, after = (reweight(attend, q, KeysValues(read.k, v), keys, none, form) for v in (read.v, changed))
    assert torch.equal(before, after)
    assert not torch.allclose(attend(q, read.k, read.v, None), attend(q, read.k, changed, None))


def test_after_softmax_loses_what_the_word_gave_and_logits_share_it_out():
    q, read = drawn(text=0)
    ones = KeysValues(read.k, torch.ones_like(read.v))
    keys, none = torch.ones(ROWS, VIDEO), torch.ones(ROWS, 0)
    keys[:, 4] = 0.0
    q = q[:, :, :VIDEO]
    assert (reweight(attend, q, ones, keys, none, AFTER_SOFTMAX) < 1).all()
    assert torch.allclose(reweight(attend, q, ones, keys, none, LOGITS), torch.ones_like(q))


def test_text_among_itself_stays_as_it_is():
    q, read = drawn()
    keys = factors({1: 0.0}, {1: 0.0})
    v = read.v.clone()
    v[:, :, TEXT:] = 0
    no_video = KeysValues(read.k, v, text_tokens=TEXT)
    out = reweight(attend, q, no_video, keys, keys)
    assert torch.allclose(out[:, :, :TEXT], attend(q, no_video.k, no_video.v, None)[:, :, :TEXT], atol=1e-6)


def test_after_softmax_hands_every_query_on_once_and_masks_untouched():
    """Nothing is paid for twice, and any backend will do."""
    q, read = drawn()
    mask = torch.zeros(1, 1, 1, TEXT + VIDEO)
    seen = []

    def counting(q, k, v, mask):
        seen.append((q.shape[2], mask))
        return attend(q, k, v, mask)

    keys = factors({1: 0.5})
    reweight(counting, q, KeysValues(read.k, read.v, mask, TEXT), keys, keys)
    assert sum(queries for queries, _ in seen) == TEXT + VIDEO
    assert all(given is mask for _, given in seen)


def test_factors_follow_the_shares_of_mixed_prompts():
    assert word_factors(torch.tensor([0.0, 1.0, 0.25]), 3.0).tolist() == [1.0, 3.0, 1.5]
    assert word_factors(torch.tensor([0.0, 1.0, 0.25]), 1.0).tolist() == [1.0, 1.0, 1.0]


def test_a_negative_weight_in_the_logits_is_refused():
    prompt_edit.check_weight(-1.0, AFTER_SOFTMAX)
    prompt_edit.check_weight(0.0, LOGITS)
    with pytest.raises(ValueError, match='weight -1 has no logarithm.* use 0 or more, or form "after softmax"'):
        prompt_edit.check_weight(-1.0, LOGITS)
