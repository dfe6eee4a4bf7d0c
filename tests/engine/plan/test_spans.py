"""engine/plan/spans.py: layers by name, and steps that mean the same stretch however many there are."""

import math
import time
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longreel.engine.plan.spans import NoiseSpan, check_layers, parse_layers, parse_shots

relaxed = settings(max_examples=60, deadline=None)


@pytest.mark.parametrize(
    ("text", "blocks", "layers"),
    [
        ("all", 4, {0, 1, 2, 3}),
        ("25-29", 30, {25, 26, 27, 28, 29}),
        ("0, 3, 5-7", 8, {0, 3, 5, 6, 7}),
        (" 2 ", 3, {2}),
        ("last 5", 30, {25, 26, 27, 28, 29}),
        ("first 2", 30, {0, 1}),
        ("last 1/6", 30, {25, 26, 27, 28, 29}),
        ("last 1/6", 40, set(range(33, 40))),  # a share is rounded up
        ("First 1/4", 3, {0}),
        ("last 4/4", 3, {0, 1, 2}),
    ],
)
def test_layers_are_found_by_their_names(text, blocks, layers):
    assert parse_layers(text, blocks) == layers


@relaxed
@given(st.integers(1, 64), st.data())
def test_the_two_ends_of_a_network_meet(blocks, data):
    count = data.draw(st.integers(1, blocks))
    first, last = parse_layers(f"first {count}", blocks), parse_layers(f"last {count}", blocks)
    assert first == set(range(count)) and last == {blocks - 1 - layer for layer in first}
    assert parse_layers(f"0-{count - 1}", blocks) == first
    assert parse_layers(f"last {count}/{blocks}", blocks) == last


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("25-30", r'layers "25-30": 25-30 is not in the network\'s 30 blocks; use 0 to 29'),
        ("0, 30", r'layers "0, 30": 30 is not in the network\'s 30 blocks; use 0 to 29'),
        ("7-5", r'layers "7-5": 7-5 runs backwards; use 5-7'),
        ("last 31", 'layers "last 31" asks for 31 of 30 blocks; use 1 to 30'),
        ("first 0", 'layers "first 0" asks for 0 of 30 blocks; use 1 to 30'),
        ("last 7/6", 'layers "last 7/6" is not a share of 1; use a range'),
        ("last 1/0", 'layers "last 1/0" is not a share of 1; use a range'),
        ("", 'layers "" is not understood at ""; use a range'),
        ("3, top", 'layers "3, top" is not understood at "top"; use a range'),
        ("-1", 'layers "-1" is not understood at "-1"; use a range'),
        ("9" * 5000, r'layers "\[...\]" is not understood at "\[...\]"; use a range'),
        ("last " + "9" * 5000, r'layers "last \[...\]" is not understood at "last \[...\]"; use a range'),
        ("0-999999999", r'layers "0-999999999": 0-999999999 is not in the network\'s 30 blocks; use 0 to 29'),
        ("1," * 500_000, r'layers "\[...\]" has 500,001 parts, and at most 1,000 are read; use ranges'),
    ],
)
def test_what_is_no_block_is_refused_by_name(text, message):
    with pytest.raises(ValueError, match="^" + message):
        parse_layers(text, 30)


@pytest.mark.parametrize("text", ["all", "last 31", "first 1/6", "0, 3, 5-7", "25-999"])
def test_what_some_network_has_passes_before_one_is_known(text):
    check_layers(text)


@pytest.mark.parametrize("text", ["", "top", "3, top", "-1", "7-5", "last 7/6", "9" * 5000, "1," * 5000])
def test_what_no_network_has_is_refused_before_one_is_known(text):
    with pytest.raises(ValueError, match='^layers "'):
        check_layers(text)


def flow(shift: float):
    """Sigma by fraction of the schedule for flow models: 1 is pure noise."""
    return lambda fraction: shift * (1 - fraction) / (1 + (shift - 1) * (1 - fraction))


def ddpm(fraction: float) -> float:
    """Sigma by fraction of the schedule for diffusion models, log-linear between training steps; endless at 0."""
    if fraction <= 0:
        return 999999999.9
    if fraction >= 1:
        return 0.0
    table = ddpm_table()
    place = (1 - fraction) * 999
    low, part = int(place), place % 1
    return math.exp((1 - part) * math.log(table[low]) + part * math.log(table[min(low + 1, 999)]))


