"""Keep what a person chose between runs of one storyboard, as JSON in a file that is never half written.

The file is `votes.json` in the folder of the comparison. A vote names the axis on which two runs were compared, the two
as they stood on the page, the choice, and the shot or storyboard that was watched. Votes are only ever added, and each
of them is given to the disk. Two pages that vote into one folder at once are kept apart by a lock
(engine/runs/lock.py).

The four axes are those of the TTT paper (arXiv 2504.05298, section 4): each is a question of its own, asked of the same
pair.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..runs.json_text import read_json
from ..runs.lock import RunLock
from ..runs.whole_file import write_whole
from .elo import Choice, Rating, elo_ratings, joined

VERSION = 1
FILE, LOCK = "votes.json", "votes.lock"
AXES = ("text following", "motion naturalness", "aesthetics", "temporal consistency")
SHARES = {"left": 1.0, "tie": 0.5, "right": 0.0}  # choices, and what of a vote is the left run's
MOST_LETTERS = 200


@dataclass(frozen=True)
class Vote:
    """A vote says which of the runs `left` and `right` was better on `axis`, of AXES, or that it is a tie. `watched`
    names what was shown (a storyboard), `voter` whose vote it is; both may be empty.
    """

    axis: str
    left: str
    right: str
    choice: str
    watched: str = ""
    voter: str = ""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not isinstance(value, str) or len(value) > MOST_LETTERS:
                raise ValueError(f"a vote's {name} is {str(value)[:60]!r}; use a text of up to {MOST_LETTERS} letters")
        if self.axis not in AXES:
            raise ValueError(f"a vote's axis is {self.axis!r}; use {', '.join(AXES)}")
        if self.choice not in SHARES:
            raise ValueError(f"a vote's choice is {self.choice!r}; use {', '.join(SHARES)}")
        if not self.left or not self.right or self.left == self.right:
            raise ValueError(f"a vote is between {self.left!r} and {self.right!r}; use two runs that are not the same")


def read_votes(folder: Path) -> list[Vote]:
    """Return the votes of a folder, in the order in which they came; none where there is no file yet.

    Raises ValueError for a file that is damaged or of a newer version, naming it.
    """
    path = folder / FILE
    if not path.exists():
        return []
    try:
        page: Any = read_json(path.read_bytes())
        if page["version"] > VERSION:
            raise ValueError(f"it is of version {page['version']}, and this Longreel reads {VERSION}; update Longreel")
        return [Vote(**vote) for vote in page["votes"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read ({error}); move it away, or mend it") from error


def add_votes(folder: Path, votes: Sequence[Vote]) -> list[Vote]:
    """Add votes to those of a folder, and return all of them.

    Raises ValueError as `read_votes` does, RunInUse while another process writes, and WriteError for a full disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = RunLock(folder / LOCK)
    try:
        kept = [*read_votes(folder), *votes]
        page = {"version": VERSION, "votes": [asdict(vote) for vote in kept]}
        write_whole(folder / FILE, (json.dumps(page, indent=1, ensure_ascii=False) + "\n").encode())
    finally:
        lock.release()
    return kept


def ratings_of(votes: Sequence[Vote], seed: int = 0) -> dict[str, list[Rating]]:
    """Return the ratings on each axis that has votes, and "overall" those of all of them together, best first.

    Runs that no chain of votes joins are rated apart, under the axis and what tells them from the others. Votes on one
    storyboard by one voter are one group of the bootstrap.
    """
    asked = {axis: [vote for vote in votes if vote.axis == axis] for axis in AXES}
    asked = {axis: given for axis, given in asked.items() if given}
    if len(asked) > 1:
        asked["overall"] = list(votes)
    found = {}
    for axis, given in asked.items():
        groups = joined([_choice(vote) for vote in given])
        for group in groups:
            apart = f", {group[0].one} and what was compared with it" if len(groups) > 1 else ""
            found[f"{axis}{apart}"] = elo_ratings(group, seed)
    return found


def _choice(vote: Vote) -> Choice:
    return Choice(vote.left, vote.right, SHARES[vote.choice], f"{vote.watched}\0{vote.voter}")
