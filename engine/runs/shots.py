"""Recognise the shots of a storyboard among those of earlier runs, so that a locked shot keeps its files.

A shot is recognised by its `id` where both have one; else by its prompt, with seed, seconds, lock and neighbours to
tell shots of the same prompt apart; else, where prompts were edited, by the words they still share; and last by its
place between neighbours that stayed. Where two shots of before are as likely as each other, that is said, not guessed.
What is done with the files of a shot is not known here (engine/runs/record.py).
"""

import difflib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

ALIKE = 0.6  # share of words, 0..1, from which an edited prompt is taken for the same shot's between its neighbours
ALIKE_ANYWHERE = 0.8  # the same, for a shot that was edited and moved
NEARLY = 0.2  # share of words by which another shot must be less alike, so that there is no doubt
NEARLY_SAME = 0.99
MOST_NEIGHBOURS = 8  # of each side that tell shots of one prompt apart
MOST_PAIRS = 40_000  # of prompts that are compared word by word; beyond, places decide alone


@dataclass(frozen=True, kw_only=True)
class RunShot:
    """A shot is what a run knows of it beside its frames.

    prompt: with the storyboard's style. own_prompt: without it; None where an older Longreel wrote the record. seconds,
    fps: as planned. family: of the model. pieces: chunks that belong to the shot. None is not known.
    """

    prompt: str
    own_prompt: str | None = None
    id: str | None = None
    seed: int | None = None
    seconds: float | None = None
    locked: bool = False
    fps: float | None = None
    family: str | None = None
    pieces: int | None = None


@dataclass(frozen=True)
class Recognised:
    """These are the shots that were recognised, by number from 0.

    matches: the shot before by the shot now, each at most once. elsewhere: the same for shots of other storyboards.
    unsure: why a match could be another as well, for people, by the shot now.
    """

    matches: Mapping[int, int]
    elsewhere: Mapping[int, int] = field(default_factory=dict)
    unsure: Mapping[int, str] = field(default_factory=dict)


EVIDENCE: tuple[Callable[[str, RunShot], Hashable], ...] = (  # beside ids, the strongest first
    lambda words, shot: (words, shot.seed, shot.seconds, shot.locked),
    lambda words, shot: (words, shot.seed, shot.seconds),
    lambda words, shot: (words, shot.seed),
    lambda words, shot: words,
)


def recognise(before: Sequence[RunShot], now: Sequence[RunShot], others: Sequence[RunShot] = ()) -> Recognised:
    """Return which shots the shots `now` are.

    before: of the same storyboard before it was edited; they are recognised by all that is known. others: of other
    storyboards, or of this one once; they are recognised by id or prompt alone, and before a place is taken for
    evidence.
    """
    search = _Search(before, now)
    search.by_id()
    for evidence in EVIDENCE:
        search.by_evidence(evidence)
    left = search.free_now()
    there = _Search(others, [now[number] for number in left])
    there.by_id()
    for evidence in EVIDENCE:
        there.by_evidence(evidence)
    search.has_others = bool(others)
    search.elsewhere = {left[number]: match for number, match in sorted(there.matches.items())}
    search.unsure |= {left[number]: why for number, why in there.unsure.items()}
    search.by_words_between_neighbours()
    search.by_words_anywhere()
    search.by_place()
    return Recognised(dict(sorted(search.matches.items())), search.elsewhere, search.unsure)


