"""engine/runs/shot_states.py: one word for each shot, the one that most matters to who looks at it."""

from longreel.engine.runs.chunk_file import ChunkKey
from longreel.engine.runs.folder import LOCKED, MADE, MADE_AGAIN, REUSED, Outcome
from longreel.engine.runs.shot_states import shot_states


def outcomes(*states: tuple[int, str]) -> dict[int, Outcome]:
    return {number: Outcome(ChunkKey(number, shot, 0, {}), state) for number, (shot, state) in enumerate(states)}


def test_a_shot_is_what_most_mattered_of_its_chunks():
    found = outcomes((0, REUSED), (0, REUSED), (1, REUSED), (1, MADE_AGAIN), (2, LOCKED), (3, LOCKED), (3, MADE))
    assert shot_states(4, found) == [REUSED, MADE_AGAIN, LOCKED, MADE]


def test_without_a_run_all_was_made():
    assert shot_states(3, None) == [MADE] * 3
