"""The prompt sets of storyboards/: as many of each kind as their README says, each worded as its kind asks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from longreel import dev
from longreel.demo import world
from longreel.engine.storyboard.board import Storyboard
from longreel.engine.storyboard.files import read_storyboards

SETS = dev.ROOT / "storyboards"
KINDS = ("background", "subject", "camera", "style", "lighting", "location", "speed", "emotion", "clothing", "action")
SUBJECT_WORDS = {"a", "big", "small", "on", "background", *world.SHAPES, *world.COLORS, *world.BACKGROUNDS}
DEMO_WORDS = SUBJECT_WORDS.union(*(motion.split() for motion in world.MOTIONS))


def kinds(boards: tuple[Storyboard, ...]) -> Counter[str]:
    return Counter(board.title.rpartition("-")[0] for board in boards)


def shared_words(first: str, second: str) -> int:
    """How many words two prompts begin and end with alike."""
    one, two = first.split(), second.split()
    equal = [a == b for a, b in zip(one, two, strict=False)]
    begin = equal.index(False) if False in equal else len(equal)
    backward = [a == b for a, b in zip(one[begin:][::-1], two[begin:][::-1], strict=False)]
    return begin + (backward.index(False) if False in backward else len(backward))


def test_the_set_for_real_models_has_thirteen_of_each_kind():
    boards = read_storyboards(SETS / "transitions.jsonl")
    assert kinds(boards) == dict.fromkeys(KINDS, 13)
    assert [board.title for board in boards] == [f"{kind}-{n:02}" for kind in KINDS for n in range(1, 14)]


def test_the_demo_set_speaks_the_words_of_the_demo_model_alone():
    boards = read_storyboards(SETS / "demo_world.jsonl")
    assert kinds(boards) == dict.fromkeys(("motion", "background", "subject", "color", "size", "recall"), 4)
    for shot in (shot for board in boards for shot in board.shots):
        assert set(shot.prompt.split()) <= DEMO_WORDS, shot.prompt


@pytest.mark.parametrize("file", sorted(SETS.glob("*.jsonl")), ids=lambda path: path.stem)
def test_prompts_of_one_storyboard_are_worded_alike_and_are_not_the_same(file: Path):
    for board in read_storyboards(file):
        prompts = [shot.prompt for shot in board.shots]
        assert 2 <= len(prompts) <= 3 and len(set(prompts)) == len(prompts), board.title
        assert len(prompts[0].split()) <= 226
        for other in prompts[1:]:
            shared = shared_words(prompts[0], other)
            assert 3 * shared >= min(len(prompts[0].split()), len(other.split())), (board.title, prompts[0], other)


def test_no_two_storyboards_share_a_seed_or_a_first_prompt():
    boards = [board for file in SETS.glob("*.jsonl") for board in read_storyboards(file)]
    assert len({board.seed for board in boards}) == len({board.shots[0].prompt for board in boards}) == len(boards)
