"""engine/plan/timeline.py: what is true of every plan, DiTCtrl's layout as a special case, and what is refused."""

import itertools
import math
import time
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longreel.engine.plan.timeline import SHORTEST_DEFAULT, plan_timeline, refuse_endless, takes_of, with_segments
from longreel.engine.sampling.latent_blend import BLENDS, ditctrl_layout, segment_weights
from longreel.engine.storyboard.board import Shot, Storyboard
from tests.engine.timeline_cases import LTXV, WAN, families, plans, storyboard

many = settings(max_examples=60, deadline=None)


@many
@given(plans())
def test_shots_follow_each_other_without_gap_and_add_up(timeline):
    assert timeline.shots[0].start_frame == 0
    assert all(a.end_frame == b.start_frame for a, b in zip(timeline.shots, timeline.shots[1:], strict=False))
    assert all(shot.latent_frames >= 1 for shot in timeline.shots)
    assert sum(shot.latent_frames for shot in timeline.shots) == timeline.latent_frames
    ranges = [timeline.shot_pixel_frames(shot) for shot in timeline.shots]
    assert ranges[0][0] == 0 and ranges[-1][1] == timeline.pixel_frames
    assert all(a[1] == b[0] for a, b in itertools.pairwise(ranges))
    assert timeline.seconds == pytest.approx(timeline.pixel_frames / timeline.fps)


@many
@given(plans())
def test_every_latent_frame_is_covered_by_its_own_take_and_no_segment_crosses_a_cut(timeline):
    for number, take in enumerate(takes_of(timeline.shots)):
        begin, end = take[0].start_frame, take[-1].end_frame
        own = [s for s in timeline.segments if s.take == number]
        assert all(begin <= s.start_frame < s.end_frame <= end for s in own)
        assert {frame for s in own for frame in range(s.start_frame, s.end_frame)} == set(range(begin, end))
        assert {s.latent_frames for s in own} == {min(timeline.segment_frames, end - begin)}
        assert {shot for s in own for shot, _ in s.mix} == {planned.index for planned in take}
        assert all(timeline.take_start(s) == begin for s in own)
    assert len(timeline.segments) == sum(1 for s in timeline.segments if s.take <= number)


@many
@given(plans())
def test_every_shot_has_a_segment_with_its_prompt_alone_that_touches_the_shot(timeline):
    for planned in timeline.shots:
        own = [s for s in timeline.segments if s.mix == ((planned.index, 1.0),)]
        assert own and all(s.main_shot == planned.index for s in own)
        assert any(s.start_frame <= planned.end_frame and planned.start_frame <= s.end_frame for s in own)


@many
@given(plans())
def test_segments_follow_each_other_as_the_shots_do(timeline):
    assert [s.start_frame for s in timeline.segments] == sorted(s.start_frame for s in timeline.segments)
    heard = [s.mix[0][0] + s.mix[-1][1] * (len(s.mix) - 1) for s in timeline.segments]
    assert heard == sorted(heard)


@many
@given(plans())
def test_shares_sum_to_one_and_blends_have_their_transition_prompts(timeline):
    assert all(math.isclose(sum(share for _, share in s.mix), 1) for s in timeline.segments)
    for a, b in zip(timeline.shots, timeline.shots[1:], strict=False):
        between = [s for s in timeline.segments if [shot for shot, _ in s.mix] == [a.index, b.index]]
        count = timeline.transition_prompts
        assert len(between) == (count if b.shot.transition == "blend" else 0)
        assert [s.mix[1][1] for s in between] == pytest.approx([j / (count + 1) for j in range(1, len(between) + 1)])


@many
@given(plans())
def test_neighbouring_segments_of_a_take_share_at_least_the_overlap(timeline):
    for a, b in zip(timeline.segments, timeline.segments[1:], strict=False):
        if a.take != b.take:
            continue
        shots = {shot for s in (a, b) for shot, _ in s.mix}
        own = [timeline.shots[shot].overlap_frames for shot in shots - {min(shots)}]
        assert a.end_frame - b.start_frame >= min([timeline.overlap_frames, a.latent_frames - 1, *own])


