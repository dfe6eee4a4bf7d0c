"""engine/plan/report.py: the dry run tells every number of the plan, and what it will cost."""

import re
import time

import pytest
from hypothesis import given, settings

from longreel.engine.plan.report import crowded_note, network_evaluations, plan_report, rate_note, segments_of_shots
from longreel.engine.plan.rollout_chunks import plan_chunks
from longreel.engine.plan.timeline import plan_timeline
from longreel.engine.storyboard.board import Anchor, Shot, Storyboard
from tests.engine.timeline_cases import WAN, plans, storyboard


def report(timeline, steps=20, guidance=True, memory=("memory: enough",)):
    return plan_report(timeline, steps, guidance, memory)


@pytest.fixture
def timeline():
    shots = (Shot("a keeper climbs", 3.1), Shot("x" * 80, 3.1, "blend"), Shot("a ship", 4.5, "cut"))
    return plan_timeline(Storyboard(shots, width=64, height=64), WAN, segment_frames=9, overlap_frames=4)


def test_every_shot_is_a_row_with_what_was_asked_and_what_it_gets(timeline):
    lines = report(timeline).splitlines()
    for line, planned in zip(lines[1:], timeline.shots, strict=False):
        first, last = timeline.shot_pixel_frames(planned)
        for text in (
            f"{planned.shot.seconds:.3f}",
            f"{(last - first) / 16:.3f}",
            f"{first}-{last - 1} ({last - first})",
            f"{planned.start_frame}-{planned.end_frame - 1} ({planned.latent_frames})",
        ):
            assert re.search(rf"(^|  ){re.escape(text)}(  |$)", line), (text, line)
    assert lines[1].endswith("a keeper climbs") and lines[2].endswith("x" * 57 + "...")
    assert [re.search(r"start|blend \(4 latent frames\)|cut", line)[0] for line in lines[1:4]] == [
        "start",
        "blend (4 latent frames)",
        "cut",
    ]


def test_the_rounding_is_shown(timeline):
    text = report(timeline)
    assert (
        f"asked 10.700 s = 171.2 pixel frames, gets {timeline.seconds:.3f} s = {timeline.pixel_frames} pixel frames = "
        f"{timeline.latent_frames} latent frames" in text
    )
    assert timeline.pixel_frames == 173


@settings(max_examples=30, deadline=None)
@given(plans())
def test_the_segments_of_a_shot_are_those_that_hear_it(timeline):
    found = segments_of_shots(timeline)
    for planned in timeline.shots:
        heard = [n for n, s in enumerate(timeline.segments, start=1) if planned.index in dict(s.mix)]
        assert found[planned.index] == heard and heard
    notes = crowded_note(timeline) + rate_note(timeline, ())
    assert len(report(timeline).splitlines()) == len(timeline.shots) + 7 + len(notes)


@pytest.mark.parametrize(("steps", "guidance", "times"), [(20, True, 40), (20, False, 20), (7, True, 14)])
def test_evaluations_are_segments_times_steps_times_prompts(timeline, steps, guidance, times):
    count = len(timeline.segments) * times
    assert network_evaluations(timeline, steps, guidance) == count
    assert f"network evaluations: {count} = {len(timeline.segments)} segments x {steps} steps" in report(
        timeline, steps, guidance
    )


def test_a_size_that_was_rounded_is_told_and_no_other():
    halved = Storyboard((Shot("a", 3.0),), width=960, height=540)
    timeline = plan_timeline(halved, WAN)
    note = "note: 960x540 asked, 960x544 planned (Wan works in multiples of 16 pixels)"
    assert plan_report(timeline, 20, True, asked_size=(960, 540)).splitlines().count(note) == 1
    for asked_size in ((960, 544), None):
        assert "planned (" not in plan_report(timeline, 20, True, asked_size=asked_size)


def test_the_lines_of_the_memory_table_stand_behind_the_cost(timeline):
    lines = report(timeline, memory=["memory: of two", "  lines"]).splitlines()
    at = lines.index("memory: of two")
    assert lines[at - 1].startswith("in rollout:") and lines[at + 1] == "  lines"


@pytest.mark.parametrize(
    ("seconds", "transition", "segment"),
    [((1.1, 1.1, 1.1), "blend", 21), ((8.0, 0.5, 8.0), "continue", 13), ((4.0, 0.25, 4.0), "blend", 9)],
)
def test_shots_that_a_single_segment_sees_whole_are_named_with_a_remedy_that_works(seconds, transition, segment):
    timeline = plan_timeline(storyboard(*seconds, transition=transition), WAN, segment_frames=segment)
    (note,) = crowded_note(timeline)
    assert report(timeline).endswith(note) and "2" in re.search(r"shots ([\d, ]+) are", note)[1]
    better = WAN.latent_frames(int(re.search(r"segment_frames (\d+)", note)[1]))
    assert crowded_note(plan_timeline(storyboard(*seconds, transition=transition), WAN, segment_frames=better)) == []


@pytest.mark.parametrize(
    ("seconds", "transition", "segment"),
    [((1.1, 1.1, 1.1), "cut", 21), ((60.0,), "continue", 21), ((3.5, 3.5, 3.5), "blend", 13), ((1.0,), "continue", 21)],
)
def test_shots_with_room_have_no_note(seconds, transition, segment):
    assert crowded_note(plan_timeline(storyboard(*seconds, transition=transition), WAN, segment_frames=segment)) == []


def test_chunks_of_a_rollout_are_counted():
    timeline = plan_timeline(storyboard(3.0, 3.0), WAN, segment_frames=13, overlap_frames=1, transition_prompts=0)
    chunks = len(plan_chunks(timeline, 1))
    assert (
        f"in rollout: {chunks} chunks, each continuing from the 1 latent frames before; {chunks * 40} network"
        in report(timeline)
    )


def test_a_thousand_shots_are_reported_in_well_under_a_second():
    timeline = plan_timeline(storyboard(*[2.0] * 1000, transition="blend"), WAN, segment_frames=9)
    seconds = []
    while len(seconds) < 10 and min(seconds, default=1.0) >= 0.5:  # a busy machine only adds to the time
        began = time.process_time()
        assert len(report(timeline).splitlines()) == 1007
        seconds.append(time.process_time() - began)
    assert min(seconds) < 0.5


def test_locked_shots_and_anchors_are_named():
    shots = (
        Shot("a keeper climbs", 1.0, focus=("keeper",), anchors=(Anchor(0.5, "keeper.png"),)),
        Shot("a ship", 1.0, "cut", locked=True),
    )
    timeline = plan_timeline(Storyboard(shots, width=64, height=64), WAN)
    assert "shot 1, anchor 1 keeper.png: 0.5 s of the shot = 0.500 s = pixel frame 8 = latent frame 2" in report(
        timeline
    )
    assert "note: shots 2 are locked: a rollout with a run name keeps" in report(timeline)
    assert "anchors, which Longreel Anchor Frame holds" not in report(plan_timeline(storyboard(1.0, 1.0), WAN))


def test_of_many_anchors_ten_are_shown():
    anchors = tuple(Anchor(number / 2, f"{number}.png") for number in range(13))
    said = report(plan_timeline(Storyboard((Shot("a", 8.0, anchors=anchors),), width=64, height=64), WAN))
    assert "  and 3 more" in said and "9.png" in said and "10.png" not in said
