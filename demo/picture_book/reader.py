"""Reads a clip of the picture book back: which place, which things in which coats and sizes, how each moves, who chases
or carries whom, and which frames are broken.

The place is the one that most pixels show. The things are searched for (matching.py) in KEYFRAMES of the clip, which
vote; then each is found again in every frame, and every frame is held against the clip (page_check.py), so that a frame
in which a thing is doubled, torn, gone or another one is broken. A movement is the world's own track that lies nearest,
at the world's own pace. Whatever cannot be read is None, never a guess. It reads one shot: cut a clip where it is cut.
"""

import itertools
import math
from collections import Counter
from dataclasses import dataclass, field

import torch

from .. import world
from . import book, matching, movements, page_check, scenes

PLACE_NEAR = 0.16  # distance in RGB up to which a pixel is the place's
PLACE_LEAST = 0.3  # share of the pixels
KEYFRAMES = (0.1, 0.5, 0.9, 0.0, 0.3, 0.7, 1.0)  # of the clip; the last four where the first three differ
TRACK_PIXELS_MOST = 2.0  # root mean square distance from a movement's track
STILL_PIXELS = 1.0  # up to which a thing stays still
FRAMES_LEAST = 5  # for a movement
JUMPS = 0.15  # share of the frames that may lie anywhere
RELATED_PIXELS = 6.0  # from where a thing that is chased or carried ought to be


@dataclass(frozen=True)
class ThingRead:
    """One thing of a clip. `positions` [F, 2] in pixels, NaN where it is absent; `movement` None where unread."""

    kind: str
    coat: str
    size: str
    movement: str | None
    heading: int
    positions: torch.Tensor
    explained: float

    @property
    def present(self) -> torch.Tensor:
        return ~self.positions.isnan().any(1)


@dataclass(frozen=True)
class PageRead:
    """What a clip shows. `verbs` as those of a Page, with the things in that order; `faults` name -> [F] bool."""

    place: str | None
    things: tuple[ThingRead, ...]
    verbs: tuple[str, ...]
    broken: torch.Tensor
    faults: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def broken_picture(self) -> torch.Tensor:
        """[F] bool: `broken` but for where things are, which a change of prompt moves within a shot."""
        pictures = [fault for name, fault in self.faults.items() if name != "place"]
        return torch.stack(pictures).any(0) if pictures else self.broken

    def agrees(self, page: book.Page, size_said: bool = False) -> dict[str, bool]:
        """Attribute -> is it what the page shows? `movement` (who does what to whom, too) not for a single frame."""
        best: dict[str, bool] = {}
        for order in itertools.permutations(self.things):
            right = self._compared(page, order, size_said)
            if not best or sum(right.values()) > sum(best.values()):
                best = right
        best = best or self._compared(page, (), size_said)
        return {**best, "all": all(best.values())}

    def right_everywhere(self, page: book.Page, size_said: bool = False) -> bool:
        """Is every frame what the page shows: all attributes, and no frame broken?"""
        return self.agrees(page, size_said)["all"] and not bool(self.broken.any())

    def _compared(self, page: book.Page, order: tuple[ThingRead, ...], size_said: bool) -> dict[str, bool]:
        pairs = list(zip(order, page.things, strict=False))
        number = len(order) == len(page.things)
        right = {
            "place": self.place == page.place,
            "number": number,
            "kind": number and all(read.kind == thing.kind for read, thing in pairs),
            "coat": number and all(read.coat == thing.coat for read, thing in pairs),
        }
        if size_said:
            right["size"] = number and all(read.size == thing.size for read, thing in pairs)
        if len(self.broken) > 1:
            right["movement"] = number and all(read.movement == thing.movement for read, thing in pairs)
            if page.verbs:
                right["movement"] &= _verbs(order) == page.verbs
        return right


def read_page(video: torch.Tensor) -> PageRead:
    """Video [F, side, side, 3] in 0..1, 64 or 96 pixels a side -> what it shows.

    Raises ValueError for another shape.
    """
    if video.ndim != 4 or video.shape[1] != video.shape[2] or video.shape[3] != 3 or video.shape[0] == 0:
        raise ValueError(f"the reader reads square frames [F, side, side, 3], got {list(video.shape)}")
    if video.shape[1] not in (book.SIDE, world.SIZE_PIXELS):
        raise ValueError(f"the reader reads {book.SIDE} or {world.SIZE_PIXELS} pixels a side, got {video.shape[1]}")
    video = video.float().clamp(0, 1).cpu().permute(0, 3, 1, 2).contiguous()  # [F, 3, H, W]
    place = read_place(video)
    if place is None:
        return PageRead(None, (), (), torch.ones(len(video), dtype=torch.bool))
    looks = _looks(video, place)
    if not looks:
        return PageRead(place, (), (), torch.ones(len(video), dtype=torch.bool))
    return _read_things(video, place, looks)


