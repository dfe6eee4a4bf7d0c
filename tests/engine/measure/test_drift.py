"""Slow changes are measured in their own statistic, whatever their sign; what only moves does not drift."""

import pytest
import torch

from longreel.engine.measure.drift import STATISTICS, find_drift
from tests.engine.measure.clips import clip, walk

WINDOW = 8
VIDEO = clip(walk(40, (0.5, 0.3)))
SLOWLY = torch.linspace(0, 1, 40).view(-1, 1, 1, 1)


def test_movement_is_no_drift():
    found = find_drift(VIDEO, WINDOW)
    assert set(found.by_window) == set(STATISTICS)
    assert found.worst[1] < 0.01
    assert all(float(values[0]) == 0.0 for values in found.by_window.values())


@pytest.mark.parametrize("sign", [1, -1])
def test_brightness_is_seen_from_two_percent_on(sign):
    found = find_drift(VIDEO + sign * 0.03 * SLOWLY, WINDOW)
    assert found.at_the_end["brightness"] == pytest.approx(0.03 * 32 / 39, abs=0.004)
    assert found.at_the_end["contrast"] < 0.01


def test_a_tint_is_a_drift_of_colour_and_not_of_brightness():
    tint = torch.tensor([0.1, -0.05, -0.02])  # of about equal luma
    found = find_drift((VIDEO + SLOWLY * tint).clamp(0, 1), WINDOW)
    assert found.worst[0] == "color"
    assert found.at_the_end["color"] > 0.07
    assert found.at_the_end["brightness"] < 0.01


def test_blur_greying_and_fading_are_seen_in_their_statistics():
    grey = VIDEO.mean(-1, keepdim=True)
    assert find_drift(VIDEO + SLOWLY * (grey - VIDEO), WINDOW).at_the_end["saturation"] > 0.05
    assert find_drift(VIDEO + SLOWLY * (0.5 - VIDEO) / 2, WINDOW).at_the_end["contrast"] > 0.05
    edges = clip(walk(40, (0.0, 0.0)))
    edges[:, :, ::4] *= 0.8  # fine stripes
    blurred = torch.nn.functional.avg_pool2d(edges.permute(0, 3, 1, 2), 5, 1, 2, count_include_pad=False)
    assert find_drift(edges + SLOWLY * (blurred.permute(0, 2, 3, 1) - edges), WINDOW).at_the_end["sharpness"] > 0.01


def test_an_objects_new_colour_is_seen_by_its_share_of_the_picture():
    """A disc of radius 9 is 6 % of 64 x 64 pixels."""
    red = clip(walk(40, (0.5, 0.3)), (0.8, 0.2, 0.1))
    found = find_drift(VIDEO + SLOWLY * (red - VIDEO), WINDOW)
    assert found.worst[0] == "color"
    assert found.worst[1] == pytest.approx(0.06 * 0.7, abs=0.012)
    assert found.worst[2] == 4


def test_the_first_window_is_the_measure_and_too_long_a_one_is_refused():
    bright = VIDEO.clone()
    bright[16:24] += 0.1
    assert find_drift(bright.clamp(0, 1), WINDOW).worst[2] == 2
    with pytest.raises(ValueError, match="at least one window of 41 frames"):
        find_drift(VIDEO, 41)
