"""Where features keep what they keep, and whether it fits: against every other way, and the words of a refusal."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longreel.engine.plan.card_memory import GIB, Card, CoreNeeds, MemoryPlan, amount, choose_places, refusal, summary
from longreel.engine.plan.needs import AUTO, CARD, EIGHT_BIT, FULL, MAIN_MEMORY, AttentionSize, Keep, Need

amounts = st.integers(0, 60)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Card, CoreNeeds, tuple[Need, ...]]:
    card = Card("cuda:0", 64, draw(amounts), draw(amounts), draw(st.booleans()))
    weights, window = draw(amounts), draw(amounts)
    core = CoreNeeds(
        weights, draw(st.integers(0, weights)), window, draw(st.integers(0, window)), draw(st.integers(0, 3))
    )
    needs = tuple(
        Need(f"feature {number}", draw(amounts), draw(st.integers(0, 5)), draw(st.integers(0, 5)), Keep(place))
        for number, place in enumerate(draw(st.lists(st.sampled_from([AUTO, CARD, MAIN_MEMORY]), max_size=4)))
    )
    return card, core, needs


def every_plan(card: Card, core: CoreNeeds, needs: tuple[Need, ...]) -> list[MemoryPlan]:
    """All that the user's choices leave open."""
    free = [(CARD, MAIN_MEMORY) if need.keep.place == AUTO else (need.keep.place,) for need in needs]
    names = [need.name for need in needs]
    return [MemoryPlan(card, core, needs, dict(zip(names, places, strict=True))) for places in product(*free)]


@given(cases())
def test_a_run_is_refused_only_where_no_way_fits(case):
    plan, others = choose_places(*case), every_plan(*case)
    assert plan.fits == any(other.fits for other in others)


@given(cases())
def test_weights_come_layer_by_layer_only_where_they_must(case):
    plan = choose_places(*case)
    beside = [other for other in every_plan(*case) if other.fits and other.beside_all_weights]
    if beside:
        assert plan.beside_all_weights
        if not case[0].is_main_memory:
            assert plan.features_in_main_memory == min(other.features_in_main_memory for other in beside)


@given(cases())
def test_a_place_that_the_user_chose_is_obeyed(case):
    card, _, needs = case
    places = choose_places(*case).places
    assert all(places[need.name] == need.keep.place for need in needs if need.keep.place != AUTO)
    if card.is_main_memory:
        assert all(places[need.name] == CARD for need in needs if need.keep.place == AUTO)


@given(cases(), st.integers(1, 20), st.integers(0, 20))
def test_more_memory_never_refuses(case, more_card, more_main):
    card, core, needs = case
    larger = replace(card, free=card.free + more_card, main_memory=card.main_memory + more_main)
    if choose_places(card, core, needs).fits:
        assert choose_places(larger, core, needs).fits


@given(cases())
def test_what_fits_is_counted_once_and_whole(case):
    """Against the bytes counted by hand, place by place."""
    card, core, needs = case
    plan = choose_places(*case)
    on_card = sum(n.reading + (n.kept if plan.places[n.name] == CARD else n.slots) for n in needs)
    in_main = sum(n.kept for n in needs if plan.places[n.name] == MAIN_MEMORY)
    assert (plan.features_on_card, plan.features_in_main_memory) == (on_card, in_main)
    if card.is_main_memory:
        assert plan.fits == (core.least_weights + core.least_window + core.latents + on_card + in_main <= card.free)
    elif plan.fits:
        room = card.free - core.least_window - core.latents - on_card
        assert room >= core.least_weights
        assert in_main + max(0, core.weights - room) <= card.main_memory


