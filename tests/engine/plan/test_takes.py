"""engine/plan/takes.py: takes on workers, against workers that are played one moment after the other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longreel.engine.plan.takes import begin_order, most_speed_up, speed_up, takes_time

lengths = st.lists(st.integers(1, 30), min_size=1, max_size=12)
counts = st.integers(1, 8)


def played(frames: list[int], workers: int, first: int) -> int:
    """The moment at which the last take is finished: every worker makes one latent frame in each."""
    waiting = begin_order(frames)
    left: list[int | None] = [None] * workers
    moment, made_of_first = 0, 0
    if first:
        waiting.remove(0)
        left[0] = frames[0]
    while waiting or any(left):
        for worker in range(workers):
            if not left[worker] and waiting and made_of_first >= first:
                left[worker] = frames[waiting.pop(0)]
        made_of_first += bool(first and left[0])
        left = [take and take - 1 for take in left]
        moment += 1
    return moment


@given(lengths, counts, st.data())
def test_the_last_take_is_finished_when_it_is_on_workers_that_are_played(frames, workers, data):
    first = data.draw(st.integers(0, frames[0]))
    assert takes_time(frames, workers, first) == played(frames, workers, first)


@given(lengths, counts)
def test_no_order_of_takes_ends_much_sooner(frames, workers):
    longest = sorted(frames, reverse=True)
    two = longest[workers - 1] + longest[workers] if len(frames) > workers else 0  # of these, two share a worker
    assert takes_time(frames, workers) <= 4 / 3 * max(sum(frames) / workers, *frames, two) + 1e-9
    assert 1 <= speed_up(frames, workers) <= most_speed_up(len(frames), workers)


@given(st.integers(1, 40), counts, st.integers(1, 30))
def test_equal_takes_gain_what_whole_rounds_allow(units, workers, frames):
    gained = speed_up([frames] * units, workers)
    assert gained == pytest.approx(units / -(-units // workers))
    assert units * workers / (units + workers - 1) <= gained + 1e-9


@given(st.integers(1, 400), counts)
def test_a_shared_source_costs_each_worker_one_unit_more(units, workers):
    bound = most_speed_up(units, workers, shared=True)
    assert bound == pytest.approx(units / (units / workers + 1))  # its part of the units, and the source
    assert bound < most_speed_up(units, workers)
    assert (bound >= 0.9 * workers) == (units >= 9 * workers)


def test_takes_that_wait_for_the_first_chunk_wait_for_it_alone():
    assert takes_time([10, 10], 2) == 10
    assert takes_time([10, 10], 2, first=4) == 14
    assert takes_time([10, 10], 1, first=4) == 20
    assert takes_time([4, 20, 10], 2, first=4) == 24
    assert speed_up([], 3) == 1


@pytest.mark.parametrize(("workers", "first", "says"), [(0, 0, "0 workers make nothing"), (1, 6, "6 latent frames")])
def test_what_cannot_be_is_refused(workers, first, says):
    with pytest.raises(ValueError, match=says):
        takes_time([5, 9], workers, first)
