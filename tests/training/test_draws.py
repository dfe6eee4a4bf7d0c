"""training/draws.py: random choices that depend on their place in the run and on nothing else."""

import pytest
import torch

from longreel.training import draws


def test_a_draw_depends_on_everything_that_it_is_told_and_on_nothing_else():
    first = draws.noise(0, "3s", 5, 2, (3, 4))
    torch.manual_seed(1)
    torch.randn(7)
    assert torch.equal(draws.noise(0, "3s", 5, 2, (3, 4)), first)
    for others in ((1, "3s", 5, 2), (0, "9s", 5, 2), (0, "3s", 6, 2), (0, "3s", 5, 3)):
        assert not torch.equal(draws.noise(*others, (3, 4)), first)


@pytest.mark.parametrize(("batch", "count"), [(2, 6), (4, 6), (6, 6), (10, 3)])
def test_every_video_is_shown_once_before_one_is_shown_again(batch, count):
    shown = [video for step in range(12) for video in draws.order(0, "3s", step, batch, count)]
    rounds = [shown[first : first + count] for first in range(0, len(shown) - count + 1, count)]
    assert all(sorted(one) == list(range(count)) for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1  # another order each time


def test_text_is_dropped_in_the_share_that_is_asked_for():
    dropped = [draws.drops_text(0, "3s", step, place, 0.1) for step in range(500) for place in range(8)]
    assert sum(dropped) == pytest.approx(400, abs=60)
    assert not any(draws.drops_text(0, "3s", step, 0, 0.0) for step in range(100))
    assert all(draws.drops_text(0, "3s", step, 0, 1.0) for step in range(100))
