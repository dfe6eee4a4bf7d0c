"""Stories of the picture book: one thing over many segments, and prompts that leave out what only a memory can know.

As in shape world (demo/stories.py): in COAT and KIND the thing does something else in every segment, and its coat, or
what it is, is named in the first prompt alone; in RETURNS it leaves, another thing that is named in full stands in its
place for some segments, and then the first one is back without its coat. A segment is SEGMENT_FRAMES pixel frames and
shares its last one with the next, as in One-Minute Video Generation with Test-Time Training (arXiv 2504.05298,
section 3). Held-out combinations (book.py) are in no story. What a model makes of a story is not known here.
"""

import random
from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from ...engine.storyboard.board import Shot, Storyboard
from .. import world
from ..stories import SEGMENT_FRAMES, STEP_FRAMES, seen
from . import book, draws, movements, prompts
from .book import Page, Thing

COAT, KIND, RETURNS = "coat", "kind", "returns"
KINDS = (COAT, KIND, RETURNS)

TRAINING_KINDS = {COAT: 0.35, KIND: 0.3, RETURNS: 0.35}  # share of the training stories
SAID_AGAIN = 0.1  # share of the later prompts in training that do name what the kind leaves out
LEFT_OUT_TOO = {"kind": 0.1, "place": 0.15}  # share of the later prompts in training that leave it out as well
SIZE_SAID = 0.3  # share of the later prompts in training that name the size


@dataclass(frozen=True)
class Story:
    """pages: what each segment shows, one thing each. said: which attributes its prompt names."""

    kind: str
    pages: tuple[Page, ...]
    said: tuple[tuple[str, ...], ...]

    @property
    def unsaid(self) -> str:
        """The attribute that only the first prompt names."""
        return KIND if self.kind == KIND else COAT

    @property
    def asked(self) -> tuple[int, ...]:
        """Segments, counted from 0, that show the first thing and do not name the unsaid attribute; where another thing
        is seen, those behind it alone."""
        first = self.pages[0].things[0].look
        same = [page.things[0].look == first for page in self.pages]
        begin = 1 if all(same) else same.index(False)
        return tuple(i for i in range(begin, len(same)) if same[i] and self.unsaid not in self.said[i])

    @property
    def prompts(self) -> tuple[str, ...]:
        return tuple(prompts.fitting(page, said) for page, said in zip(self.pages, self.said, strict=True))

    def storyboard(self) -> Storyboard:
        """Shots of one second, one take."""
        side = self.pages[0].side
        shots = tuple(Shot(prompt, STEP_FRAMES / world.FRAMES_PER_SECOND) for prompt in self.prompts)
        return Storyboard(shots=shots, width=side, height=side, fps=float(world.FRAMES_PER_SECOND))

    def render(self) -> torch.Tensor:
        """[16 n + 1, 3, H, W] in 0..1; the frame that two segments share is the earlier one's."""
        parts = [book.render(page, SEGMENT_FRAMES) for page in self.pages]
        return torch.cat([parts[0]] + [part[1:] for part in parts[1:]])


def random_story(kind: str, segments: int, rng: random.Random, side: int = book.SIDE) -> Story:
    """The first prompt says everything, the later ones all but the size and what the kind leaves out.

    Raises ValueError for an unknown kind and fewer than one segment.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of story {kind!r}; use {', '.join(KINDS)}")
    if segments < 1:
        raise ValueError(f"a story has {segments} segments; use 1 or more")
    pages = _pages(kind, segments, rng, side)
    everything = (*prompts.ATTRIBUTES, "size")
    later = tuple(name for name in prompts.ATTRIBUTES if name != (KIND if kind == KIND else COAT))
    first = pages[0].things[0].look
    said = [everything if i == 0 or page.things[0].look != first else later for i, page in enumerate(pages)]
    return Story(kind, pages, tuple(said))


def training_story(segments: int, rng: random.Random, side: int = book.SIDE) -> Story:
    """A kind drawn by TRAINING_KINDS, with later prompts that say now more, now less."""
    kind = rng.choices(list(TRAINING_KINDS), list(TRAINING_KINDS.values()))[0]
    story = random_story(kind, segments, rng, side)
    return replace(story, said=(story.said[0], *(_loosened(story, i, rng) for i in range(1, segments))))


def _loosened(story: Story, number: int, rng: random.Random) -> tuple[str, ...]:
    """What the prompt of a later segment says in training."""
    wanted = set(story.said[number])
    if rng.random() < SAID_AGAIN:
        wanted.add(story.unsaid)
    # Of a thing that comes back, or is seen for the first time, the kind is what it is known by.
    kept = KIND if story.kind == RETURNS else ""
    said = [
        name
        for name in prompts.ATTRIBUTES
        if name in wanted and (name == kept or rng.random() >= LEFT_OUT_TOO.get(name, 0.0))
    ]
    return (*said, "size") if rng.random() < SIZE_SAID else tuple(said)


def _pages(kind: str, segments: int, rng: random.Random, side: int) -> tuple[Page, ...]:
    """Draw the first thing, then each next segment from where the last one ends; anew where there is no way on."""
    while True:
        first = draws.random_page(rng, SEGMENT_FRAMES, side=side, number=1)
        if first.things[0].is_shape:
            continue
        pages = [first]
        for there in (seen(segments, rng) if kind == RETURNS else [True] * segments)[1:]:
            last = pages[-1].things[0]
            look = first.things[0] if there else last if last.look != first.things[0].look else _other(first, rng)
            thing = _next(pages[-1], look, rng)
            if thing is None:
                break
            pages.append(Page(first.place, (thing,), side=side))
        if len(pages) == segments:
            return tuple(pages)


def _other(first: Page, rng: random.Random) -> Thing:
    """A thing of another kind and coat that is seen at the same place."""
    while True:
        other = draws.random_look(rng)
        if other.kind != first.things[0].kind and other.coat not in (first.things[0].coat, first.place):
            return other


def _next(last: Page, look: Thing, rng: random.Random) -> Thing | None:
    """`look` in another movement than `last`'s, from within a cell of where that ended; None where there is none."""
    before = last.things[0]
    x, y = book.track(before, SEGMENT_FRAMES, last.side)[-1].tolist()
    ways: dict[str, list[Thing]] = {}
    for way, (begin_x, begin_y) in _ways(last.side):
        near = max(abs(begin_x - x), abs(begin_y - y)) <= world.CELL
        if near and way.movement != before.movement:
            ways.setdefault(way.movement, []).append(way)
    open_to = [m for m in ways if not book.is_held_out(look.kind, look.coat, last.place, m)]
    if not open_to:
        return None
    way = rng.choice(ways[rng.choice(sorted(open_to))])
    return replace(way, kind=look.kind, coat=look.coat, size=look.size)


@lru_cache
def _ways(side: int) -> tuple[tuple[Thing, tuple[float, float]], ...]:
    """Every way to move that stays in a picture of that side for a segment, and where its first frame has it."""
    found = []
    for movement in movements.MOVEMENTS:
        for heading in (-1, 1):
            phases = range(12) if movement == "circles" else (0,)
            for x, y in movements.starts(movement, heading, SEGMENT_FRAMES, side):
                for phase in phases:
                    way = Thing("", "", movement, x=float(x), y=float(y), phase=phase / 12, heading=heading)
                    found.append((way, tuple(book.track(way, 1, side)[0].tolist())))
    return tuple(found)
