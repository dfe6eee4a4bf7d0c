"""hosts/attention/kv_cache.py: keys and values find their readers, whatever batches core makes of the prompts, wherever
and however they are kept."""

from types import SimpleNamespace

import pytest
import torch

from longreel.engine.plan import needs
from longreel.engine.plan.needs import CARD, EIGHT_BIT, FULL, MAIN_MEMORY, Keep
from longreel.hosts.attention.kv_cache import KVCache, every_frame, groups_of_heads
from longreel.hosts.attention.ledger import LEDGER

FRAMES, VIDEO, HEADS, WIDTH = 3, 6, 4, 8
NAME = "a test's cache"
PLACES_AND_FORMS = [(CARD, FULL), (MAIN_MEMORY, FULL), (CARD, EIGHT_BIT), (MAIN_MEMORY, EIGHT_BIT)]


def call_of(rows, entries, text, videos=1, mask=None, seed=0, block=0, kind="joint"):
    """The fields of hosts/families/sites.Call that matter here; tensors are views of [B, S, H, D], as networks'."""
    generator = torch.Generator().manual_seed(seed)
    k, v = (
        torch.randn(len(rows) * videos, text + VIDEO, HEADS, WIDTH, generator=generator).transpose(1, 2)
        for _ in range(2)
    )
    return SimpleNamespace(
        rows=rows,
        entries=entries,
        prompts=tuple(zip(rows, entries, strict=True)),
        text_tokens=text,
        q=k,
        k=k,
        v=v,
        mask=mask,
        block=block,
        kind=kind,
        forward=SimpleNamespace(grid=(FRAMES, 1, 2)),
    )


def cache_of(*calls, place=CARD, form=FULL, every=1):
    cache = KVCache(NAME, Keep(place, form, every), place)
    for call in calls:
        cache.put("label", call)
    return cache


def read_whole(cache, call):
    """What a reader is given, all groups of heads together, with its mask and text tokens."""
    reading = cache.read("label", call)
    parts = [(read.k.clone(), read.v.clone()) for _, read in reading]  # a group may be read until the next comes
    k, v = (torch.cat(side, dim=1) for side in zip(*parts, strict=True))
    return SimpleNamespace(k=k, v=v, mask=reading.mask, text_tokens=reading.text_tokens)


def attend(q, read):
    return torch.nn.functional.scaled_dot_product_attention(q, read.k, read.v, attn_mask=read.mask)


@pytest.fixture(params=[1, 3, HEADS], ids=lambda heads: f"groups of {heads}")
def group(request, monkeypatch):
    """Groups of so many heads; 3 of 4 leave a smaller last one."""
    monkeypatch.setattr(needs, "heads_of_group", lambda size, heads: request.param)
    monkeypatch.setattr("longreel.hosts.attention.kv_cache.heads_of_group", lambda size, heads: request.param)
    return request.param


@pytest.mark.parametrize("place", [CARD, MAIN_MEMORY])
def test_what_was_kept_comes_back_in_the_order_of_the_reader(place, group):
    whole = call_of((1, 0), (0, 0), text=3, videos=2)
    cache = cache_of(whole, place=place)
    back, turned = read_whole(cache, whole), read_whole(cache, call_of((0, 1), (0, 0), text=3, videos=2))
    assert torch.equal(back.k, whole.k) and torch.equal(back.v, whole.v) and back.text_tokens == 3 and back.mask is None
    assert torch.equal(turned.k, whole.k.roll(2, dims=0)) and torch.equal(turned.v, whole.v.roll(2, dims=0))
    one = read_whole(cache, call_of((0,), (0,), text=3, videos=2))
    assert torch.equal(one.k, whole.k[2:]) and torch.equal(one.v, whole.v[2:])


@pytest.mark.parametrize("place", [CARD, MAIN_MEMORY])
def test_entries_of_one_prompt_are_told_apart_even_when_evaluated_one_by_one(place):
    first, second = call_of((0,), (0,), text=3, seed=1), call_of((0,), (1,), text=3, seed=2)
    back = read_whole(cache_of(first, second, place=place), call_of((0, 0), (1, 0), text=3))
    assert torch.equal(back.k, torch.cat([second.k, first.k]))


def test_a_prompt_of_which_nothing_was_kept_is_named():
    cache = cache_of(call_of((0,), (0,), text=3))
    with pytest.raises(ValueError, match="entry 2 of prompt 1 .* and 1 entries of that prompt were evaluated"):
        cache.read("label", call_of((0,), (1,), text=3))
    with pytest.raises(ValueError, match="and 0 entries of that prompt"):
        cache.read("another label", call_of((0,), (0,), text=3))


@pytest.mark.parametrize("place, form", PLACES_AND_FORMS)
@pytest.mark.parametrize("masked", [False, True])
def test_texts_of_different_length_are_read_as_if_each_were_alone(masked, place, form):
    short, long = call_of((0,), (0,), text=2, seed=1), call_of((1,), (0,), text=5, seed=2)
    if masked:
        short.mask, long.mask = torch.randn(1, 1, 1, 2 + VIDEO), torch.randn(1, 1, 1, 5 + VIDEO)
    cache = cache_of(short, long, place=place, form=form)
    read = read_whole(cache, call_of((0, 1), (0, 0), text=4))
    q = torch.randn(2, HEADS, 4 + VIDEO, WIDTH)
    alone = [attend(q[row : row + 1], read_whole(cache, call_of((row,), (0,), text=4))) for row in (0, 1)]
    assert read.text_tokens == 5
    assert torch.allclose(attend(q, read), torch.cat(alone), atol=1e-6)
    assert torch.allclose(
        read.v[0, :, :2], short.v[0, :, :2], atol=0.0 if form == FULL else 0.02
    )  # words stay in place


