"""engine/plan/devices.py: every segment counts once, what it needs is on its device, and no device idles for long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longreel.engine.plan.devices import gain, share_out

lengths = st.lists(st.integers(1, 21), min_size=1, max_size=24)


@st.composite
def needing(draw):
    """Latent frames of segments, and what each needs: an earlier segment and what that one needs, or nothing."""
    frames, needs = draw(lengths), []
    for number in range(len(frames)):
        source = draw(st.none() | st.integers(0, number - 1)) if number else None
        needs.append(set() if source is None else {source, *needs[source]})
    return frames, needs


@given(needing(), st.lists(st.sampled_from([1.0, 1.5, 2.0]), min_size=1, max_size=4))
def test_every_segment_counts_once_and_what_it_needs_is_evaluated_where_it_is(given_segments, speeds):
    frames, needs = given_segments
    shares = share_out(frames, speeds, needs)
    assert sorted(number for share in shares for number in share.own) == list(range(len(frames)))
    for share, speed in zip(shares, speeds, strict=True):
        assert set(share.evaluated) == set(share.own).union(*(needs[number] for number in share.own))
        assert list(share.evaluated) == sorted(share.evaluated)
        assert share.time == pytest.approx(sum(frames[number] for number in share.evaluated) / speed)
    assert shares == share_out(frames, speeds, needs)


@given(lengths, st.integers(1, 4))
def test_equal_devices_are_ready_within_four_thirds_of_the_shortest_possible_time(frames, count):
    shares = share_out(frames, [1.0] * count)
    bounds = sum(frames) / count, max(frames), _two_of_the_longest(frames, count)
    assert max(share.time for share in shares) <= 4 / 3 * max(bounds) + 1e-9


def _two_of_the_longest(frames: list[int], count: int) -> float:
    """Of the count + 1 longest segments two must share a device: at least these two."""
    longest = sorted(frames, reverse=True)
    return longest[count - 1] + longest[count] if len(longest) > count else 0


@pytest.mark.parametrize("count", [2, 3, 4, 8])
def test_a_source_that_all_read_from_costs_one_evaluation_on_each_device(count):
    segments = 4 * count + 1
    frames = [5] * segments
    shares = share_out(frames, [1.0] * count, [set(), *({0} for _ in range(segments - 1))])
    assert all(0 in share.evaluated for share in shares)
    assert gain(shares, frames, [1.0] * count) == pytest.approx(segments * count / (segments + count - 1))


def test_a_chain_gains_nothing_and_a_faster_device_gets_more():
    frames = [5] * 6
    chain = share_out(frames, [1.0, 1.0], [set(range(number)) for number in range(6)])
    assert gain(chain, frames, [1.0, 1.0]) == 1
    fast = share_out(frames, [1.0, 2.0])
    assert [len(share.own) for share in fast] == [2, 4]
    assert gain(fast, frames, [1.0, 2.0]) == 1.5


@pytest.mark.parametrize("speeds", [[], [1.0, 0.0]])
def test_no_device_and_one_that_stands_still_are_refused(speeds):
    with pytest.raises(ValueError, match="give one or more, each above 0"):
        share_out([5], speeds)
