"""Fit Elo ratings to votes between pairs, with intervals: a Bradley-Terry model and the bootstrap.

Bradley and Terry (1952): the odds that i beats j are exp(s_i - s_j). Its likelihood is concave, so Newton's method
finds the one maximum; a tie counts as half a win of each. Elo is the same number on another scale, 400 points for odds
of ten to one, and its mean over the candidates is 1000 here, for only differences mean anything. A candidate that wins
always has no finite rating; each pair is therefore given PRIOR of a vote that was a tie, as a ridge.

The interval is the middle 95 % of ratings fitted to votes drawn again with replacement (Efron 1979), whole groups at a
time: votes on one storyboard are not independent of each other. Few groups make it too narrow; below FEWEST_GROUPS
there is none. Which candidate is which, and what was asked, is not known here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

POINTS = 400 / 2.302585092994046  # Elo points for odds of e
MEAN = 1000.0
PRIOR = 0.1  # of a tied vote between every two candidates
ROUNDS = 1000  # of the bootstrap
MIDDLE = 0.95
FEWEST_GROUPS = 5
STEPS, CLOSE = 50, 1e-9  # Newton's, and the change of a strength at which it stops
LARGEST_STEP = 2.0  # of a strength


@dataclass(frozen=True)
class Choice:
    """A choice is one vote: `share` of it is for `one` and the rest for `other`, 1, 0.5 or 0; `group` names the
    storyboard or the story that was watched.
    """

    one: str
    other: str
    share: float
    group: str


@dataclass(frozen=True)
class Rating:
    """A rating is a candidate's Elo, its interval of MIDDLE (None where there are too few groups), and its votes."""

    name: str
    elo: float
    low: float | None
    high: float | None
    votes: int


def elo_ratings(choices: Sequence[Choice], seed: int = 0) -> list[Rating]:
    """Return the ratings of all candidates that `choices` name, best first.

    Raises ValueError for a vote of a candidate with itself, a share beyond 0..1, or candidates that no chain of votes
    joins, whose ratings could not be compared.
    """
    names = list(dict.fromkeys(name for choice in choices for name in (choice.one, choice.other)))
    groups = list(dict.fromkeys(choice.group for choice in choices))
    wins = torch.zeros(len(groups), len(names), len(names), dtype=torch.float64)
    for choice in choices:
        if choice.one == choice.other or not 0 <= choice.share <= 1:
            raise ValueError(
                f"a vote between {choice.one} and {choice.other} with a share of {choice.share:g} is none; compare two "
                f"candidates, with 0 to 1"
            )
        i, j, group = names.index(choice.one), names.index(choice.other), groups.index(choice.group)
        wins[group, i, j] += choice.share
        wins[group, j, i] += 1 - choice.share
    if len(groups_apart := joined(choices)) > 1:
        here, there = groups_apart[0][0].one, groups_apart[1][0].one
        raise ValueError(f"no votes lead from {here} to {there}; compare them, or something with both")
    elo = _elo(wins.sum(0)[None])[0]
    low: list[float] | list[None] = [None] * len(names)
    high: list[float] | list[None] = [None] * len(names)
    if len(groups) >= FEWEST_GROUPS:
        drawn = torch.randint(len(groups), (ROUNDS, len(groups)), generator=torch.Generator().manual_seed(seed))
        counts = torch.zeros(ROUNDS, len(groups), dtype=torch.float64)
        counts.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64))
        again = _elo(torch.einsum("rg,gij->rij", counts, wins))
        edge = (1 - MIDDLE) / 2
        low, high = again.quantile(edge, 0).tolist(), again.quantile(1 - edge, 0).tolist()
    votes = (wins + wins.transpose(1, 2)).sum((0, 2)).round().int().tolist()
    rows = zip(names, elo.tolist(), low, high, votes, strict=True)
    return sorted((Rating(*row) for row in rows), key=lambda rating: -rating.elo)


def _elo(wins: Tensor) -> Tensor:
    """Return the Elo of each candidate, [R, N], for R tables [R, N, N] of how often the row beat the column."""
    return MEAN + POINTS * strengths(wins)


def strengths(wins: Tensor) -> Tensor:
    """Return the Bradley-Terry strengths [R, N], of mean 0, that are likeliest for R tables [R, N, N] of wins."""
    count = wins.shape[1]
    others = 1 - torch.eye(count, dtype=wins.dtype)
    wins = (wins + PRIOR / 2) * others
    games = wins + wins.transpose(1, 2)
    found = torch.zeros(wins.shape[:2], dtype=wins.dtype)
    for _ in range(STEPS):
        chance = torch.sigmoid(found[:, :, None] - found[:, None, :])
        slope = wins.sum(2) - (games * chance).sum(2)
        weight = games * chance * (1 - chance)
        curve = torch.diag_embed(weight.sum(2)) - weight + 1 / count  # the last makes the mean, which is free, 0
        step = torch.linalg.solve(curve, slope[:, :, None])[:, :, 0].clamp(-LARGEST_STEP, LARGEST_STEP)
        found = found + step
        found = found - found.mean(1, keepdim=True)
        if float(step.abs().max()) < CLOSE:
            break
    return found


def joined(choices: Sequence[Choice]) -> list[list[Choice]]:
    """Return the votes in groups whose candidates a chain of votes joins: only within one can ratings be compared."""
    leads: dict[str, str] = {}  # from each candidate to one of its group, to itself from the group's name

    def group_of(name: str) -> str:
        while leads.setdefault(name, name) != name:
            name = leads[name]
        return name

    for choice in choices:
        leads[group_of(choice.other)] = group_of(choice.one)
    groups: dict[str, list[Choice]] = {}
    for choice in choices:
        groups.setdefault(group_of(choice.one), []).append(choice)
    return list(groups.values())