def test_only_what_is_shown_is_kept_in_memory():
    call = call_of((0,), (0,), text=3)
    both = torch.cat([call.k, call.k], dim=-1)
    call.k = both[..., :WIDTH]
    cache = cache_of(call)
    assert LEDGER.bytes_of(NAME) == 2 * call.v.nbytes
    assert torch.equal(read_whole(cache, call).k, call.k)


@pytest.mark.parametrize("place, form", PLACES_AND_FORMS)
def test_the_ledger_shows_all_that_is_kept_and_nothing_that_is_gone(place, form):
    assert LEDGER.bytes_of(NAME) == 0
    calls = [call_of((0, 1), (0, 0), text=3, block=block) for block in range(3)]
    cache = cache_of(*calls, place=place, form=form)
    tensor = calls[0].k.nbytes
    of_tensor = tensor if form == FULL else tensor // 4 + tensor // WIDTH
    kept = [line for line in LEDGER.lines(NAME) if not line.what.startswith("a slot")]
    assert sum(line.size_bytes for line in kept) == 3 * 2 * of_tensor
    assert all((line.what == "keys and values in main memory") == (place == MAIN_MEMORY) for line in kept)
    cache.drop("label", (1, "joint"))
    assert cache.labels() == ["label"]
    del calls
    if place == CARD:
        assert LEDGER.bytes_of(NAME) == 2 * 2 * of_tensor
    cache.drop("label")
    assert cache.labels() == []
    del cache
    assert LEDGER.bytes_of(NAME) == 0


def test_buffers_of_main_memory_are_used_again():
    calls = [call_of((0, 1), (0, 0), text=3, seed=seed) for seed in range(5)]
    cache, kept = cache_of(calls[0], place=MAIN_MEMORY), []
    for call in calls:
        cache.drop("label")
        cache.put("label", call)
        assert torch.equal(read_whole(cache, call).v, call.v)
        cache.put("label", call)  # again over what is there, beside which it lies for a moment
        assert torch.equal(read_whole(cache, call).k, call.k)
        kept.append(LEDGER.bytes_of(NAME))
    assert kept[-1] == kept[0] == (2 + 3) * 2 * calls[0].k.nbytes  # in main memory, and in slots on the way


def test_what_travels_ahead_is_what_comes_next(group):
    """Readers go through the blocks in the order in which they were kept, or in any other."""
    calls = [call_of((0, 1), (0, 0), text=3, block=block, seed=block) for block in range(4)]
    cache = cache_of(*calls, place=MAIN_MEMORY)
    for block in (0, 1, 2, 3, 1, 0, 3, 3, 2):
        assert torch.equal(read_whole(cache, calls[block]).k, calls[block].k)
        assert torch.equal(read_whole(cache, calls[block]).v, calls[block].v)
    cache.put("label", other := call_of((0, 1), (0, 0), text=3, block=3, seed=9))  # while it was on its way
    read_whole(cache, calls[2])
    cache.put("label", other := call_of((0, 1), (0, 0), text=3, block=3, seed=10))
    assert torch.equal(read_whole(cache, other).k, other.k)


@pytest.mark.parametrize("place, form", PLACES_AND_FORMS)
def test_attention_by_groups_is_that_on_all_heads(group, place, form):
    call = call_of((0, 1), (0, 0), text=3, mask=torch.randn(1, HEADS, 1, 3 + VIDEO))
    cache = cache_of(call, place=place, form=form)
    out = cache.read("label", call).attend(lambda q, own, read: attend(q, read) + own.v)
    whole = attend(call.q, SimpleNamespace(k=call.k, v=call.v, mask=call.mask)) + call.v
    assert out.shape == whole.shape
    assert torch.equal(out, whole) if form == FULL else torch.allclose(out, whole, atol=0.05)


def test_every_second_frame_is_kept_behind_all_of_the_text():
    call = call_of((0,), (0,), text=3, mask=torch.randn(1, 1, 1, 3 + VIDEO))
    cache = cache_of(call, every=2)
    read, tokens = read_whole(cache, call), [0, 1, 2, 3, 4, 7, 8]
    assert torch.equal(read.k, call.k[:, :, tokens]) and torch.equal(read.v, call.v[:, :, tokens])
    assert torch.equal(read.mask, call.mask[..., tokens]) and read.text_tokens == 3
    cross = call_of((0,), (0,), text=0, kind="cross")
    assert torch.equal(read_whole(cache_of(cross, every=2), cross).k, cross.k)  # text has no frames
    with pytest.raises(ValueError, match="9 video tokens are not 2 equal frames"):
        every_frame(SimpleNamespace(k=call.k, text_tokens=0), 2, 2)


def test_groups_hold_as_many_heads_as_the_bytes_of_a_group():
    k = torch.empty(2, 10, 64, 32)
    assert groups_of_heads(k) == (slice(0, 10),)
    needs_of_head = 2 * 2 * 64 * 32 * 4
    assert needs.heads_of_group(needs.GROUP_BYTES // 3, 10) == 3
    assert needs.heads_of_group(2 * needs.GROUP_BYTES, 10) == 1
    assert needs.heads_of_group(needs_of_head, 10) == 10
