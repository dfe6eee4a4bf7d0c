"""Frozen and looping video is found wherever it lies, from two still frames and one whole period on."""

import pytest
import torch

from longreel.engine.measure.still import find_loop, find_still
from tests.engine.measure.clips import clip, walk

FRAMES = 40
MOVING = clip(walk(FRAMES, (0.5, 0.3)))


def test_what_moves_is_neither_frozen_nor_a_loop():
    assert find_still(MOVING).share == 0.0
    assert find_still(MOVING).longest is None
    assert find_loop(MOVING) is None


def test_half_a_pixel_of_64_in_a_frame_is_movement_and_a_twentieth_is_not():
    assert find_still(clip(walk(9, (0.4, 0.0)))).share == 0.0
    assert find_still(clip(walk(9, (0.03, 0.0)))).share == 1.0


@pytest.mark.parametrize("at", [0, 13, 34])
@pytest.mark.parametrize("frames", [2, 6])
def test_a_freeze_is_found_where_it_is(at, frames):
    video = MOVING.clone()
    video[at : at + frames] = video[at]
    noise = 0.01 * torch.randn(video.shape, generator=torch.Generator().manual_seed(1))  # as of a codec
    found = find_still((video + noise).clamp(0, 1))
    assert found.frozen.nonzero().flatten().tolist() == list(range(at + 1, at + frames))
    assert (found.longest.start, found.longest.stop) == (at, at + frames)
    assert found.share == pytest.approx((frames - 1) / (FRAMES - 1))


@pytest.mark.parametrize("period", [5, 12])
@pytest.mark.parametrize("at", [0, 11])
def test_a_loop_is_found_with_its_period(at, period):
    video = MOVING.clone()
    for t in range(at + period, min(FRAMES, at + 2 * period)):
        video[t] = video[t - period]
    found = find_loop(video)
    assert (found.start, found.stop, found.period_frames) == (at, min(FRAMES, at + 2 * period), period)


def test_less_than_a_whole_period_twice_is_no_loop():
    video = MOVING.clone()
    video[12:20] = video[0:8]
    assert find_loop(video) is None


def test_what_stands_still_does_not_loop():
    assert find_loop(MOVING[:1].expand(30, -1, -1, -1)) is None


def test_one_frame_is_refused():
    for find in (find_still, find_loop):
        with pytest.raises(ValueError, match="at least 2 frames"):
            find(MOVING[:1])
