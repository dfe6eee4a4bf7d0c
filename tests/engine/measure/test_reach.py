"""A jump is seen wherever in a joint's reach it lies, a worst pair anywhere; sizes at which they are first seen."""

import pytest
import torch

from longreel.engine.measure.metrics import seam_score
from longreel.engine.measure.reach import pair_differences, reach_seams, worst_pair
from tests.engine.measure.clips import clip, draw, walk

FRAMES, REACH = 25, (9, 20)  # the boundary would be 12
TURNING = torch.cat([walk(12), walk(14, (-1.0, 1.0), (33.0, 31.5))[1:]])  # [25, 2]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def measured(video: torch.Tensor, reach=REACH, cuts=()) -> tuple[float, float, int]:
    """(reach seam, worst pair, its frame)."""
    found = pair_differences(video)
    worst = worst_pair(found, cuts)
    return reach_seams(found, [reach], cuts)[0].score, worst.difference, worst.frame


def jumping(pixels: float, at: int) -> torch.Tensor:
    track = TURNING.clone()
    track[at:, 1] -= pixels
    return track


def test_a_turn_is_no_seam():
    score, worst, _ = measured(clip(TURNING))
    assert score < 1.0
    assert worst < 0.03


@pytest.mark.slow
@pytest.mark.parametrize("late", [0, 3, 7])
def test_a_jump_behind_the_boundary_is_seen_where_the_score_of_the_boundary_is_blind(late):
    video = clip(jumping(12.0, 12 + late))
    score, worst, frame = measured(video)
    assert score > 5.0
    assert worst > 0.2
    assert frame == 12 + late
    if late == 7:
        assert seam_score(video, 12, 4) < 1.5


@pytest.mark.slow
def test_a_jump_outside_the_reach_is_the_worst_pair_and_not_the_joint():
    score, worst, frame = measured(clip(jumping(12.0, 22)), (5, 12))
    assert score < 1.5
    assert (worst > 0.2, frame) == (True, 22)


@pytest.mark.slow
def test_one_break_does_not_hide_another():
    """The old score divides by the worst pair of the shots; this one must not fall for a second break."""
    track = jumping(12.0, 15)
    track[22:, 1] += 12.0
    assert measured(clip(track))[0] == pytest.approx(measured(clip(jumping(12.0, 15)))[0], rel=0.1)


@pytest.mark.slow
def test_jumps_are_first_seen_at_eight_pixels_of_64():
    scores = {pixels: measured(clip(jumping(pixels, 16)))[0] for pixels in (2.0, 8.0)}
    assert scores[2.0] < 1.5
    assert scores[8.0] > 3.0


@pytest.mark.slow
def test_a_ghost_and_a_slow_change_of_colour_are_seen():
    video = clip(TURNING)
    ghost = draw(video, TURNING + torch.tensor([18.0, 0.0]), share=0.4)
    for share, at in ((0.4, slice(14, 17)),):
        doubled = video.clone()
        doubled[at] = ghost[at]
        assert measured(doubled)[0] > 3.0, share
    fade = torch.linspace(0, 1, 9).view(-1, 1, 1, 1)
    faded = video.clone()
    faded[11:20] = (1 - fade) * video[11:20] + fade * clip(TURNING, (0.8, 0.1, 0.1))[11:20]
    assert measured(faded)[0] > 2.0


@pytest.mark.slow
def test_a_planned_cut_is_left_out():
    video = torch.cat([clip(TURNING)[:12], clip(walk(13, start=(40.0, 20.0)), (0.9, 0.8, 0.1), seed=3)])
    assert measured(video)[1] > 0.2
    assert worst_pair(pair_differences(video), cuts=[12]).difference < 0.03


def test_what_has_no_pairs_is_refused():
    with pytest.raises(ValueError, match="at least 5 frames"):
        pair_differences(torch.zeros(4, 8, 8, 3))
    with pytest.raises(ValueError, match="joint 1 reaches frames 40 to 44, but the video has 6 frames"):
        reach_seams(pair_differences(torch.zeros(6, 16, 16, 3)), [(40, 45)])
