"""hosts/attention/keys_values.py: keys and values find their readers, whatever batches core makes of the prompts."""

from types import SimpleNamespace

import pytest
import torch

from longreel.hosts.attention.keys_values import by_entry, for_reader

VIDEO, HEADS, WIDTH = 6, 2, 4


def call_of(rows, entries, text, videos=1, mask=None, seed=0):
    """The fields of hosts/families/sites.Call that matter here."""
    generator = torch.Generator().manual_seed(seed)
    k, v = (torch.randn(len(rows) * videos, HEADS, text + VIDEO, WIDTH, generator=generator) for _ in range(2))
    return SimpleNamespace(rows=rows, entries=entries, text_tokens=text, q=k, k=k, v=v, mask=mask)


def attend(q, read):
    return torch.nn.functional.scaled_dot_product_attention(q, read.k, read.v, attn_mask=read.mask)


def test_what_was_kept_comes_back_in_the_order_of_the_reader():
    kept = by_entry(call_of((1, 0), (0, 0), text=3, videos=2))
    whole = call_of((1, 0), (0, 0), text=3, videos=2)
    back, turned = for_reader(kept, whole), for_reader(kept, call_of((0, 1), (0, 0), text=3, videos=2))
    assert torch.equal(back.k, whole.k) and torch.equal(back.v, whole.v) and back.text_tokens == 3 and back.mask is None
    assert torch.equal(turned.k, whole.k.roll(2, dims=0))


def test_entries_of_one_prompt_are_told_apart_even_when_evaluated_one_by_one():
    first, second = call_of((0,), (0,), text=3, seed=1), call_of((0,), (1,), text=3, seed=2)
    kept = by_entry(first) | by_entry(second)
    back = for_reader(kept, call_of((0, 0), (1, 0), text=3))
    assert torch.equal(back.k, torch.cat([second.k, first.k]))


def test_a_prompt_of_which_nothing_was_kept_is_named():
    kept = by_entry(call_of((0,), (0,), text=3))
    with pytest.raises(ValueError, match="entry 2 of prompt 1 .* and 1 entries of that prompt were evaluated"):
        for_reader(kept, call_of((0,), (1,), text=3))


@pytest.mark.parametrize("masked", [False, True])
def test_texts_of_different_length_are_read_as_if_each_were_alone(masked):
    short, long = call_of((0,), (0,), text=2, seed=1), call_of((1,), (0,), text=5, seed=2)
    if masked:
        short.mask, long.mask = torch.randn(1, 1, 1, 2 + VIDEO), torch.randn(1, 1, 1, 5 + VIDEO)
    kept = by_entry(short) | by_entry(long)
    read = for_reader(kept, call_of((0, 1), (0, 0), text=4))
    q = torch.randn(2, HEADS, 4 + VIDEO, WIDTH)
    alone = [attend(q[row : row + 1], for_reader(kept, call_of((row,), (0,), text=4))) for row in (0, 1)]
    assert read.text_tokens == 5
    assert torch.allclose(attend(q, read), torch.cat(alone), atol=1e-6)
    assert torch.equal(read.v[0, :, :2], short.v[0, :, :2])  # words keep their places


def test_only_what_is_shown_is_kept_in_memory():
    call = call_of((0,), (0,), text=3)
    both = torch.cat([call.k, call.k], dim=-1)
    call.k = both[..., :WIDTH]
    assert by_entry(call)[0, 0].k.untyped_storage().nbytes() == call.v.untyped_storage().nbytes()
