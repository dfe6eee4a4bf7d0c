"""engine/runs/shots.py: a shot is the same shot after an edit, and where that cannot be told it is said."""

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longreel.engine.runs.shots import RunShot, recognise

prompts = st.lists(st.sampled_from("abcdefgh"), max_size=8)


def shots(prompts, **known) -> list[RunShot]:
    return [RunShot(prompt=prompt, **known) for prompt in prompts]


@pytest.mark.parametrize(
    ("before", "now", "matches"),
    [
        ("abc", "abc", {0: 0, 1: 1, 2: 2}),
        ("abc", "xabc", {1: 0, 2: 1, 3: 2}),
        ("abc", "ac", {0: 0, 1: 2}),
        ("abc", "abxc", {0: 0, 1: 1, 3: 2}),
        ("abc", "axc", {0: 0, 1: 1, 2: 2}),
        ("abc", "xyc", {0: 0, 1: 1, 2: 2}),
        ("abc", "axyc", {0: 0, 3: 2}),
        ("abc", "cab", {0: 2, 1: 0, 2: 1}),
        ("abc", "cba", {0: 2, 1: 1, 2: 0}),
        ("abcd", "dxbc", {0: 3, 2: 1, 3: 2}),
        ("", "abc", {}),
        ("abc", "", {}),
        ("a", "b", {0: 0}),
        ("xaya", "xaxaya", {2: 0, 3: 1, 4: 2, 5: 3}),
    ],
)
def test_shots_are_found_again_by_their_prompts(before, now, matches):
    assert recognise(shots(before), shots(now)).matches == matches


def test_ids_say_more_than_prompts_and_places():
    before = [RunShot(prompt="a", id="1"), RunShot(prompt="a", id="2"), RunShot(prompt="b", id="3")]
    now = [RunShot(prompt="b", id="2"), RunShot(prompt="a", id="3"), RunShot(prompt="a", id="9")]
    assert recognise(before, now).matches == {0: 1, 1: 2}  # 9 says what 1 said, and is another shot
    assert recognise(before, shots("aab")).matches == {0: 0, 1: 1, 2: 2}  # ids that were lost


@pytest.mark.parametrize("style", ["film grain", "a, b and c in the style of x", ""])
def test_a_style_that_changed_while_shots_were_put_in_hides_no_shot(style):
    words = ["a red circle moves right", "a blue square moves up", "a green star bounces"]
    before = [RunShot(prompt=f"old style, {one}") for one in words]  # of a record that knows no own prompts
    now = [f"{style}, {one}" for one in ("a yellow triangle turns round", *words)]
    assert recognise(before, shots(now)).matches == {1: 0, 2: 1, 3: 2}


def test_an_edited_prompt_is_known_by_the_words_that_stayed():
    before = shots(["a red circle moves right", "a blue square moves up slowly"])
    now = shots(["a dog", "a red circle moves right", "a cat", "a blue square moves down slowly", "a cow"])
    assert recognise(before, now).matches == {1: 0, 3: 1}
    moved = shots(["a blue square moves down slowly", "a red circle moves right", "a cat"])
    assert recognise(before, moved).matches == {0: 1, 1: 0}


@pytest.mark.parametrize("known", [{"seed": 5}, {"seconds": 2.0}, {"locked": True}])
def test_shots_of_one_prompt_are_told_apart_by_what_else_is_known(known):
    before = [RunShot(prompt="a"), replace(RunShot(prompt="a"), **known)]
    found = recognise(before, [before[1]])
    assert found.matches == {0: 1} and not found.unsure


def test_shots_of_one_prompt_are_told_apart_by_their_neighbours():
    found = recognise(shots("axaya"), shots("aya"))
    assert found.matches == {0: 2, 1: 3, 2: 4}


@pytest.mark.parametrize(
    ("before", "now", "unsure", "why"),
    [
        ("xaay", "xay", [1], "1 shots have its prompt where the last run had 2"),
        ("aaa", "aa", [0, 1], "2 shots have its prompt where the last run had 3"),
        ("a", "qaqaq", [1], "2 shots have its prompt where the last run had 1"),
        ("xaby", "xabxaby", [3, 4], "2 shots have its prompt where the last run had 1"),
        ("ab", "aba", [], ""),
        ("aab", "ab", [0], "1 shots have its prompt where the last run had 2"),
        ("aba", "ba", [], ""),
        ("xaaay", "xaay", [1, 2], "2 shots have its prompt where the last run had 3"),
    ],
)
def test_a_shot_that_could_be_another_as_well_is_said(before, now, unsure, why):
    found = recognise(shots(before), shots(now))
    assert sorted(found.unsure) == unsure
    assert all(said == why for said in found.unsure.values())


def test_hundreds_of_shots_are_recognised_in_a_moment():
    many = [f"shot {number} of a red circle" for number in range(1000)]
    started = time.perf_counter()
    found = recognise(shots(["a"] * 1000), shots(["a"] * 999))
    assert len(found.matches) == len(found.unsure) == 999
    assert recognise(shots(many), shots(many[500:] + many[:500])).matches[0] == 500
    assert not recognise(shots(many), shots([f"{one} at night" for one in many[:999]])).matches
    assert time.perf_counter() - started < 5


def test_prompts_that_changed_in_their_places_are_those_of_their_shots():
    before = [RunShot(prompt=prompt, seconds=seconds) for prompt, seconds in zip("abcd", (1, 2, 3, 4), strict=True)]
    now = [replace(shot, prompt=prompt) for shot, prompt in zip(before, "axyd", strict=True)]
    found = recognise(before, now)
    assert found.matches == {number: number for number in range(4)} and not found.unsure
    retimed = [replace(shot, seconds=9.0) for shot in now]
    assert sorted(recognise(before, retimed).unsure) == [1, 2]
    assert sorted(recognise(before, [*now, RunShot(prompt="e")]).unsure) == [1, 2]


def test_shots_of_other_storyboards_are_known_by_equal_prompts_before_places_count():
    assert recognise([], shots("axc"), shots("cba")).elsewhere == {0: 2, 2: 0}
    found = recognise(shots("xyz"), shots("abq"), shots("ab"))
    assert found.elsewhere == {0: 0, 1: 1} and not found.matches
    found = recognise(shots("xyz"), shots("xaqz"), shots("ab"))
    assert found.elsewhere == {1: 0} and found.matches == {0: 0, 2: 1, 3: 2}


@settings(max_examples=300, deadline=None)
@given(prompts, prompts)
def test_no_two_shots_become_one(before, now):
    found = recognise(shots(before), shots(now))
    assert len(set(found.matches.values())) == len(found.matches)
    assert all(0 <= match < len(before) and 0 <= shot < len(now) for shot, match in found.matches.items())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(), max_size=8))
def test_the_same_storyboard_moves_nothing(words):
    found = recognise(shots(words), shots(words))
    assert found.matches == {number: number for number in range(len(words))} and not found.unsure


@settings(max_examples=200, deadline=None)
@given(st.permutations(list("abcdefgh")), st.integers(1, 8))
def test_shots_that_moved_or_left_are_all_known(order, count):
    found = recognise(shots("abcdefgh"), shots(order[:count]))
    assert found.matches == {number: "abcdefgh".index(prompt) for number, prompt in enumerate(order[:count])}