def read_place(video: torch.Tensor) -> str | None:
    """[F, 3, H, W] -> the place that most pixels show, if those are enough."""
    shares = []
    for place in scenes.PLACES:
        away = (video - scenes.draw(place, video.shape[-1])).square().sum(1).sqrt()
        shares.append(float((away < PLACE_NEAR).float().mean()))
    best = max(range(len(shares)), key=shares.__getitem__)
    return scenes.PLACES[best] if shares[best] >= PLACE_LEAST else None


def _looks(video: torch.Tensor, place: str) -> list[tuple[str, str, str]]:
    """The clip's things, by the vote of its keyframes; of equal votes the better explained."""
    known = scenes.draw(place, video.shape[-1])
    votes: Counter[tuple] = Counter()
    quality: dict[tuple, float] = {}
    for keyframes in (KEYFRAMES[:3], KEYFRAMES[3:]):
        for number in sorted({round(share * (len(video) - 1)) for share in keyframes}):
            found = matching.search(video[number], known, place in world.BACKGROUNDS)
            key = tuple(sorted(thing.look for thing in found))
            votes[key] += 1
            quality[key] = quality.get(key, 0.0) + sum(thing.explained * thing.energy for thing in found)
        if len(votes) == 1:  # the first three agree
            break
    return list(max(votes, key=lambda key: (votes[key], quality[key])))


def _read_things(video: torch.Tensor, place: str, looks: list[tuple[str, str, str]]) -> PageRead:
    known, frames = scenes.draw(place, video.shape[-1]), len(video)
    positions = torch.full((frames, len(looks), 2), math.nan)
    explained = torch.full((frames, len(looks)), math.nan)
    drawn = known.expand(frames, -1, -1, -1).clone()
    cover = torch.zeros(frames, *video.shape[-2:])
    found: list[matching.Found | None] = [None] * len(looks)
    for frame in range(frames):
        found = matching.place_again(video[frame], known, looks, found)
        for number, thing in enumerate(found):
            if thing is not None:
                positions[frame, number] = torch.tensor([thing.x, thing.y])
                explained[frame, number] = thing.explained
                matching.lay(drawn[frame], thing)
                matching.cover(cover[frame], thing)
    moves = [read_movement(positions[:, number], video.shape[-1]) for number in range(len(looks))]
    things = [
        ThingRead(*look, moves[n][0], moves[n][1], positions[:, n], float(explained[:, n].nanmean()))
        for n, look in enumerate(looks)
    ]
    seen = page_check.Seen(known, drawn, cover, explained, positions, tuple(move[2] for move in moves))
    faults = page_check.faults(video, seen)
    things, verbs = _in_order(things)
    return PageRead(place, tuple(things), verbs, torch.stack(list(faults.values())).any(0), faults)


def read_movement(positions: torch.Tensor, side: int) -> tuple[str | None, int, torch.Tensor | None]:
    """Centres [F, 2], NaN where absent -> the nearest movement, its heading, and its track [F, 2] up to an offset."""
    seen = ~positions.isnan().any(1)
    if int(seen.sum()) < FRAMES_LEAST:
        return None, 1, None
    if _away(positions[seen]) <= STILL_PIXELS:
        return "stays still", 1, torch.zeros_like(positions)
    best: tuple[str | None, int, torch.Tensor | None] = (None, 1, None)
    nearest = TRACK_PIXELS_MOST
    for movement in movements.MOVEMENTS:
        phases = {"circles": 24, "bounces": 32, "hops": 32}.get(movement, 1)
        headings = (-1, 1) if movement in movements.HEADED else (1,)
        for heading, phase in itertools.product(headings, range(phases)):
            ideal = movements.track(movement, 0.0, 0.0, phase / phases, heading, len(positions), side)
            error = _away((positions - ideal)[seen])
            if error < nearest:
                best, nearest = (movement, heading, ideal), error
    return best


def _away(offsets: torch.Tensor) -> float:
    """Root mean square distance [n, 2] from the middle, pixels, of all but the JUMPS that lie farthest away."""
    squares = (offsets - offsets.median(0).values).square().sum(1).sort().values
    return float(squares[: max(1, round(len(squares) * (1 - JUMPS)))].mean().sqrt())


def _verbs(things: tuple[ThingRead, ...] | list[ThingRead]) -> tuple[str, ...]:
    """What each thing does to the next, as far as all of them do something."""
    verbs = []
    for one, other in itertools.pairwise(things):
        both = one.present & other.present
        if one.movement != "crosses" or other.movement != "crosses" or one.heading != other.heading or not both.any():
            return ()
        away = (other.positions - one.positions)[both].mean(0)
        ahead, up = float(away[0]) * one.heading, -float(away[1])
        if abs(up) < RELATED_PIXELS and ahead > 0:
            verbs.append("chases")
        elif abs(ahead) < RELATED_PIXELS and up > 0:
            verbs.append("carries")
        else:
            return ()
    return tuple(verbs)


def _in_order(things: list[ThingRead]) -> tuple[list[ThingRead], tuple[str, ...]]:
    """Things in the order in which each does something to the next, if there is one."""
    if len(things) > 1:
        for order in itertools.permutations(things):
            verbs = _verbs(order)
            if verbs and (len(verbs) == 1 or verbs == ("chases", "carries")):
                return list(order), verbs
    return things, ()
