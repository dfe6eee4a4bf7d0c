"""The seam score is small for motion of any kind and large for what motion cannot explain; CSCV is high where a video
changes evenly. (That CSCV is the published number is shown in tests/golden.)

The clips are those of tests/bench/seam_check.py: one object of shape world that changes its motion at the joint.
`python dev.py bench seam_check` prints the same with more context around the joint.
"""

import pytest
import torch
import torch.nn.functional as F

from longreel.engine.measure.metrics import Seam, cscv, seam, seam_score
from tests.bench.seam_check import FADE, JOINT, Case, fade, ghost, hard

CASES = 24
AROUND = 5  # frames, the least: fast, and the hardest for the score


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small tensors gain nothing from a second thread, and lose much when another process wants the same core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def score(clip: torch.Tensor) -> float:
    return seam_score(clip, JOINT, around_frames=AROUND)


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return [Case(number) for number in range(CASES)]


@pytest.fixture(scope="module")
def worst_seamless(cases) -> float:
    """Over objects that turn, stop, start and bounce at the joint."""
    return max(score(case.clip()) for case in cases)


@pytest.mark.slow
def test_seamless_clips_score_below_one(worst_seamless):
    assert worst_seamless < 1.0


@pytest.mark.slow
def test_every_jump_scores_five_times_the_worst_seamless_clip(cases, worst_seamless):
    mildest = min(score(hard(case.clip(), case.clip(case.aside[0]))) for case in cases)
    assert mildest >= max(5 * worst_seamless, 3.0)


@pytest.mark.slow
def test_every_change_of_colour_scores_five_times_the_worst_seamless_clip(cases, worst_seamless):
    mildest = min(score(hard(case.clip(), case.clip(color=case.other_color))) for case in cases)
    assert mildest >= max(5 * worst_seamless, 4.0)


@pytest.mark.slow
def test_nine_of_ten_changes_of_shape_score_five_times_the_worst_seamless_clip(cases, worst_seamless):
    """A small circle that becomes a square during a bounce is the hardest defect of all."""
    found = sorted(score(hard(case.clip(), case.clip(shape=case.other_shape))) for case in cases)
    assert found[CASES // 10] >= max(5 * worst_seamless, 3.0)
    assert found[0] >= 2 * worst_seamless


@pytest.mark.slow
@pytest.mark.parametrize("number", range(8))
def test_a_change_of_background_is_seen(cases, number, worst_seamless):
    case = cases[number]
    changed = hard(case.clip(), case.clip(background=case.other_background))
    assert score(changed) >= max(5 * worst_seamless, 4.0)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(8))
