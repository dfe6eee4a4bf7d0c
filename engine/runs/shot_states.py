"""Say of each shot what a run did with it, in one word, for those who draw it.

A shot is what most mattered of its chunks: made again where any was made again, then made, kept by a lock, and reused
where all were found on disk.
"""

from collections.abc import Mapping

from .folder import LOCKED, MADE, MADE_AGAIN, REUSED, Outcome

ORDER = (MADE_AGAIN, MADE, LOCKED, REUSED)  # the first that any chunk of a shot is


def shot_states(shots: int, outcomes: Mapping[int, Outcome] | None) -> list[str]:
    """Return one word of ORDER for each of so many shots; outcomes: by chunk, None where all was made."""
    if outcomes is None:
        return [MADE] * shots
    found: list[set[str]] = [set() for _ in range(shots)]
    for outcome in outcomes.values():
        found[outcome.key.shot].add(outcome.state)
    return [next((state for state in ORDER if state in states), MADE) for states in found]
