"""hosts/memory/short_memory.py and hosts/memory/known_frames.py: what the next chunk is given of what has just been
made."""

import pytest
import torch

import comfy.patcher_extension

from longreel.engine.plan.rollout_chunks import plan_chunks
from longreel.hosts import block_count
from longreel.hosts.memory import short_memory
from longreel.hosts.memory.short_memory import AT_ZERO, CLEAN, NOISED, KeysAndValues, KnownFrames, weight_of
from tests.engine.plan.attention_sizes import attention_size
from tests.hosts.rollout_cases import roll, story

CLEAN_ALREADY = ("wan22_5b", "ltxv", "hunyuan_video", "hunyuan_video15")


class Shown:
    """What the network was given in each forward: x and t."""

    def __init__(self, model):
        self.calls = []
        self.model = model.clone()
        self.model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, "zz shown", self)

    def __call__(self, executor, x, t, *args, **kwargs):
        self.calls.append((x.clone(), t.clone()))
        return executor(x, t, *args, **kwargs)


def known(model, shown=NOISED, frames=0, strength=1.0, decay=0.0):
    return short_memory.attach(model, KnownFrames(shown, frames, strength, decay))


def test_frames_that_are_held_as_planned_and_noised_are_what_rollout_does_anyway(tiny, every_tiny):
    loaded = tiny(every_tiny.name)
    timeline = story(loaded.model)
    assert torch.equal(roll(loaded, timeline, known(loaded.model)), roll(loaded, timeline))


def test_clean_frames_change_only_what_a_family_does_not_show_clean_anyway(tiny, every_tiny):
    loaded = tiny(every_tiny.name)
    timeline = story(loaded.model)
    model = known(loaded.model, CLEAN)
    same = torch.equal(roll(loaded, timeline, model), roll(loaded, timeline))
    assert same == (every_tiny.name in CLEAN_ALREADY)


@pytest.mark.parametrize("how", [CLEAN, AT_ZERO])
def test_the_network_sees_clean_frames_and_time_zero_only_where_asked_for(tiny, how):
    loaded = tiny("wan21")
    timeline = story(loaded.model)
    shown = Shown(known(loaded.model, how))
    out = roll(loaded, timeline, shown.model, steps=1)
    for chunk, (x, t) in zip(plan_chunks(timeline, 1), shown.calls, strict=True):
        finished = loaded.model.model.process_latent_in(out[:, :, chunk.start_frame : chunk.first_new_frame])
        assert torch.allclose(x[:, :, : chunk.known_frames], finished.expand(x.shape[0], -1, -1, -1, -1), atol=1e-5)
        if chunk.known_frames and how == AT_ZERO:
            assert t.shape == (x.shape[0], chunk.latent_frames)
            assert (t[:, : chunk.known_frames] == 0).all() and (t[:, chunk.known_frames :] == 1000).all()
        else:
            assert t.shape == (x.shape[0],)


@pytest.mark.parametrize("name", ["cogvideox10", "hunyuan_video", "ltxv"])
def test_time_zero_is_refused_where_the_network_takes_no_time_per_frame_of_ours(tiny, name):
    loaded = tiny(name)
    with pytest.raises(
        ValueError, match="show known frames at time 0, and .* takes its own times, one .* choose clean"
    ):
        roll(loaded, story(loaded.model), known(loaded.model, AT_ZERO))


def test_frames_that_are_held_less_are_drawn_anew_in_part(tiny):
    loaded = tiny("wan21")
    timeline = story(loaded.model)
    held = {
        (shown, s): roll(loaded, timeline, known(loaded.model, shown, strength=s))
        for shown in (CLEAN, AT_ZERO, NOISED)
        for s in (0.0, 0.5, 1.0)
    }
    for strength in (0.5, 1.0):
        outs = [held[shown, strength] for shown in (CLEAN, AT_ZERO, NOISED)] + [held[NOISED, 0.0]]
        assert not any(torch.allclose(a, b, atol=1e-2) for n, a in enumerate(outs) for b in outs[:n])
    assert torch.equal(held[CLEAN, 0.0], held[NOISED, 0.0])  # nothing is held, so nothing is shown clean
    assert torch.allclose(held[AT_ZERO, 0.0], held[NOISED, 0.0], atol=1e-3)


def test_more_known_frames_leave_fewer_new_ones_in_a_chunk(tiny):
    loaded = tiny("wan21")
    timeline = story(loaded.model)
    for frames in (1, 3):
        shown = Shown(known(loaded.model, frames=frames))
        roll(loaded, timeline, shown.model, steps=1)
        assert len(shown.calls) == len(plan_chunks(timeline, frames))


def test_decay_weakens_chunk_by_chunk():
    assert [weight_of(0.8, 0.5, back) for back in (1, 2, 3)] == [0.8, 0.4, 0.2]
    assert weight_of(1.0, 0.0, 9) == 1.0 and weight_of(1.0, 1.0, 1) == 1.0 and weight_of(1.0, 1.0, 2) == 0.0


def test_known_frames_and_keys_and_values_work_together(tiny):
    loaded = tiny("wan21")
    timeline = story(loaded.model)
    keys = KeysAndValues(2, 1.0, 0.0, frozenset(range(block_count(loaded.model))))
    both = short_memory.attach(known(loaded.model, CLEAN), keys)
    alone = short_memory.attach(loaded.model, keys)
    assert not torch.equal(roll(loaded, timeline, both), roll(loaded, timeline, alone))
    with pytest.raises(ValueError, match="each reads the frames before the window"):
        short_memory.attach(both, keys)


def test_a_memory_that_would_leave_nothing_new_is_refused(tiny):
    loaded = tiny("wan21")
    with pytest.raises(ValueError, match="5 known frames leave nothing new in chunks of 5 latent frames; use 0 to 4"):
        roll(loaded, story(loaded.model), known(loaded.model, frames=5))


def test_what_is_kept_is_asked_for_in_frames_of_the_memory_not_of_the_window():
    size = attention_size(frames=7)
    keys = KeysAndValues(2, 1.0, 0.0, frozenset(range(4)))
    assert keys.need(size).kept == keys.context_levels * 4 * size.bytes_of(2 * size.tokens_of_frame)
    assert KeysAndValues(2, 0.0, 0.0, frozenset(range(4))).need(size).kept == 0
