"""Take the votes of the page that plays two runs side by side, and answer what all votes of that comparison imply.

The folder of a comparison is made by the node (nodes/compare.py), so that no question can make one.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import folder_paths

from ...engine.compare.ratings_text import ratings_text
from ...engine.compare.votes import AXES, Vote, add_votes, ratings_of, read_votes
from ...engine.runs.lock import RunInUse
from ...engine.runs.name import check_run_name
from .storyboard_check import WrongQuestion

RUNS = "longreel"  # folder of runs in ComfyUI's output folder
MOST_VOTES = 100_000  # of one comparison


def take_votes(question: Any) -> dict[str, Any]:
    """Return {"ratings": {axis: [rating]}, "text": str} of a comparison with the new votes.

    question: {"comparison": name of its folder, "votes": [a vote as engine/compare/votes.py has it, one for each axis]}
    Raises WrongQuestion for anything else, a comparison that no node began, and a file of votes that is damaged.
    """
    if not isinstance(question, dict) or not isinstance(question.get("votes"), list):
        raise WrongQuestion("the question is not an object with votes; send comparison and votes")
    if not 0 < len(question["votes"]) <= len(AXES):
        raise WrongQuestion(f"the question has {len(question['votes'])} votes; send 1 to {len(AXES)}")
    try:
        folder = comparison_folder(str(question.get("comparison")))
        if not folder.is_dir():
            raise WrongQuestion(f"there is no comparison {folder.name!r}; queue Longreel Compare first")
        votes = [Vote(**vote) for vote in question["votes"]]
        if len(read_votes(folder)) > MOST_VOTES:
            raise WrongQuestion(f"the comparison has {MOST_VOTES:,} votes, and no more are taken; begin another")
        ratings = ratings_of(add_votes(folder, votes))
    except (ValueError, TypeError, RunInUse) as error:
        raise WrongQuestion(str(error)) from error
    shown = {axis: [asdict(rating) for rating in rows] for axis, rows in ratings.items()}
    return {"ratings": shown, "text": ratings_text(ratings)}


def comparison_folder(name: str) -> Path:
    """Return the folder of a comparison, which need not be there yet. Raises ValueError for a name that is none."""
    return Path(folder_paths.get_output_directory()) / RUNS / check_run_name(name)
