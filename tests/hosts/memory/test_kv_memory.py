"""hosts/memory/kv_memory.py: finished frames are shown, their keys kept, moved and read, on every family."""

import math

import pytest
import torch

from longreel.engine.attention.kv_share import EXTEND, KeysValues, attend_shared
from longreel.engine.plan.needs import CARD, MAIN_MEMORY
from longreel.engine.plan.rollout_chunks import plan_chunks
from longreel.hosts import block_count
from longreel.hosts.attention import patching
from longreel.hosts.attention.feature import Start
from longreel.hosts.memory.kv_memory import levels_of, log_weights
from longreel.hosts.memory.long_memory import LongMemory
from longreel.hosts.memory.short_memory import KeysAndValues
from tests.hosts.rollout_cases import roll, story
from tests.hosts.windows.test_latent_blend import Recorder, empty


def attend(q, k, v, mask):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def everywhere(model) -> frozenset[int]:
    return frozenset(range(block_count(model)))


def remembering(model, frames=2, strength=1.0, decay=0.0):
    return patching.attach(model, KeysAndValues(frames, strength, decay, everywhere(model)))


def test_the_chunks_after_the_first_read_the_memory_and_the_first_has_none(tiny, every_tiny):
    loaded = tiny(every_tiny.name)
    timeline = story(loaded.model)
    plain, read = roll(loaded, timeline), roll(loaded, timeline, remembering(loaded.model))
    assert torch.isfinite(read).all()
    assert torch.equal(plain[:, :, :5], read[:, :, :5])
    assert not torch.equal(plain[:, :, 5:], read[:, :, 5:])


def test_strength_zero_is_no_memory_to_the_bit(tiny, every_tiny):
    loaded = tiny(every_tiny.name)
    timeline = story(loaded.model)
    model = remembering(loaded.model, strength=0.0)
    model = patching.attach(model, LongMemory("video", 1, "before", 0.0, everywhere(model), 0.0))
    assert torch.equal(roll(loaded, timeline, model), roll(loaded, timeline))


def test_a_faint_memory_changes_little_and_a_strong_one_more(tiny):
    loaded = tiny("wan21")
    timeline = story(loaded.model)
    plain = roll(loaded, timeline)
    away = [(roll(loaded, timeline, remembering(loaded.model, strength=s)) - plain).norm() for s in (1e-4, 0.3, 1.0)]
    assert 0 < away[0] < 0.01 * away[1] and away[1] < away[2]


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_videos_of_a_batch_remember_themselves(tiny, strength):
    loaded = tiny("wan21")
    timeline = story(loaded.model)
    two = torch.randn(2, *empty(timeline).shape[1:], generator=torch.Generator().manual_seed(3))
    model = remembering(loaded.model, strength=strength)
    both = roll(loaded, timeline, model, latent={"samples": two, "batch_index": [0, 0]})
    alone = roll(loaded, timeline, model, latent={"samples": two[1:], "batch_index": [0]})
    assert torch.allclose(both[1:], alone, atol=1e-3)


def test_frames_are_shown_once_per_level_before_the_first_step(tiny):
    loaded = tiny("wan21")
    timeline = story(loaded.model)
    recorder = Recorder(loaded.model)
    roll(loaded, timeline, remembering(recorder.model, frames=2), steps=3)
    levels = KeysAndValues(2, 1.0, 0.0, frozenset()).context_levels
    frames = [x.shape[2] for x, *_ in recorder.calls]
    expected = []
    for chunk in plan_chunks(timeline, 1):
        expected += [min(2, chunk.start_frame)] * (levels if chunk.start_frame else 0) + [chunk.latent_frames] * 3
    assert frames == expected


@pytest.mark.parametrize(("steps", "count", "places"), [(20, 2, [5, 15]), (9, 3, [1, 4, 7]), (1, 3, [0]), (2, 1, [1])])
def test_levels_are_in_the_middle_of_equal_parts_of_the_steps(steps, count, places):
    sigmas = torch.linspace(1, 0, steps + 1)
    start = Start(None, None, None, {}, sigmas)
    assert levels_of(start, count) == tuple(sigmas[places].tolist())


def test_a_key_of_weight_w_counts_w_times_in_the_softmax():
    q, k, v = (torch.randn(1, 2, n, 8, generator=torch.Generator().manual_seed(n)) for n in (3, 6, 6))
    own, weight = slice(0, 2), 0.25
    mask = log_weights([weight, weight], 2)
    source = KeysValues(k[:, :, 2:], v[:, :, 2:], mask)
    mixed = attend_shared(attend, q, KeysValues(k[:, :, own], v[:, :, own]), source, EXTEND, share_text=False)
    counts = (q @ k.transpose(-1, -2) / math.sqrt(8)).exp() * torch.tensor([1.0, 1.0, *[weight] * 4])
    assert torch.allclose(mixed, counts @ v / counts.sum(-1, keepdim=True), atol=1e-6)


def test_weights_of_zero_and_one_are_without_and_with_the_key():
    assert log_weights([1.0, 1.0], 3).tolist() == [[[[0.0] * 6]]]
    assert log_weights([0.0], 1).exp().item() == 0.0 and torch.isfinite(log_weights([0.0], 1)).all()


def test_memory_of_two_kinds_is_read_by_both(tiny):
    loaded = tiny("wan21")
    timeline = story(loaded.model)
    short = remembering(loaded.model)
    long = LongMemory("video", 1, "before", 1.0, everywhere(loaded.model), 0.0)
    outs = [
        roll(loaded, timeline, model)
        for model in (short, patching.attach(loaded.model, long), patching.attach(short, long))
    ]
    assert not any(torch.equal(a, b) for a, b in [(outs[0], outs[1]), (outs[0], outs[2]), (outs[1], outs[2])])


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("place", [CARD, MAIN_MEMORY])
def test_two_memories_read_the_same_heads_where_they_read_group_by_group(tiny, monkeypatch, heads, place):
    """One memory asks for the other's attention within its groups."""
    loaded = tiny("wan21")
    every = everywhere(loaded.model)
    model = patching.attach(loaded.model, KeysAndValues(2, 0.8, 0.1, every, place=place))
    model = patching.attach(model, LongMemory("video", 2, "before", 0.7, every, 0.0, place=place))
    whole = roll(loaded, story(loaded.model), model)
    for module in ("longreel.engine.plan.needs", "longreel.hosts.attention.kv_cache"):
        monkeypatch.setattr(f"{module}.heads_of_group", lambda size, count: min(count, heads))
    assert torch.allclose(whole, roll(loaded, story(loaded.model), model), atol=1e-3)
