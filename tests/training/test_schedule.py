"""training/schedule.py: learning rates of every step."""

import math

import pytest

from longreel.training.schedule import rates_at
from longreel.training.stages import Stage
from longreel.training.student import OTHERS, TTT

STAGE = Stage("s", 1, 110, 10, ttt_rate=1e-4, ttt_end_rate=1e-5, others_rate=4e-5, others_end_rate=2e-5)


def test_rates_rise_straight_to_the_end_of_the_warm_up():
    for step in range(10):
        rates = rates_at(STAGE, step)
        assert rates[TTT] == pytest.approx(1e-4 * (step + 1) / 10)
        assert rates[OTHERS] == pytest.approx(4e-5 * (step + 1) / 10)


def test_the_layers_fall_as_a_cosine_and_the_others_as_a_line():
    middle = rates_at(STAGE, 59)  # 50 of 100 steps after the warm-up
    assert middle[TTT] == pytest.approx((1e-4 + 1e-5) / 2) and middle[OTHERS] == pytest.approx(3e-5)
    quarter = rates_at(STAGE, 34)
    assert quarter[TTT] == pytest.approx(1e-5 + 9e-5 * (1 + math.cos(math.pi / 4)) / 2)
    assert quarter[OTHERS] == pytest.approx(3.5e-5)
    assert rates_at(STAGE, 109) == pytest.approx({TTT: 1e-5, OTHERS: 2e-5})


def test_the_published_rate_of_the_others_is_constant_after_the_warm_up():
    stage = Stage("s", 1, 50, 5)
    assert {rates_at(stage, step)[OTHERS] for step in range(4, 50)} == {1e-5}


def test_a_warm_up_may_last_the_whole_stage():
    assert rates_at(Stage("s", 1, 4, 4, ttt_rate=1e-3), 3)[TTT] == 1e-3


@pytest.mark.parametrize("step", [-1, 110])
def test_a_step_that_the_stage_does_not_have_is_refused(step):
    with pytest.raises(ValueError, match=f"step {step} is asked for and stage s has 110"):
        rates_at(STAGE, step)