class _Search:
    """The search goes from the strongest evidence to the weakest; what is found stays."""

    def __init__(self, before: Sequence[RunShot], now: Sequence[RunShot]):
        self.before, self.now = before, now
        self.matches: dict[int, int] = {}  # now: before
        self.elsewhere: dict[int, int] = {}
        self.has_others = False  # shots of other storyboards
        self.unsure: dict[int, str] = {}
        own = all(shot.own_prompt is not None for shot in (*before, *now))
        self.words_before, self.words_now = (
            tuple((shot.own_prompt if own else shot.prompt) or "" for shot in side) for side in (before, now)
        )
        self.split_before, self.split_now = (
            [words.split() for words in side] if own else _without_style(side)
            for side in (self.words_before, self.words_now)
        )

    def by_id(self) -> None:
        numbers = {shot.id: number for number, shot in enumerate(self.before) if shot.id is not None}
        for number, shot in enumerate(self.now):
            if shot.id is not None and shot.id in numbers:
                self.matches[number] = numbers[shot.id]

    def by_evidence(self, evidence: Callable[[str, RunShot], Hashable]) -> None:
        groups: defaultdict[Hashable, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        for number in self._free_before():
            groups[evidence(self.words_before[number], self.before[number])][0].append(number)
        for number in self.free_now():
            groups[evidence(self.words_now[number], self.now[number])][1].append(number)
        for before, now in groups.values():
            if before and now:
                self._pair(before, now)

    def by_words_between_neighbours(self) -> None:
        for before, now, is_held in list(self._gaps()):
            self._align(self._free(before), now, is_held)

    def by_words_anywhere(self) -> None:
        before, now = self._free_before(), self.free_now()
        if len(before) * len(now) > MOST_PAIRS:
            return
        likely = sorted(
            ((self._alike(b, n), b, n) for b in before for n in now if self._may_be(b, n)),
            key=lambda one: (-one[0], one[1:]),
        )
        for share, b, n in likely:
            if share >= ALIKE_ANYWHERE and n not in self.matches and b not in self.matches.values():
                self.matches[n] = b

    def by_place(self) -> None:
        for before, now, is_held in list(self._gaps()):
            if len(before := self._free(before)) == len(now):
                why = f"{len(now)} shots in a row have other prompts than in the last run"
                is_sure = (len(now) == 1 and (is_held or not self.has_others)) or self._only_prompts_changed()
                self._pair_in_order(before, now, "" if is_sure else why)

    def _only_prompts_changed(self) -> bool:
        """Return whether there are as many shots as before, of the same seconds, and all that are known stay."""
        return [shot.seconds for shot in self.before] == [shot.seconds for shot in self.now] and all(
            n == b for n, b in self.matches.items()
        )

    def _pair(self, before: list[int], now: list[int]) -> None:
        """Pair shots that say the same: in their order where they are as many, else by their neighbours."""
        if len(before) == len(now):
            self._pair_in_order(before, now)
            return
        why = f"{len(now)} shots have its prompt where the last run had {len(before)}"
        if len(before) * len(now) > MOST_PAIRS:
            self._pair_in_order(before, now, why)
            return
        likely = sorted(
            ((self._neighbours(b, n), b, n) for b in before for n in now if self._may_be(b, n)),
            key=lambda one: (-one[0], abs(one[1] - one[2]), one[1:]),
        )
        found: dict[int, int] = {}
        for _, b, n in likely:
            if n not in found and b not in found.values():
                found[n] = b
        self.matches.update(found)
        sure = {(b, n) for _, b, n in likely if self._stand_alike(b, n)}
        for n, b in found.items():
            if [pair for pair in sure if b in pair[:1] or n in pair[1:]] != [(b, n)]:
                self.unsure[n] = why

    def _pair_in_order(self, before: Sequence[int], now: Sequence[int], unsure: str = "") -> None:
        """Pair shots one by one; unsure: why these pairs could be others as well."""
        for b, n in zip(before, now, strict=False):
            if self._may_be(b, n):
                self.matches[n] = b
                if unsure:
                    self.unsure[n] = unsure

    def _neighbours(self, before: int, now: int) -> int:
        """Return how many neighbours in a row say the same, on both sides; an end of the video counts as one."""
        count = 0
        for side in (-1, 1):
            for step in range(side, side * (MOST_NEIGHBOURS + 1), side):
                words = self._words_at(self.words_before, before + step)
                if words != self._words_at(self.words_now, now + step):
                    break
                count += 1
                if words is None:
                    break
        return count

    def _stand_alike(self, before: int, now: int) -> bool:
        """Return whether both neighbours say the same, at least one is a shot, and neither says what the shot says."""
        own = self.words_now[now]
        neighbours = [self._words_at(self.words_before, before + side) for side in (-1, 1)]
        there = [self._words_at(self.words_now, now + side) for side in (-1, 1)]
        return neighbours == there and own not in there and there != [None, None]

    @staticmethod
    def _words_at(words: Sequence[str], number: int) -> str | None:
        return words[number] if 0 <= number < len(words) else None

    def _gaps(self) -> Iterator[tuple[list[int], list[int], bool]]:
        """Yield (shots before, shots now, whether a neighbour stayed), neither found yet, that lie between the same
        neighbours.
        """
        free_before, taken = set(self._free_before()), set(self.matches.values())
        run: list[int] = []
        last = -1  # the shot before of the neighbour in front
        for number in range(len(self.now) + 1):
            if number in self.elsewhere:
                continue
            if number < len(self.now) and number not in self.matches:
                run.append(number)
                continue
            if run:
                low = last
                high = self.matches[number] if number < len(self.now) else len(self.before)
                between = range(low + 1, high) if low < high else _until(range(low + 1, len(self.before)), taken)
                if candidates := [b for b in between if b in free_before]:
                    yield candidates, run, last >= 0 or number in self.matches
            run, last = [], self.matches.get(number, -1)

    def _align(self, before: Sequence[int], now: Sequence[int], is_held: bool) -> None:
        """Pair edited prompts in their order so that they share most words."""
        if len(before) * len(now) > MOST_PAIRS:
            return
        best = [[0.0] * (len(now) + 1) for _ in range(len(before) + 1)]
        share = [[self._alike(b, n) if self._may_be(b, n) else 0.0 for n in now] for b in before]
        for i in reversed(range(len(before))):
            for j in reversed(range(len(now))):
                both = share[i][j] + best[i + 1][j + 1] if share[i][j] >= ALIKE else 0.0
                best[i][j] = max(both, best[i + 1][j], best[i][j + 1])
        i = j = 0
        found: dict[int, int] = {}
        while i < len(before) and j < len(now):
            if share[i][j] >= ALIKE and best[i][j] == share[i][j] + best[i + 1][j + 1]:
                found[j] = i
                i, j = i + 1, j + 1
            elif best[i][j] == best[i + 1][j]:
                i += 1
            else:
                j += 1
        for j, i in found.items():
            self.matches[now[j]] = before[i]
            rivals = [share[k][j] for k in range(len(before)) if k != i]
            rivals += [share[i][k] for k in range(len(now)) if k != j]
            is_equal = share[i][j] == 1  # but for a style that was added to each
            is_alone = is_equal or is_held or not (rivals or self.has_others)
            if not is_alone or max(rivals, default=0.0) > (NEARLY_SAME if is_equal else share[i][j] - NEARLY):
                self.unsure[now[j]] = f"of {len(before)} shots of the last run several have prompts like its own"

    def _alike(self, before: int, now: int) -> float:
        return difflib.SequenceMatcher(None, self.split_before[before], self.split_now[now], autojunk=False).ratio()

    def _may_be(self, before: int, now: int) -> bool:
        """Return False for two ids that differ: those are two shots, whatever they say."""
        return self.before[before].id is None or self.now[now].id is None

    def _free(self, before: Iterable[int]) -> list[int]:
        taken = set(self.matches.values())
        return [number for number in before if number not in taken]

    def _free_before(self) -> list[int]:
        return self._free(range(len(self.before)))

    def free_now(self) -> list[int]:
        """Return the shots now that are not recognised yet."""
        return [n for n in range(len(self.now)) if n not in self.matches and n not in self.elsewhere]


def _until(numbers: Iterable[int], taken: set[int]) -> Iterator[int]:
    for number in numbers:
        if number in taken:
            return
        yield number


def _without_style(prompts: Sequence[str]) -> list[list[str]]:
    """Return the words of prompts without those that all begin or end with: a style that was added to each."""
    words = [prompt.split() for prompt in prompts]
    if len(words) < 2:
        return words
    shortest = min(len(one) for one in words)
    front = next((k for k in range(shortest) if len({one[k] for one in words}) > 1), shortest)
    back = next((k for k in range(shortest - front) if len({one[-1 - k] for one in words}) > 1), shortest - front)
    return [one[front : len(one) - back] for one in words]
