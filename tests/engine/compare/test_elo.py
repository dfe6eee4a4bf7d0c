"""Ratings are those that the votes imply, by a second implementation too, and their intervals cover the truth."""

import random

import numpy as np
import pytest
import scipy.optimize
import torch

from longreel.engine.compare.elo import MEAN, POINTS, PRIOR, Choice, elo_ratings, strengths

TRUE = {"a": 120.0, "b": 0.0, "c": -120.0}  # Elo around the mean


def scripted(groups: int, per_group: int, seed: int, ties: float = 0.1) -> list[Choice]:
    """Votes of somebody who prefers by the true ratings, and more so on some stories than on others."""
    draw = random.Random(seed)
    choices = []
    for group in range(groups):
        liked = {name: draw.gauss(0, 30) for name in TRUE}  # what this story makes of each
        for _ in range(per_group):
            one, other = draw.sample(list(TRUE), 2)
            gap = TRUE[one] + liked[one] - TRUE[other] - liked[other]
            chance = 1 / (1 + np.exp(-gap / POINTS))
            share = 0.5 if draw.random() < ties else float(draw.random() < chance)
            choices.append(Choice(one, other, share, f"story {group}"))
    return choices


def test_two_candidates_have_the_odds_of_their_votes():
    votes = [Choice("new", "old", float(n < 30), str(n)) for n in range(40)]
    new, old = elo_ratings(votes)
    odds = (30 + PRIOR / 2) / (10 + PRIOR / 2)
    assert (new.name, old.name) == ("new", "old") and new.elo - old.elo == pytest.approx(400 * np.log10(odds), abs=1e-6)
    assert new.elo + old.elo == pytest.approx(2 * MEAN) and new.votes == old.votes == 40


def test_the_fit_is_the_likeliest_one_by_another_method():
    votes = scripted(20, 6, seed=3)
    wins = torch.zeros(3, 3, dtype=torch.float64)
    for vote in votes:
        i, j = "abc".index(vote.one), "abc".index(vote.other)
        wins[i, j] += vote.share
        wins[j, i] += 1 - vote.share
    table = wins.numpy() + PRIOR / 2 * (1 - np.eye(3))

    def unlikely(s):
        return float((table * np.log1p(np.exp(s[None, :] - s[:, None]))).sum())

    theirs = scipy.optimize.minimize(unlikely, np.zeros(3), tol=1e-12).x
    np.testing.assert_allclose(strengths(wins[None])[0].numpy(), theirs - theirs.mean(), atol=1e-4)


def test_a_scripted_voter_gives_the_elo_that_his_votes_imply():
    found = {rating.name: rating for rating in elo_ratings(scripted(400, 10, seed=1, ties=0.0))}
    for name, true in TRUE.items():
        assert found[name].elo - MEAN == pytest.approx(true, abs=20)
    assert [rating.name for rating in elo_ratings(scripted(400, 10, seed=1))] == ["a", "b", "c"]


def test_intervals_cover_the_truth_as_often_as_they_say():
    inside = []
    for seed in range(40):
        ratings = {rating.name: rating for rating in elo_ratings(scripted(25, 8, seed=100 + seed, ties=0.0), seed=seed)}
        inside += [ratings[name].low <= MEAN + true <= ratings[name].high for name, true in TRUE.items()]
    # 95 % are meant; 25 groups make the bootstrap a little narrow, and 120 ratings count to some percent.
    assert 0.87 <= np.mean(inside) < 1


def test_votes_on_one_story_are_one_draw():
    spread = scripted(40, 5, seed=7)
    few = [Choice(vote.one, vote.other, vote.share, "all") for vote in spread]
    assert all(rating.low is rating.high is None for rating in elo_ratings(few))
    assert elo_ratings(spread)[0].elo == pytest.approx(elo_ratings(few)[0].elo)
    # Stories that differ more than chance make the interval wider than their votes alone would.
    by_story, alone = (
        elo_ratings([Choice("a", "b", float(n % 2), str(n % stories)) for n in range(200)])[0] for stories in (10, 200)
    )
    assert by_story.high - by_story.low > 2 * (alone.high - alone.low)


def test_one_who_always_wins_has_a_rating_and_the_same_seed_the_same_interval():
    votes = [Choice("a", "b", 1.0, str(n)) for n in range(12)]
    first, again = elo_ratings(votes), elo_ratings(votes)
    assert first == again and 1200 < first[0].elo < 3000


@pytest.mark.parametrize(
    ("votes", "message"),
    [
        ([Choice("a", "a", 1.0, "")], "a vote between a and a with a share of 1 is none"),
        ([Choice("a", "b", 1.5, "")], "a vote between a and b with a share of 1.5 is none"),
        ([Choice("a", "b", 1.0, ""), Choice("c", "d", 1.0, "")], "no votes lead from a to c; compare them"),
    ],
)
def test_votes_that_say_nothing_are_refused(votes, message):
    with pytest.raises(ValueError, match=message):
        elo_ratings(votes)
