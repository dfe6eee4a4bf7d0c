"""engine/plan/rollout_chunks.py: every latent frame is made once, in order, from frames of its own take."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longreel.engine.plan.rollout_chunks import Chunk, plan_chunks
from longreel.engine.plan.timeline import Timeline, plan_timeline
from longreel.engine.storyboard.board import Shot, Storyboard
from tests.engine.timeline_cases import WAN, plans, storyboard

many = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def rollouts(draw: st.DrawFn) -> tuple[Timeline, int, tuple[Chunk, ...]]:
    timeline = draw(plans())
    known = draw(st.integers(0, timeline.segment_frames - 1))
    return timeline, known, plan_chunks(timeline, known)


def take_of(timeline: Timeline, frame: int) -> int:
    return max(number for number, start in enumerate(timeline.take_starts) if start <= frame)


@many
@given(rollouts())
def test_every_latent_frame_is_new_in_exactly_one_chunk_and_in_order(case):
    timeline, _, chunks = case
    made = [frame for chunk in chunks for frame in range(chunk.first_new_frame, chunk.end_frame)]
    assert made == list(range(timeline.latent_frames))
    assert [chunk.number for chunk in chunks] == list(range(len(chunks)))


@many
@given(rollouts())
def test_no_chunk_crosses_a_cut(case):
    timeline, _, chunks = case
    for chunk in chunks:
        assert {take_of(timeline, frame) for frame in range(chunk.start_frame, chunk.end_frame)} == {chunk.take}


@many
@given(rollouts())
def test_a_window_is_as_long_as_a_segment_or_as_its_take_so_far(case):
    timeline, _, chunks = case
    for chunk in chunks:
        behind = chunk.end_frame - timeline.take_starts[chunk.take]
        assert chunk.latent_frames == min(timeline.segment_frames, behind)


@many
@given(rollouts())
def test_only_the_first_chunk_of_a_take_knows_fewer_frames_than_asked_for(case):
    timeline, known, chunks = case
    for chunk in chunks:
        behind = chunk.first_new_frame - timeline.take_starts[chunk.take]
        assert min(known, behind) <= chunk.known_frames <= behind
        assert chunk.new_frames > 0


@many
@given(rollouts())
def test_frames_hear_the_prompt_of_their_shot_and_shared_frames_that_of_both(case):
    timeline, _, chunks = case
    for chunk in chunks:
        assert sum(share for _, share in chunk.mix) == pytest.approx(1)
        shots = [timeline.shots[shot] for shot, _ in chunk.mix]
        assert shots[0].start_frame <= chunk.first_new_frame and chunk.end_frame <= shots[-1].end_frame
        assert len(shots) == 1 or shots[1].index == shots[0].index + 1
        assert chunk.shot == shots[-1].index
        if len(shots) == 2:
            assert shots[1].shot.transition == "blend"
            assert (
                max(shots[1].start_frame - chunk.first_new_frame, chunk.end_frame - shots[1].start_frame)
                <= shots[1].overlap_frames
            )


@many
@given(rollouts())
def test_every_shot_has_frames_with_its_prompt_alone(case):
    timeline, _, chunks = case
    assert {chunk.mix[0][0] for chunk in chunks if len(chunk.mix) == 1} == set(range(len(timeline.shots)))


@many
@given(rollouts())
def test_the_pieces_of_a_shot_are_counted_from_zero(case):
    timeline, _, chunks = case
    for planned in timeline.shots:
        own = [chunk.piece for chunk in chunks if chunk.shot == planned.index]
        assert own == list(range(len(own)))


@many
@given(plans(), st.data())
def test_a_longer_last_shot_keeps_all_but_its_last_chunk(timeline, data):
    known = data.draw(st.integers(0, timeline.segment_frames - 1))
    last = timeline.shots[-1]
    more = replace(last, end_frame=last.end_frame + data.draw(st.integers(1, 30)))
    longer = plan_chunks(replace(timeline, shots=(*timeline.shots[:-1], more)), known)
    before = [chunk for chunk in plan_chunks(timeline, known) if last.index not in (shot for shot, _ in chunk.mix)]
    assert longer[: len(before)] == tuple(before)


def test_the_chunks_of_a_story_of_two_shots():
    timeline = plan_timeline(storyboard(33 / 16, 1.25, transition="continue"), WAN, segment_frames=5, overlap_frames=1)
    assert [(c.start_frame, c.known_frames, c.end_frame, c.shot, c.piece) for c in plan_chunks(timeline, 1)] == [
        (0, 0, 5, 0, 0),
        (4, 1, 9, 0, 1),
        (8, 1, 13, 1, 0),
        (9, 4, 14, 1, 1),
    ]


def test_a_blend_is_made_in_chunks_whose_prompts_move_over():
    timeline = plan_timeline(
        storyboard(33 / 16, 2.0, transition="blend"), WAN, segment_frames=5, overlap_frames=4, transition_prompts=3
    )
    shared = [(c.first_new_frame, c.end_frame, c.mix[1][1]) for c in plan_chunks(timeline, 1) if len(c.mix) == 2]
    assert shared == [(7, 8, 0.25), (8, 9, 0.5), (9, 11, 0.75)]


def test_a_cut_begins_with_a_whole_window_of_new_frames():
    timeline = plan_timeline(storyboard(33 / 16, 2.0, transition="cut"), WAN, segment_frames=5, overlap_frames=1)
    assert [(c.start_frame, c.known_frames, c.end_frame, c.take) for c in plan_chunks(timeline, 1)] == [
        (0, 0, 5, 0),
        (4, 1, 9, 0),
        (9, 0, 14, 1),
        (12, 2, 17, 1),
    ]


def test_short_shots_that_blend_on_both_sides_keep_a_frame_of_their_own():
    shots = tuple(Shot(f"shot {i}", 0.5, "blend") for i in range(4))
    timeline = plan_timeline(Storyboard(shots, width=64, height=64), WAN, segment_frames=5, overlap_frames=4)
    assert {c.mix[0][0] for c in plan_chunks(timeline, 1) if len(c.mix) == 1} == {0, 1, 2, 3}


@pytest.mark.parametrize("known", [-1, 5])
def test_known_frames_that_leave_nothing_new_are_refused(known):
    timeline = plan_timeline(storyboard(3.0), WAN, segment_frames=5, overlap_frames=1)
    with pytest.raises(
        ValueError, match=f"{known} known frames leave nothing new in chunks of 5 latent frames; use 0 to 4"
    ):
        plan_chunks(timeline, known)


def test_endless_chunks_are_refused_before_they_are_written_out():
    board = Storyboard(tuple(Shot(f"hour {i}", 3600.0, "blend") for i in range(3)), fps=240.0)
    timeline = plan_timeline(board, WAN)
    with pytest.raises(ValueError, match=r"are about 648,\d+ chunks, and at most 200,000 are planned"):
        plan_chunks(timeline, timeline.segment_frames - 1)
