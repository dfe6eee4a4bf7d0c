"""What a feature needs of the card while a call reads what it kept: the estimate against the bytes that live."""

import dataclasses

import pytest
import torch

from comfy.ldm.modules.attention import attention_pytorch

from longreel.engine.attention import kv_share
from longreel.engine.attention.rotary import rotate_pairs, time_frequencies
from longreel.engine.plan import needs
from longreel.engine.plan.needs import CARD, EIGHT_BIT, FULL, MAIN_MEMORY, AttentionSize, Keep
from longreel.hosts.attention.kv_cache import KVCache
from longreel.hosts.families.sites import Call, Forward
from longreel.hosts.memory.kv_memory import need_of
from tests.live_bytes import LiveBytes

ROWS, HEADS, WIDTH, FRAMES, TOKENS = 2, 8, 32, 8, 64  # a token frame has 8 x 8 tokens
LAYER = 2 * ROWS * FRAMES * TOKENS * HEADS * WIDTH * 4  # bytes of keys and values in float32
SIZE = AttentionSize(ROWS, HEADS, WIDTH, 4, FRAMES, 1, TOKENS, 0, (("self", 0),))
CASES = {  # (frames that are kept, how they are joined, whether they are moved, place, form)
    "replace": (FRAMES, kv_share.REPLACE, False, CARD, FULL),
    "extend": (FRAMES, kv_share.EXTEND, False, CARD, FULL),
    "moved": (FRAMES, kv_share.REPLACE, True, CARD, FULL),
    "moved and joined": (FRAMES, kv_share.EXTEND, True, CARD, FULL),
    "from main memory": (FRAMES, kv_share.EXTEND, False, MAIN_MEMORY, FULL),
    "8-bit": (FRAMES, kv_share.EXTEND, False, CARD, EIGHT_BIT),
    "a memory of two frames": (2, kv_share.EXTEND, False, CARD, FULL),
    "two frames in 8 bits from main memory": (2, kv_share.EXTEND, False, MAIN_MEMORY, EIGHT_BIT),
}


def call_of(frames: int, seed: int) -> Call:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(ROWS, frames * TOKENS, HEADS, WIDTH, generator=generator).transpose(1, 2) for _ in range(3))
    return Call("self", 0, 0, (0, 1), (0, 0), q, k, v, None, Forward((frames, 8, 8), 1, None))


def attention(q, k, v, mask):
    """The tap's own: tokens in front, as networks hand them over."""
    out = attention_pytorch(*(t.transpose(1, 2).flatten(2) for t in (q, k, v)), q.shape[1])
    return out.unflatten(-1, (q.shape[1], -1)).transpose(1, 2)


@pytest.mark.parametrize("case", CASES)
def test_a_call_needs_what_the_plan_says(case, monkeypatch):
    monkeypatch.setattr(needs, "GROUP_BYTES", LAYER // 4)
    frames, join, moved, place, form = CASES[case]
    keep = Keep(place, form)
    source, call = call_of(frames, seed=1), call_of(FRAMES, seed=2)
    cache = KVCache("a test", keep, place)
    cache.put("label", source)
    frequencies = time_frequencies(WIDTH // 2, 10000.0)

    def attend(q, own, read):
        if moved:
            read = dataclasses.replace(read, k=rotate_pairs(read.k, 5 * frequencies))
        return kv_share.attend_shared(attention, q, own, read, join)

    (parts,) = cache.kept["label"].values()
    stored = [tensor for part in parts.values() for group in part.groups for tensor in group]
    there = [getattr(tensor, "buffer", tensor) for tensor in stored]
    with LiveBytes(call.q, call.k, call.v) as plain:
        attention(call.q, call.k, call.v, None).transpose(1, 2).flatten(2)
    with LiveBytes(call.q, call.k, call.v, source.k, source.v, *there) as reading:
        cache.read("label", call).attend(attend).transpose(1, 2).flatten(2)
    tokens = frames * TOKENS
    said = SIZE.need("a test", kept=1, tokens=tokens, keep=keep, joined=join == kv_share.EXTEND, moved=moved)
    slots = 0 if place == CARD else said.slots * 4 // 5  # two of keys and values for reading; half of one is written
    measured = reading.peak - plain.peak
    assert measured <= 1.05 * (said.reading + slots)
    assert measured >= (0.6 if moved or place != CARD else 0.9) * said.reading


def test_both_memories_of_wan_14b_need_two_gib_of_a_card():
    """The largest that is told of in docs/memory.md: 832x480, 81 frames and the one in front, two prompts."""
    sites = tuple((kind, block) for block in range(40) for kind in ("self", "cross"))
    size = AttentionSize(2, 40, 128, 2, 22, 1, 30 * 52, 512, sites)
    need = need_of("a memory", size, frozenset(range(40)), 2, 2, Keep(MAIN_MEMORY))
    assert 2 * need.on_card(MAIN_MEMORY) <= 2 * 2**30
    assert need.on_card(MAIN_MEMORY) > needs.GROUP_BYTES