@many
@given(plans(), st.sampled_from(BLENDS), st.integers(0, 3))
def test_every_blend_gives_every_frame_of_every_plan_a_positive_weight(timeline, blend, seed):
    for number, take in enumerate(takes_of(timeline.shots)):
        own = [s for s in timeline.segments if s.take == number]
        weights = segment_weights(blend, [s.start_frame for s in own], [s.latent_frames for s in own], seed)
        total = [0.0] * timeline.latent_frames
        for segment, weight in zip(own, weights, strict=True):
            for frame, value in enumerate(weight.tolist(), start=segment.start_frame):
                assert value >= 0
                total[frame] += value
        assert all(total[frame] > 0 for frame in range(take[0].start_frame, take[-1].end_frame))


@many
@given(families, st.sampled_from([8.0, 16.0, 24.0, 25.0]), st.lists(st.floats(1, 40), min_size=1, max_size=60))
def test_each_boundary_is_rounded_by_half_a_latent_frame_at_most_and_never_accumulates(facts, fps, lengths):
    seconds = [length * facts.temporal_stride / fps for length in lengths]
    timeline = plan_timeline(storyboard(*seconds, fps=fps), facts)
    for planned, until in zip(timeline.shots, itertools.accumulate(Fraction(s) for s in seconds), strict=True):
        exact = float(until * Fraction(fps))
        assert abs(facts.pixel_frames(planned.end_frame) - exact) <= facts.temporal_stride / 2 + 1e-6


