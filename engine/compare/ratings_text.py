"""Write what votes imply as text: a line for each run on each axis, best first. Plain strings from plain numbers."""

from collections.abc import Mapping, Sequence

from .elo import FEWEST_GROUPS, Rating

NO_VOTES = "no votes yet"


def ratings_text(ratings: Mapping[str, Sequence[Rating]]) -> str:
    """Return the table of `ratings_of` (engine/compare/votes.py): Elo, its interval where there is one, and votes."""
    if not ratings:
        return NO_VOTES
    lines = []
    for axis, rows in ratings.items():
        lines.append(axis)
        width = max(len(row.name) for row in rows)
        for row in rows:
            between = "" if row.low is None else f"  ({row.low:.0f} to {row.high:.0f})"
            lines.append(f"  {row.name.ljust(width)}  {row.elo:.0f}{between}  {row.votes} vote{'s' * (row.votes != 1)}")
    if any(row.low is None for rows in ratings.values() for row in rows):
        lines.append(f"intervals: from {FEWEST_GROUPS} storyboards or voters on")
    return "\n".join(lines)
