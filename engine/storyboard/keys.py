"""Tell known keys and columns from those that are for people, and say which known one a misspelt one is near to.

A suggestion is made only where it is hardly a guess: one letter off, two in a longer word, neighbours swapped, an
abbreviation ("secs"), or the known word with another one at its side ("negative_prompt"). For anything else the known
keys are listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from .faults import MOST, Faults, Path
from .json_text import is_ignored
from .rules import show

MAX_KEY_CHARACTERS = 64  # of a key that anything is suggested for
_FAR = 1000  # edits
_SHORT_WORD = 5  # letters of words in which no more than one may be wrong


def check_keys(
    data: Mapping[str, Any],
    known: Iterable[str],
    faults: Faults,
    *,
    place: str = "",
    path: Path = (),
    owner: str,
    elsewhere: Iterable[str] = (),
) -> set[str]:
    """Note every key that is neither known nor for people. `owner` is whose keys are known ("a shot"); `elsewhere` are
    keys of the storyboard itself, or of a shot where `place` is empty. Returns the known keys that misspelt ones mean.
    """
    meant: set[str] = set()
    known, elsewhere = tuple(known), tuple(elsewhere)
    unknown = [key for key in data if key not in known and not is_ignored(key)]
    if not unknown:
        return set()
    for number, key in enumerate(unknown):
        if number >= MOST:
            faults.add("an unknown key", place, path)  # only counted
            continue
        name = show(key, bare=True)
        if key in elsewhere:
            home = "the storyboard, beside shots" if place else "a shot"
            faults.add(f"{name} is not a known key here; it belongs to {home}", place, (*path, key))
        else:
            faults.add(f"{name} is not a known key; {remedy(key, known, owner)}", place, (*path, key))
            meant.add(nearest(key, known))
    return meant


def remedy(key: str, known: tuple[str, ...], owner: str) -> str:
    """Say which known key was meant, where that is plain, or which ones there are."""
    found = nearest(key, known)
    return f'did you mean "{found}"?' if found else f"{owner} has {', '.join(known)}"


@lru_cache(maxsize=1024)
def nearest(key: str, known: tuple[str, ...]) -> str:
    """Return the known key that `key` must be a misspelling of, else ""."""
    if len(key) > MAX_KEY_CHARACTERS:
        return ""
    parts = key.replace("-", " ").replace("_", " ").lower().split()
    for word in dict.fromkeys(["_".join(parts), *parts]):  # the first that is like one
        near = {one: _edits_within(word, one, 1 + (min(len(word), len(one)) > _SHORT_WORD)) for one in known}
        best = min(near, key=near.__getitem__)
        if near[best] < _FAR:
            return best
        letters = word.replace("_", "")
        for one in known:
            if word in one.split("_") or (len(letters) >= 3 and letters[0] == one[0] and _in_order(letters, one)):
                return one
    return ""


def _edits_within(first: str, second: str, most: int) -> int:
    count = edits(first, second) if abs(len(first) - len(second)) <= most else _FAR
    return count if count <= most else _FAR


def edits(first: str, second: str) -> int:
    """Count letters to add, drop or change, and neighbours to swap, that make one word the other."""
    before: list[int] = []
    row = list(range(len(second) + 1))
    for i, letter in enumerate(first, start=1):
        before, last, row = row, before, [i]
        for j, other in enumerate(second, start=1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == second[j - 2] and first[i - 2] == other:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]


def _in_order(letters: str, word: str) -> bool:
    """Tell whether `letters` are what is left of a word when others are left out."""
    rest = iter(word)
    return all(letter in rest for letter in letters)