@pytest.mark.parametrize(
    ("prompts", "length", "overlap", "between"),
    [
        (1, 13, 6, 1),
        (2, 13, 6, 1),
        (3, 13, 6, 1),
        (5, 13, 6, 1),
        (3, 13, 6, 3),
        (2, 13, 12, 2),
        (4, 8, 4, 1),
        (3, 13, 0, 1),
        (3, 21, 9, 2),
        (4, 2, 1, 0),
        (6, 13, 6, 0),
        (3, 12, 5, 1),
    ],
)
def test_equal_shots_of_ditctrls_lengths_give_ditctrls_layout(prompts, length, overlap, between):
    layout = ditctrl_layout(prompts, length, overlap, between)
    stride = (between + 1) * (length - overlap)  # from one shot's own segment to the next one's
    gap = stride - length  # latent frames between two own segments; negative where they share frames
    first = length + (gap // 2 if gap >= 0 else -(-gap // 2))
    shots = [stride] * prompts
    shots[0] = first
    shots[-1] = layout.total_frames - first - stride * (prompts - 2) if prompts > 1 else length
    seconds = [(4 * frames - 3 * (index == 0)) / 16 for index, frames in enumerate(shots)]
    timeline = plan_timeline(
        storyboard(*seconds, transition="blend"),
        WAN,
        segment_frames=length,
        overlap_frames=overlap,
        transition_prompts=between,
    )
    assert [planned.latent_frames for planned in timeline.shots] == shots
    assert tuple(s.start_frame for s in timeline.segments) == layout.starts
    assert tuple(s.mix for s in timeline.segments) == layout.mixes
    assert timeline.latent_frames == layout.total_frames
    assert {s.latent_frames for s in timeline.segments} == {length}


@pytest.mark.parametrize("transition", ["continue", "blend"])
def test_three_second_shots_that_share_one_latent_frame_are_the_ttt_papers_segments(transition):
    timeline = plan_timeline(
        storyboard(*[3.0] * 21, transition=transition), WAN, segment_frames=13, overlap_frames=1, transition_prompts=0
    )
    assert [(s.start_frame, s.end_frame) for s in timeline.segments] == [(12 * i, 12 * i + 13) for i in range(21)]
    assert [s.mix for s in timeline.segments] == [((i, 1.0),) for i in range(21)]


def test_shots_of_one_latent_frame_fit_although_their_seconds_are_rounded():
    short = replace(WAN, temporal_stride=2, native_latent_frames=2)
    for first in range(1, 200):
        timeline = plan_timeline(storyboard(first * 0.08, *[0.08] * 5, fps=25.0), short)
        assert [shot.latent_frames for shot in timeline.shots[1:]] == [1] * 5


def test_a_segment_is_the_familys_native_clip_and_the_overlap_ditctrls_share_of_it():
    timeline = plan_timeline(storyboard(60.0), replace(WAN, native_latent_frames=13))
    assert (timeline.segment_frames, timeline.overlap_frames, timeline.transition_prompts) == (13, 6, 1)
    assert (timeline.fps, timeline.width, timeline.height) == (16.0, 64, 64)


def test_sizes_and_fps_that_are_given_win_over_the_storyboard():
    timeline = plan_timeline(storyboard(2.0), WAN, fps=8.0, width=128, height=96)
    assert (timeline.fps, timeline.width, timeline.height) == (8.0, 128, 96)
    assert timeline.pixel_frames == 17


def test_continue_switches_prompts_in_one_take_and_cut_begins_another():
    for transition, takes, mixed in (("continue", [0], 0), ("blend", [0], 1), ("cut", [0, 1], 0)):
        timeline = plan_timeline(storyboard(2.0, 2.0, transition=transition), WAN, segment_frames=8, overlap_frames=4)
        assert [take for take, _ in itertools.groupby(s.take for s in timeline.segments)] == takes
        assert sum(len(s.mix) == 2 for s in timeline.segments) == mixed
        assert timeline.shots[1].overlap_frames == (0 if transition == "cut" else 4)


def test_a_shots_own_overlap_wins_at_its_transition_alone():
    shots = (Shot("a", 8.0), Shot("b", 8.0, "blend", overlap_seconds=0.5), Shot("c", 8.0, "blend"))
    timeline = plan_timeline(Storyboard(shots, width=64, height=64), WAN, segment_frames=13, overlap_frames=6)
    assert [planned.overlap_frames for planned in timeline.shots] == [0, 2, 6]
    starts = {s.mix: s.start_frame for s in timeline.segments if len(s.mix) == 2}
    for pair, shared in (((0, 1), 2), ((1, 2), 6)):
        middle = starts[(pair[0], 0.5), (pair[1], 0.5)]
        before = max(s.end_frame for s in timeline.segments if s.mix == ((pair[0], 1.0),))
        after = min(s.start_frame for s in timeline.segments if s.mix == ((pair[1], 1.0),))
        assert before - middle == middle + 13 - after == shared


def test_a_take_shorter_than_a_segment_is_one_segment_per_prompt():
    timeline = plan_timeline(storyboard(1.0, 1.0, transition="blend"), WAN, segment_frames=21)
    assert timeline.latent_frames == 9
    assert [(s.start_frame, s.latent_frames) for s in timeline.segments] == [(0, 9)] * 3
    assert [s.mix for s in timeline.segments] == [((0, 1.0),), ((0, 0.5), (1, 0.5)), ((1, 1.0),)]


def test_shots_that_share_a_take_get_segments_of_their_own_by_default():
    timeline = plan_timeline(storyboard(3.0, 2.0, transition="blend"), WAN)
    assert timeline.segment_frames == timeline.shots[1].latent_frames == 8
    assert plan_timeline(storyboard(3.0, 2.0, transition="cut"), WAN).segment_frames == WAN.native_latent_frames
    assert plan_timeline(storyboard(3.0, 0.3, transition="continue"), WAN).segment_frames == SHORTEST_DEFAULT


def test_with_segments_keeps_shots_and_sizes_and_equals_a_new_plan():
    timeline = plan_timeline(
        storyboard(4.0, 4.0, transition="blend"),
        WAN,
        fps=24.0,
        width=128,
        segment_frames=9,
        overlap_frames=2,
        transition_prompts=3,
    )
    assert with_segments(timeline) is timeline
    longer = with_segments(timeline, segment_frames=13)
    assert (longer.segment_frames, longer.overlap_frames, longer.transition_prompts) == (13, 6, 3)
    assert (longer.fps, longer.width, longer.height) == (24.0, 128, 64)
    assert with_segments(timeline, overlap_frames=0).overlap_frames == 0
    fewer = with_segments(timeline, transition_prompts=0)
    assert (fewer.segment_frames, fewer.overlap_frames, fewer.transition_prompts) == (9, 2, 0)
    assert fewer == plan_timeline(
        timeline.storyboard, WAN, fps=24.0, width=128, segment_frames=9, overlap_frames=2, transition_prompts=0
    )
    for other in (longer, fewer):
        assert [(p.start_frame, p.end_frame) for p in other.shots] == [
            (p.start_frame, p.end_frame) for p in timeline.shots
        ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"segment_frames": 1}, "a segment of 1 latent frames cannot overlap its neighbour; use 2 or more"),
        (
            {"segment_frames": 5, "overlap_frames": 5},
            "an overlap of 5 latent frames does not fit into segments of 5; use 0 to 4 (up to 16 pixel frames), "
            "or longer segments",
        ),
        (
            {"segment_frames": 5, "overlap_frames": -1},
            "an overlap of -1 latent frames does not fit into segments of 5; use 0 to 4 (up to 16 pixel frames), "
            "or longer segments",
        ),
        ({"transition_prompts": 17}, "17 transition prompts; use 0 to 16"),
        ({"transition_prompts": -1}, "-1 transition prompts; use 0 to 16"),
    ],
)
def test_what_cannot_be_planned_is_refused_with_two_numbers_and_the_remedy(options, message):
    with pytest.raises(ValueError) as caught:
        plan_timeline(storyboard(3.0, 3.0), WAN, **options)
    assert str(caught.value) == message