CARD_24 = Card("cuda:0", 24 * GIB, 23 * GIB, 60 * GIB)
WAN_14B = CoreNeeds(14 * GIB, GIB // 2, 12 * GIB, 6 * GIB)


def test_large_keys_go_to_main_memory_and_small_ones_stay():
    needs = (Need("Longreel KV Share", 52 * GIB, GIB, GIB // 2), Need("Longreel Anchor", 0))
    plan = choose_places(CARD_24, WAN_14B, needs)
    assert plan.fits and plan.places["Longreel KV Share"] == MAIN_MEMORY
    small = choose_places(CARD_24, CoreNeeds(3 * GIB, GIB // 2, 2 * GIB, GIB), (Need("Longreel KV Share", 2 * GIB),))
    assert small.places["Longreel KV Share"] == CARD and small.beside_all_weights


def test_main_memory_that_is_too_small_leaves_keys_on_the_card():
    """They would fit beside all weights if they left, and main memory cannot take them: weights are streamed."""
    needs = (Need("Longreel KV Share", 12 * GIB, 0, 0),)
    core = CoreNeeds(10 * GIB, GIB, 4 * GIB, 4 * GIB)
    plan = choose_places(Card("cuda:0", 24 * GIB, 20 * GIB, 11 * GIB), core, needs)
    assert plan.fits and plan.places["Longreel KV Share"] == CARD and not plan.beside_all_weights


def test_weights_without_room_on_the_card_take_main_memory_too():
    core = CoreNeeds(14 * GIB, GIB, 6 * GIB, 6 * GIB)
    needs = (Need("Longreel KV Share", 10 * GIB, 0, GIB, Keep(MAIN_MEMORY)),)
    assert choose_places(Card("cuda:0", 16 * GIB, 16 * GIB, 15 * GIB), core, needs).fits  # 10 kept, 5 of weights
    short = choose_places(Card("cuda:0", 16 * GIB, 16 * GIB, 14 * GIB), core, needs)
    assert not short.fits and short.missing_in_main_memory == GIB


def test_the_line_of_the_log_has_all_figures():
    plan = choose_places(CARD_24, WAN_14B, (Need("Longreel KV Share", 52 * GIB, GIB, GIB // 2),))
    assert summary(plan) == (
        "cuda:0: weights 14.0 GiB, window 12.0 GiB, Longreel KV Share 1.5 GiB (52.0 GiB kept in main memory): needed "
        "27.5 GiB, free 23.0 GiB; main memory: needed 52.0 GiB, free 60.0 GiB; weights come to the card layer by layer"
    )


def test_a_refusal_names_the_feature_both_numbers_and_what_fits():
    forced = Need("Longreel KV Share", 52 * GIB, GIB, GIB // 2, Keep(CARD))
    plan = choose_places(CARD_24, WAN_14B, (forced,))
    assert refusal(plan, ["a", "b", "c"]) == (
        "Longreel KV Share needs 59.5 GiB with 6.5 GiB of the network and its window, and 23.0 GiB are free on cuda:0; "
        "use a, b, or c"
    )
    short = choose_places(replace(CARD_24, main_memory=20 * GIB), WAN_14B, (replace(forced, keep=Keep(MAIN_MEMORY)),))
    assert short.missing_on_card == 0
    assert "52.0 GiB in main memory" in refusal(short, ["a"]) and "20.0 GiB are free; use a" in refusal(short, ["a"])
    window = choose_places(CARD_24, replace(WAN_14B, least_window=40 * GIB), ())
    assert refusal(window, []).startswith(
        "this run needs 40.5 GiB, and 23.0 GiB are free on cuda:0; use a smaller size"
    )


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0.0 MiB"), (5 * 2**20, "5.0 MiB"), (GIB // 2, "0.5 GiB"), (3 * GIB, "3.0 GiB")]
)
def test_bytes_are_said_as_people_read_them(count, text):
    assert amount(count) == text


SIZE = AttentionSize(2, 4, 8, 2, 5, 2, 6, 3, (("self", 0), ("cross", 0)))


@given(st.integers(1, 9), st.integers(1, 4))
def test_tokens_and_bytes_of_an_evaluation(frames, every):
    token_frames = len(range(0, -(-frames // 2), every))
    tokens = SIZE.video_tokens(frames, every)
    assert tokens == token_frames * 6
    assert SIZE.bytes_of(tokens) == 2 * 2 * tokens * 4 * 8 * 2  # keys and values, rows, heads, width, itemsize
    assert SIZE.bytes_of(tokens, EIGHT_BIT) == 2 * 2 * tokens * 4 * (8 + 4)
    assert SIZE.bytes_of(tokens, FULL) >= SIZE.group_bytes(tokens)
