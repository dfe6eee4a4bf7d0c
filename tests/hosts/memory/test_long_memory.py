"""hosts/memory/long_memory.py: every chunk knows how the video, or its take, began."""

import pytest
import torch

from longreel.engine.plan.rollout_chunks import plan_chunks
from longreel.engine.storyboard.board import Shot
from longreel.hosts import block_count
from longreel.hosts.attention import patching
from longreel.hosts.memory.long_memory import BEFORE, TAKE, TRUE, VIDEO, LongMemory
from tests.engine.plan.attention_sizes import attention_size
from tests.hosts.rollout_cases import roll, story
from tests.hosts.windows.test_latent_blend import Recorder

AXES = (2, 3, 4)


def anchored(model, anchor=VIDEO, frames=1, placement=BEFORE, strength=1.0, statistics=0.0):
    layers = frozenset(range(block_count(model)))
    return patching.attach(model, LongMemory(anchor, frames, placement, strength, layers, statistics))


def other_start(model, transition):
    """Two stories that differ in the prompt of shot 1."""
    boards = [story(model, ("continue", transition))]
    first, second = (planned.shot for planned in boards[0].shots)
    return [*boards, story(model, shots=(Shot("another", first.seconds), second))]


def test_the_anchor_of_the_video_crosses_a_cut_and_that_of_a_take_does_not(tiny, every_tiny):
    loaded = tiny(every_tiny.name)
    boards = other_start(loaded.model, "cut")
    border = boards[0].shots[1].start_frame
    for anchor, crosses in ((VIDEO, True), (TAKE, False)):
        one, two = (roll(loaded, board, anchored(loaded.model, anchor)) for board in boards)
        assert torch.equal(one[:, :, border:], two[:, :, border:]) != crosses


def test_a_take_anchors_anew(tiny):
    loaded = tiny("wan21")
    timeline = story(loaded.model, ("continue", "cut"))
    border = timeline.shots[1].start_frame
    plain, take = roll(loaded, timeline), roll(loaded, timeline, anchored(loaded.model, TAKE))
    assert torch.equal(
        plain[:, :, border : border + 5], take[:, :, border : border + 5]
    )  # its first chunk has no anchor
    assert not torch.equal(plain[:, :, border + 5 :], take[:, :, border + 5 :])


def test_the_anchor_frames_are_those_of_the_first_chunk_and_not_those_in_the_window(tiny):
    loaded = tiny("wan21")
    timeline = story(loaded.model)
    recorder = Recorder(loaded.model)
    out = roll(loaded, timeline, anchored(recorder.model, frames=9), steps=1)
    first, second = plan_chunks(timeline, 1)[:2]
    x, sigma, *_ = recorder.calls[1]  # the look of the second chunk, at the one step's sigma, which is 1
    assert sigma == 1.0 and x.shape[2] == min(first.latent_frames, second.start_frame)
    assert out.shape[2] == timeline.latent_frames


def test_placement_matters(tiny):
    loaded = tiny("wan21")
    timeline = story(loaded.model, ("continue", "continue"))
    assert not torch.equal(*(roll(loaded, timeline, anchored(loaded.model, placement=p)) for p in (BEFORE, TRUE)))


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_statistics_hold_every_later_chunk_to_the_first(tiny, strength):
    loaded = tiny("wan21")
    timeline = story(loaded.model)
    held = roll(loaded, timeline, anchored(loaded.model, strength=strength, statistics=1.0))
    chunks = plan_chunks(timeline, 1)
    first = held[:, :, : chunks[0].end_frame]
    for chunk in chunks[1:]:
        new = held[:, :, chunk.first_new_frame : chunk.end_frame]
        assert torch.allclose(new.mean(AXES), first.mean(AXES), atol=1e-3)
        assert torch.allclose(new.std(AXES, correction=0), first.std(AXES, correction=0), atol=1e-3)
    assert torch.equal(first, roll(loaded, timeline)[:, :, : chunks[0].end_frame])


def test_statistics_of_a_take_are_its_own(tiny):
    loaded = tiny("wan21")
    timeline = story(loaded.model, ("continue", "cut"))
    border = timeline.shots[1].start_frame
    plain = roll(loaded, timeline)
    for anchor, same in ((TAKE, True), (VIDEO, False)):
        held = roll(loaded, timeline, anchored(loaded.model, anchor, strength=0.0, statistics=1.0))
        assert torch.equal(held[:, :, border : border + 5], plain[:, :, border : border + 5]) == same


def test_what_is_kept_is_asked_for_in_anchor_frames():
    size = attention_size(frames=7)
    feature = LongMemory(VIDEO, 2, BEFORE, 1.0, frozenset(range(4)), 0.0)
    assert feature.need(size).kept == feature.context_levels * 4 * size.bytes_of(2 * size.tokens_of_frame)
    assert LongMemory(VIDEO, 2, BEFORE, 0.0, frozenset(range(4)), 1.0).need(size).kept == 0
