"""Votes are kept in order and whole, and read again; axes are rated by themselves and together."""

import json

import pytest

from longreel.engine.compare.votes import AXES, FILE, LOCK, Vote, add_votes, ratings_of, read_votes
from longreel.engine.runs.lock import RunInUse, RunLock


def vote(number: int = 0, axis: str = AXES[0], choice: str = "left") -> Vote:
    return Vote(axis, "with memory", "without", choice, watched=f"story {number}")


def test_votes_are_added_and_read_again(tmp_path):
    folder = tmp_path / "compare" / "memory"
    assert read_votes(folder) == []
    assert add_votes(folder, [vote(1)]) == [vote(1)]
    assert (
        add_votes(folder, [vote(2, choice="tie"), vote(3)])
        == read_votes(folder)
        == [vote(1), vote(2, choice="tie"), vote(3)]
    )
    page = json.loads((folder / FILE).read_text(encoding="utf-8"))
    assert page["version"] == 1 and page["votes"][0]["left"] == "with memory"
    RunLock(folder / LOCK).release()  # it was given back


def test_a_second_writer_is_refused_and_nothing_is_lost(tmp_path):
    add_votes(tmp_path, [vote(1)])
    lock = RunLock(tmp_path / LOCK)
    with pytest.raises(RunInUse):
        add_votes(tmp_path, [vote(2)])
    lock.release()
    assert add_votes(tmp_path, [vote(3)]) == [vote(1), vote(3)]


def test_axes_are_rated_alone_and_together():
    votes = [vote(n, AXES[0], "left") for n in range(8)] + [vote(n, AXES[3], "right") for n in range(8)]
    ratings = ratings_of(votes)
    assert list(ratings) == [AXES[0], AXES[3], "overall"]
    assert [ratings[axis][0].name for axis in (AXES[0], AXES[3])] == ["with memory", "without"]
    assert ratings["overall"][0].elo == pytest.approx(ratings["overall"][1].elo)
    assert list(ratings_of(votes[:8])) == [AXES[0]] and ratings_of([]) == {}


def test_runs_that_never_met_are_rated_apart_until_a_vote_joins_them():
    apart = [Vote(AXES[0], "a", "b", "left"), Vote(AXES[0], "c", "d", "left"), Vote(AXES[0], "b", "e", "tie")]
    ratings = ratings_of(apart)
    assert [{rating.name for rating in rows} for rows in ratings.values()] == [{"a", "b", "e"}, {"c", "d"}]
    assert list(ratings) == [f"{AXES[0]}, {name} and what was compared with it" for name in "ac"]
    (axis,) = ratings_of([*apart, Vote(AXES[0], "d", "a", "right")])
    assert axis == AXES[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"axis": "sound"}, "a vote's axis is 'sound'; use text following, motion naturalness"),
        ({"choice": "both"}, "a vote's choice is 'both'; use left, tie, right"),
        ({"left": "without"}, "a vote is between 'without' and 'without'; use two runs that are not the same"),
        ({"voter": "x" * 201}, "a vote's voter is 'x+'; use a text of up to 200 letters"),
        ({"watched": 3}, "a vote's watched is '3'; use a text of up to 200 letters"),
    ],
)
def test_what_is_no_vote_is_refused(change, message):
    given = {"axis": AXES[0], "left": "with memory", "right": "without", "choice": "left", **change}
    with pytest.raises(ValueError, match=message):
        Vote(**given)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ('{"votes": []}', "cannot be read"),
        ('{"version": 2, "votes": []}', "it is of version 2, and this Longreel reads 1; update Longreel"),
        ('{"version": 1, "votes": [{"axis": "sound"}]}', "move it away, or mend it"),
    ],
)
def test_a_damaged_file_is_refused_and_left_as_it_is(tmp_path, text, message):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ValueError, match=message):
        add_votes(tmp_path, [vote()])
    assert (tmp_path / FILE).read_text() == text
