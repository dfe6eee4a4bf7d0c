"""engine/storyboard/keys.py: a misspelt key is told what it means, and only where that is plain."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longreel.engine.storyboard.carried import CARRIED
from longreel.engine.storyboard.csv_file import COLUMNS
from longreel.engine.storyboard.fields import BOARD_RULES, SHOT_RULES
from longreel.engine.storyboard.keys import edits, nearest, remedy

from ..storyboard_cases import relaxed

SHOT = (*SHOT_RULES, "focus", *CARRIED)
BOARD = (*BOARD_RULES, "shots", "longreel")


@pytest.mark.parametrize(
    ("key", "known", "meant"),
    [
        ("promt", SHOT, "prompt"),
        ("Prompts", SHOT, "prompt"),
        ("secnds", SHOT, "seconds"),
        ("secodns", SHOT, "seconds"),
        ("secs", SHOT, "seconds"),
        ("Seconds", SHOT, "seconds"),
        ("overlap", SHOT, "overlap_seconds"),
        ("overlap-seconds", SHOT, "overlap_seconds"),
        ("neg_prompt", SHOT, "negative"),
        ("negative_prompt", SHOT, "negative"),
        ("lock", SHOT, "locked"),
        ("tittle", BOARD, "title"),
        ("heigth", BOARD, "height"),
        ("fps", COLUMNS, "board_fps"),
        ("img", ("at", "image"), "image"),
    ],
)
def test_what_is_near_is_suggested(key: str, known: tuple[str, ...], meant: str) -> None:
    assert nearest(key, known) == meant
    assert remedy(key, known, "a shot") == f'did you mean "{meant}"?'


@pytest.mark.parametrize(
    ("key", "known"),
    [
        ("lenght", SHOT),  # once said to be "strength"
        ("duration", SHOT),
        ("notes", BOARD),  # once said to be "shots"
        ("note", SHOT),  # once said to be "anchors"
        ("comment", BOARD),
        ("colour", SHOT),
        ("style", ("title",)),
        ("x", SHOT),
        ("", SHOT),
        ("prompt" * 20, SHOT),
        ("灯台", SHOT),
    ],
)
def test_what_is_not_near_is_not_suggested_and_the_known_keys_are_listed(key: str, known: tuple[str, ...]) -> None:
    assert nearest(key, known) == ""
    assert remedy(key, known, "a shot") == f"a shot has {', '.join(known)}"


words = st.text("abc", max_size=6)


@relaxed
@given(words, words, words)
def test_edits_are_a_distance(first: str, second: str, third: str) -> None:
    assert edits(first, first) == 0 and (edits(first, second) > 0) == (first != second)
    assert edits(first, second) == edits(second, first) <= max(len(first), len(second))
    assert edits(first, second) >= abs(len(first) - len(second))
    # Swapped neighbours count as one edit, so the way over a third word is not always as long as the straight one.
    assert edits(first, second) <= 2 * (edits(first, third) + edits(third, second))


def test_neighbours_that_are_swapped_are_one_edit() -> None:
    assert edits("secodns", "seconds") == 1 and edits("abc", "cab") == 2 and edits("", "abc") == 3
