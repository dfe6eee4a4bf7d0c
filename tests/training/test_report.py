"""training/report.py: pictures of a run."""

import pytest
import torch

from longreel.training.report import EACH_STEP, HEIGHT, HELD_OUT, SMOOTHED, WIDTH, loss_curve, sample_page, smoothed


def colors(picture) -> set:
    """But those of the legend."""
    body = picture.crop((0, 30, picture.width, picture.height))
    return {color for _, color in body.getcolors(2**20)}


def test_the_curve_shows_every_kind_of_loss():
    picture = loss_curve([1.0, 0.5, 0.3, 0.2], [(2, 0.6), (4, 0.4)], [(0, "3s"), (2, "9s")])
    assert picture.size == (WIDTH, HEIGHT)
    assert {EACH_STEP, SMOOTHED, HELD_OUT} <= colors(picture)
    assert HELD_OUT not in colors(loss_curve([1.0, 0.5]))


def test_a_falling_loss_falls():
    picture = loss_curve([10.0 / (step + 1) for step in range(50)])
    drawn = [[y for y in range(35, HEIGHT) if picture.getpixel((x, y)) == SMOOTHED] for x in (100, WIDTH - 40)]
    assert max(drawn[0]) < min(drawn[1])


@pytest.mark.parametrize("losses", [[], [1.0], [0.0, 0.0], [-1.0, 2.0], [float("nan"), 1.0, float("inf")]])
def test_a_curve_is_drawn_of_any_losses(losses):
    assert loss_curve(losses).size == (WIDTH, HEIGHT)


def test_the_smoothed_curve_starts_at_the_first_loss_and_follows():
    found = smoothed([1.0] * 100 + [0.0] * 400)
    assert found[:100] == [1.0] * 100 and 0 < found[110] < 0.5 and found[-1] < 1e-6


def test_a_page_has_a_row_for_each_sample():
    videos = [torch.rand(20, 16, 24, 3), torch.zeros(3, 16, 24, 3)]
    page = sample_page(videos)
    assert page.size == (8 * 24, 2 * 16)
    first, last = (page.crop((x, 0, x + 24, 16)) for x in (0, 7 * 24))
    for shown, frame in ((first, videos[0][0]), (last, videos[0][-1])):
        assert list(shown.getdata())[5] == tuple((frame[0, 5] * 255).round().int().tolist())
    with pytest.raises(ValueError, match="a page has no samples"):
        sample_page([])