@cache
def ddpm_table() -> list[float]:
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    signal = torch.cumprod(1 - betas, dim=0)
    return ((1 - signal) / signal).sqrt().tolist()


SCHEDULES = {"flow": flow(1.0), "Wan": flow(8.0), "HunyuanVideo": flow(7.0), "diffusion": ddpm}


def sigma_of_step(name: str, step: int, steps: int) -> float:
    """As samplers hand it over: rounded to float32, and finite."""
    first = ddpm_table()[-1] if name == "diffusion" else 1.0
    return float(torch.tensor(SCHEDULES[name](step / steps) if step else first, dtype=torch.float32))


@pytest.mark.parametrize("name", SCHEDULES)
@relaxed
@given(st.integers(1, 100), st.data())
def test_a_step_is_held_from_the_start_up_to_but_not_at_the_end(name, steps, data):
    start, end = sorted(data.draw(st.lists(st.integers(0, steps), min_size=2, max_size=2, unique=True)))
    span = NoiseSpan.of(start / steps, end / steps, SCHEDULES[name])
    assert [s for s in range(steps) if span.holds(sigma_of_step(name, s, steps))] == list(range(start, end))


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_span_is_the_same_stretch_at_8_and_at_50_steps(name):
    span = NoiseSpan.of(0.25, 0.5, SCHEDULES[name])
    for steps in (8, 12, 50):
        held = [s / steps for s in range(steps) if span.holds(sigma_of_step(name, s, steps))]
        assert held == [s / steps for s in range(steps) if 0.25 <= s / steps < 0.5] and held


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_whole_schedule_holds_every_step_and_halves_share_none(name):
    whole, early, late = (NoiseSpan.of(*ends, SCHEDULES[name]) for ends in ((0, 1), (0, 0.5), (0.5, 1)))
    for sigma in (sigma_of_step(name, s, 50) for s in range(50)):
        assert whole.holds(sigma)
        assert early.holds(sigma) != late.holds(sigma)


@pytest.mark.parametrize(("start", "end"), [(0.5, 0.5), (0.6, 0.4), (-0.1, 0.5), (0.0, 1.5)])
def test_a_span_without_steps_is_refused(start, end):
    with pytest.raises(ValueError, match=f"^start {start:g} and end {end:g} hold no step; use 0 <= start < end <= 1$"):
        NoiseSpan.of(start, end, flow(1.0))


def test_the_steps_of_a_span_are_those_that_begin_in_it():
    half = NoiseSpan.of(0.0, 0.5, lambda fraction: 1.0 - fraction)
    assert half.steps([1.0, 0.75, 0.5, 0.25, 0.0]) == 2
    assert half.steps([0.4, 0.2, 0.0]) == 0
    assert NoiseSpan.of(0.0, 1.0, lambda fraction: 1.0 - fraction).steps([1.0, 0.5, 0.0]) == 2


def test_shots_are_read_once_each_in_their_order():
    assert parse_shots("4-6, 2,5") == (4, 5, 6, 2) and parse_shots(" ") == () and parse_shots("1-1000")[-1] == 1000


@pytest.mark.parametrize("text", ["1-10000000", "1001", "1-200000000"])
def test_a_range_of_shots_beyond_any_storyboard_is_refused_before_it_is_written_out(text: str):
    started = time.process_time()
    with pytest.raises(ValueError, match=r"shots names shot [\d,]+, and a storyboard has at most 1,000"):
        parse_shots(text)
    assert time.process_time() - started < 1.0  # written out, the shortest of them took 25 s


@pytest.mark.parametrize("text", ["9" * 5000, "1-" + "9" * 5000, "0", "3-2", "two"])
def test_what_is_no_list_of_shots_is_refused_in_one_short_sentence(text: str):
    with pytest.raises(ValueError, match="is not understood at") as refused:
        parse_shots(text)
    assert len(str(refused.value)) < 250


def test_many_ranges_are_refused_before_they_are_written_out():
    with pytest.raises(ValueError, match="has 150,000 parts, and at most 1,000 are read; use ranges"):
        parse_shots("1-1000," * 150_000)