def test_a_fade_scores_between_a_seamless_joint_and_a_hard_change(cases, number):
    case = cases[number]
    clip, other = case.clip(), case.clip(color=case.other_color)
    seamless, faded, cut = (seam_score(v, JOINT, FADE // 2) for v in (clip, fade(clip, other), hard(clip, other)))
    assert 2 * seamless < faded < cut / 2


@pytest.mark.slow
@pytest.mark.parametrize("number", range(8))
def test_a_ghost_scores_high(cases, number):
    case = cases[number]
    assert seam_score(ghost(case.clip(), case.clip(case.aside[1])), JOINT, FADE // 2) > 4


def texture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """A smooth random picture [H, W, 3], 0..1."""
    noise = torch.rand(1, 3, height // 6, width // 6, generator=torch.Generator().manual_seed(seed))
    picture = F.interpolate(noise, size=(height, width), mode="bicubic", align_corners=False).clamp(0, 1)
    return picture[0].permute(1, 2, 0)


def pan(picture: torch.Tensor, starts: list[int], size: int = 64) -> torch.Tensor:
    return torch.stack([picture[:size, x : x + size] for x in starts])


def test_a_panning_texture_is_seamless_and_its_jump_is_not():
    picture = texture(64, 240)
    steady = pan(picture, [2 * t for t in range(34)])
    turning = pan(picture, [80 + 2 * t for t in range(17)] + [112 - 3 * t for t in range(1, 18)])
    jumping = pan(picture, [2 * t + (20 if t >= JOINT else 0) for t in range(34)])
    assert max(score(steady), score(turning)) < 1.0
    assert score(jumping) > 5.0


def test_grain_in_the_shots_is_not_charged_to_the_joint():
    clip = Case(0).clip()
    grain = 0.04 * torch.randn(clip.shape, generator=torch.Generator().manual_seed(0))
    assert score((clip + grain).clamp(0, 1)) < 1.2
    jump = hard(clip, Case(0).clip(Case(0).aside[1]))
    assert score((jump + grain).clamp(0, 1)) > 3.0


def test_large_frames_score_like_small_ones():
    clip = hard(Case(1).clip(), Case(1).clip(Case(1).aside[1]))
    large = clip.repeat_interleave(4, 1).repeat_interleave(4, 2)
    assert score(large) == pytest.approx(score(clip), rel=1e-3)


def test_a_wide_grayscale_video_has_a_score_too():
    clip = pan(texture(64, 240), [2 * t for t in range(34)], 64)[..., :1]
    wide = torch.cat([clip, clip.flip(2)], 2)
    assert score(wide) < 1.0


def test_spread_takes_a_joint_beside_the_boundary_in():
    clip = Case(2).clip()
    late = torch.cat([clip[: JOINT + 3], Case(2).clip(color=Case(2).other_color)[JOINT + 3 :]])
    assert seam_score(late, JOINT, 4) > 5.0 > seam_score(late, JOINT, 0)


def test_around_decides_what_the_joint_is_compared_with():
    clip = hard(Case(3).clip(), Case(3).clip(Case(3).aside[1]))
    clip[JOINT + 6] = 1 - clip[JOINT + 6]  # a flash in the later shot
    assert seam_score(clip, JOINT, around_frames=5) > 5.0 > seam_score(clip, JOINT, around_frames=10)


def test_a_seam_says_which_pair_decided():
    clip = hard(Case(4).clip(), Case(4).clip(color=Case(4).other_color))
    found = seam(clip, JOINT)
    assert isinstance(found, Seam)
    assert found.frames_apart == 1
    assert found.score == pytest.approx(found.joint / (0.01 + found.shots))


@pytest.mark.parametrize("boundary, spread, around", [(4, 0, 8), (30, 0, 8), (17, 13, 8), (17, 0, 4)])
def test_too_few_frames_beside_the_joint_are_refused(boundary, spread, around):
    with pytest.raises(ValueError, match="at least 5"):
        seam(torch.zeros(34, 8, 8, 3), boundary, spread, around)


def test_a_batch_of_videos_is_refused():
    with pytest.raises(ValueError, match=r"4 dimensions .* got 5"):
        seam(torch.zeros(1, 34, 8, 8, 3), 17)


def walk(*degrees: float) -> torch.Tensor:
    """Features [frames, 2] whose neighbours are so many degrees apart."""
    angles = torch.tensor([0.0, *degrees], dtype=torch.float64).deg2rad().cumsum(0)
    return torch.stack([angles.cos(), angles.sin()], 1)


def test_cscv_is_its_formula():
    likeness = torch.tensor([10.0, 20.0, 60.0], dtype=torch.float64).deg2rad().cos()
    expected = 1 / (1 + 10 * likeness.var(correction=0).sqrt() / likeness.mean())
    assert cscv(walk(10, 20, 60)) == pytest.approx(float(expected), abs=1e-12)


def test_cscv_is_one_where_nothing_moves_and_where_everything_moves_evenly():
    assert cscv(torch.ones(9, 4)) == pytest.approx(1, abs=1e-5)
    assert cscv(walk(*[30.0] * 20)) == pytest.approx(1, abs=1e-9)


def test_cscv_falls_with_every_jump_and_with_its_size():
    even = [5.0] * 28
    smooth, jump, larger, two = (walk(*even, *last) for last in ([5, 5], [5, 40], [5, 60], [40, 40]))
    assert cscv(smooth) > cscv(jump) > max(cscv(larger), cscv(two))


def test_cscv_does_not_see_the_length_of_features():
    features = walk(10, 20, 60)
    assert cscv(features * torch.tensor([1.0, 5.0, 0.1, 3.0])[:, None]) == pytest.approx(cscv(features), abs=1e-12)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (torch.ones(1, 8), r"got \[1, 8\]; it needs at least 2 frames"),
        (torch.ones(4, 8, 2), r"features \[frames, dim\], got \[4, 8, 2\]"),
        (walk(90, 120), "mean likeness of -0.250, and CSCV is defined above 0; use features of an image encoder"),
    ],
)
def test_features_that_cscv_says_nothing_about_are_refused(features, message):
    with pytest.raises(ValueError, match=message):
        cscv(features)
