"""The reach of a transition covers all its segments and a latent frame more; a cut reaches nothing."""

from hypothesis import given

from longreel.engine.plan.timeline import Timeline, plan_timeline
from longreel.engine.plan.transition_reach import transition_reaches
from tests.engine.timeline_cases import WAN, plans, storyboard


def planned(transition: str, prompts: int, overlap: int = 2) -> Timeline:
    board = storyboard(17 / 16, 1.0, 1.0, transition=transition)
    return plan_timeline(board, WAN, segment_frames=5, overlap_frames=overlap, transition_prompts=prompts)


def spans(timeline: Timeline) -> list[tuple[int, int, int]]:
    return [(r.start, r.boundary, r.stop) for r in transition_reaches(timeline)]


def test_a_blend_reaches_all_its_transition_segments():
    """Transition segments are latent frames 2 to 6 and 6 to 10; the bundled picture breaks at 22-27 and 36-41."""
    timeline = planned("blend", 1)
    assert [(s.start_frame, s.end_frame) for s in timeline.segments if len(s.mix) > 1] == [(2, 7), (6, 11)]
    assert spans(timeline) == [(1, 17, 29), (17, 33, 45)]


def test_more_transition_prompts_reach_further():
    one, two = (transition_reaches(planned("blend", n))[0] for n in (1, 2))
    assert two.stop - two.start > one.stop - one.start


def test_without_transition_prompts_it_is_what_the_shots_share():
    timeline = planned("blend", 0)
    reaches = transition_reaches(timeline)
    for reach, later in zip(reaches, (1, 2), strict=True):
        start = min(s.start_frame for s in timeline.segments if s.main_shot == later)
        stop = max(s.end_frame for s in timeline.segments if s.main_shot == later - 1)
        assert stop - start == 2  # the overlap
        assert (reach.start, reach.stop) == (first_pixel(timeline, start - 1), first_pixel(timeline, stop + 1))


def test_a_cut_reaches_nothing():
    reaches = transition_reaches(planned("cut", 1))
    assert [(r.start, r.boundary, r.stop) for r in reaches] == [(17, 17, 17), (33, 33, 33)]
    assert all(r.is_cut for r in reaches)


@given(plans())
def test_every_joint_of_any_plan_has_a_reach_around_its_boundary(timeline: Timeline):
    reaches = transition_reaches(timeline)
    assert [r.later_shot for r in reaches] == list(range(1, len(timeline.shots)))
    for reach, shot in zip(reaches, timeline.shots[1:], strict=True):
        assert reach.boundary == timeline.shot_pixel_frames(shot)[0]
        assert reach.is_cut == (shot.shot.transition == "cut")
        assert 0 <= reach.start <= reach.boundary <= reach.stop <= timeline.pixel_frames
        mixed = [s for s in timeline.segments if len(s.mix) > 1 and s.mix[-1][0] == reach.later_shot]
        for segment in mixed:
            assert reach.start <= first_pixel(timeline, segment.start_frame)
            assert first_pixel(timeline, segment.end_frame) <= reach.stop


def first_pixel(timeline: Timeline, latent_frame: int) -> int:
    return timeline.facts.first_pixel_frame(latent_frame)