def test_a_size_off_the_grid_is_rounded_and_stays_so_when_segments_change():
    halved = Storyboard((Shot("a", 3.0),), width=960, height=540)
    assert (plan_timeline(halved, WAN).width, plan_timeline(halved, WAN).height) == (960, 544)
    timeline = plan_timeline(halved, LTXV, width=1930, height=1)
    assert (timeline.width, timeline.height) == (1920, 32)
    assert with_segments(timeline, transition_prompts=0).width == 1920


def test_a_shot_without_a_latent_frame_is_refused_and_the_remedy_works():
    with pytest.raises(ValueError) as caught:
        plan_timeline(storyboard(1.0, 0.1, fps=24.0), LTXV)
    assert str(caught.value) == (
        "shot 2: seconds 0.1 is 2.4 pixel frames at 24 fps, less than one latent frame (8) of LTXV; use 0.334 s or more"
    )
    for offset in range(40):  # wherever it stands
        plan_timeline(storyboard(1 + offset / 100, 0.334, 0.334, fps=24.0), LTXV)


def test_a_blend_longer_than_a_segment_is_refused_and_the_remedy_works():
    def plan(seconds):
        shots = (Shot("a", 30.0), Shot("b", 30.0, "blend", overlap_seconds=seconds))
        return plan_timeline(Storyboard(shots, width=64, height=64, fps=24.0), WAN, segment_frames=121)

    with pytest.raises(ValueError) as caught:
        plan(29.0)
    assert str(caught.value) == (
        "shot 2: overlap_seconds 29 is 174 latent frames, but a segment has 121; use 20 s or less, or longer segments"
    )
    assert plan(20.0).shots[1].overlap_frames == 120


def test_a_thousand_shots_are_planned_in_well_under_a_second():
    shots = tuple(Shot(f"shot {i}", 1.0 + i % 5, ("continue", "blend", "cut")[i % 3]) for i in range(1000))
    seconds = []
    while len(seconds) < 10 and min(seconds, default=1.0) >= 0.5:  # a busy machine only adds to the time
        began = time.process_time()
        timeline = plan_timeline(Storyboard(shots, width=64, height=64), WAN, segment_frames=13)
        assert [timeline.take_start(s) for s in timeline.segments][-1] == timeline.shots[998].start_frame
        seconds.append(time.process_time() - began)
    assert min(seconds) < 0.5


def hours(shots: int, fps: float) -> Storyboard:
    return Storyboard(tuple(Shot(f"hour {i}", 3600.0, "blend") for i in range(shots)), fps=fps)


def test_an_endless_plan_is_refused_before_it_is_written_out():
    """It took 223 s and 2.9 GB, and no interrupt was heard."""
    started = time.process_time()
    with pytest.raises(
        ValueError, match=r"8,640,001 latent frames in segments of 2 that share 1 are about 8,640,\d+ segments, and"
    ):
        plan_timeline(hours(40, 240.0), WAN, segment_frames=2, overlap_frames=1, transition_prompts=16)
    assert time.process_time() - started < 1.0


def test_what_is_refused_is_what_would_be_too_many():
    for board, asked in ((hours(2, 24.0), {}), (hours(1, 16.0), {"segment_frames": 2, "overlap_frames": 1})):
        timeline = plan_timeline(board, WAN, **asked)
        takes = takes_of(timeline.shots)
        sizes = (timeline.segment_frames, timeline.overlap_frames, timeline.transition_prompts)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("longreel.engine.plan.timeline.MOST_SEGMENTS", round(0.99 * len(timeline.segments)))
            with pytest.raises(ValueError, match="segments, and at most"):
                refuse_endless("segments", takes, *sizes)
            patch.setattr("longreel.engine.plan.timeline.MOST_SEGMENTS", round(1.01 * len(timeline.segments)))
            refuse_endless("segments", takes, *sizes)


def test_a_plan_hears_an_interrupt():
    heard = []

    def interrupted():
        heard.append(1)
        if len(heard) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        plan_timeline(hours(20, 16.0), WAN, check_interrupt=interrupted)
