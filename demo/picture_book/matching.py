"""Finds the things of the picture book in a frame: which drawing, in which coat, of which size, explains most of it.

Matching pursuit on what is not the place: laying a drawing P with opacity a over the known picture S of a place
changes the squared error of a frame I by |I - S|^2 - |I - S - (P - a S)|^2, its gain. Since P = base + gain * coat,
correlations with base, gain and opacity give that for every drawing, coat and position at once. The best is found at
half the resolution, told from its rivals at full resolution, laid over S, and the next one is searched, until nothing
explains enough.
"""

from dataclasses import dataclass, field
from functools import lru_cache

import torch
import torch.nn.functional as F

from .. import world
from . import book, sprites

EXPLAINED_LEAST = 0.5  # share of a drawing's own energy that it must explain to be there
ENERGY_LEAST = 6.0  # squared RGB distance, summed over pixels, that it must explain
RIVALS = 16  # drawings and coats that are compared at full resolution
NEAR, WORSE = 5, 0.04  # pixels that a thing moves between frames; share by which it may be explained less
REACH = 3  # pixels around the place found at half resolution
MOST = 5  # things that are searched for in a frame
SHAPE_CANVAS = {"small": 30, "big": 40}  # pixels
_COATS = torch.tensor(list(sprites.COATS.values()))  # [8, 3]
_SHAPE_COATS = len(world.COLORS)  # the first of them


@dataclass(frozen=True)
class Found:
    """One thing in one frame: its centre in pixels, the share of its energy that it explains, and its energy.

    fit: about 1 where nothing is left over of what it lies on, less by twice the share of its energy that is.
    """

    kind: str
    coat: str
    size: str
    faces_right: bool
    x: float
    y: float
    explained: float = 0.0
    energy: float = 0.0
    fit: float = 0.0

    @property
    def look(self) -> tuple[str, str, str]:
        return self.kind, self.coat, self.size


@dataclass(frozen=True)
class Bank:
    """Drawings of one size: `names` (kind, faces right), base [K, 3, S, S], gain and opacity [K, 1, S, S]."""

    size: str
    names: tuple[tuple[str, bool], ...]
    base: torch.Tensor
    gain: torch.Tensor
    opacity: torch.Tensor
    coats: int
    inside: dict = field(default_factory=dict)  # kept by _own

    @property
    def canvas(self) -> int:
        return self.base.shape[-1]

    def coated(self, number: int, coat: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Colours times opacity [3, S, S] and opacity [1, S, S] of one drawing."""
        return self.base[number] + self.gain[number] * _COATS[coat].view(3, 1, 1), self.opacity[number]

    def halved(self) -> "Bank":
        base, gain, opacity = (F.avg_pool2d(t, 2) for t in (self.base, self.gain, self.opacity))
        return Bank(self.size, self.names, base, gain, opacity, self.coats)


@lru_cache(maxsize=2)
def banks(shapes: bool) -> tuple[Bank, ...]:
    """All drawings, and with `shapes` the flat shapes, too."""
    made = []
    for size in book.SIZES:
        names = [(kind, right) for kind in sprites.KINDS for right in (False, True) if sprites.has_front(kind) or right]
        parts = [sprites.parts(kind, size, right) for kind, right in names]
        made.append(Bank(size, tuple(names), *(torch.stack(p) for p in zip(*parts, strict=True)), len(sprites.COATS)))
        if shapes:
            side = SHAPE_CANVAS[size]
            middle = torch.full((1, 2), side / 2)
            covers = [book.shape_cover(kind, middle, world.SIZES[size], side) for kind in world.SHAPES]
            cover = torch.stack(covers)  # [4, 1, S, S]
            none = torch.zeros(len(covers), 3, side, side)
            made.append(Bank(size, tuple((kind, True) for kind in world.SHAPES), none, cover, cover, _SHAPE_COATS))
    return tuple(made)


@lru_cache(maxsize=2)
def _half_banks(shapes: bool) -> tuple[Bank, ...]:
    return tuple(bank.halved() for bank in banks(shapes))


def scores(
    bank: Bank, away: torch.Tensor, under: torch.Tensor, inside: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gain and energy of every drawing, coat and position, each [coats, K, H - S + 1, W - S + 1].

    away: [3, H, W] frame minus what is known of it, under: [3, H, W] that, inside: [1, H, W] 1 where the picture is;
    beyond it all are 0. A position is that of a drawing's upper left corner.
    """
    own = _own(bank, inside)
    away, under = away[None], under[None]
    cross = F.conv2d(under, bank.base * bank.opacity)
    cross_gains = F.conv2d(under.transpose(0, 1), bank.gain * bank.opacity)  # [3, K, ...]: each colour by itself
    gains = F.conv2d(away.transpose(0, 1), bank.gain)
    dark = F.conv2d((away * under).sum(1, keepdim=True), bank.opacity)
    covered = F.conv2d(under.square().sum(1, keepdim=True), bank.opacity.square())
    coats = _COATS[: bank.coats].view(-1, 3, 1, 1, 1)
    drawn = own[0] + coats.square().sum(1) * own[1] + 2 * sum(coats[:, c] * own[2 + c] for c in range(3))  # |P|^2
    over = cross + (coats * cross_gains).sum(1)  # P.aS
    gain = 2 * (F.conv2d(away, bank.base) + (coats * gains).sum(1) + over) - 2 * dark - drawn - covered
    return gain, drawn - 2 * over + covered


def _own(bank: Bank, inside: torch.Tensor) -> list[torch.Tensor]:
    """What of |base|^2, |gain|^2 and base.gain of each colour lies inside of the picture, each [1, K, H', W']."""
    key = tuple(inside.shape)
    if key not in bank.inside or bank.inside[key][0] is not inside:
        products = [bank.base[:, c : c + 1] * bank.gain for c in range(3)]
        parts = (bank.base.square().sum(1, keepdim=True), bank.gain.square(), *products)
        bank.inside[key] = (inside, [F.conv2d(inside[None], part) for part in parts])
    return bank.inside[key][1]


@lru_cache(maxsize=16)
def _inside(height: int, width: int, pad: int) -> torch.Tensor:
    """[1, H + 2 pad, W + 2 pad]: 1 where the picture is. The same tensor each time, by which `_own` knows it."""
    return F.pad(torch.ones(1, height, width), (pad,) * 4)


def search(frame: torch.Tensor, known: torch.Tensor, shapes: bool, most: int = MOST) -> list[Found]:
    """Frame and place [3, H, W] in 0..1 -> the things in it, whatever they are, best explained first."""
    found: list[Found] = []
    known = known.clone()
    while len(found) < most:
        best = _best(frame, known, shapes)
        if best is None:
            break
        found.append(best)
        lay(known, best)
    return found


def lay(picture: torch.Tensor, thing: Found) -> None:
    """Draw a thing over a picture [3, H, W] in place."""
    bank, number = _drawing(thing.kind, thing.size, thing.faces_right)
    book.paste(picture, *bank.coated(number, book.COATS.index(thing.coat)), thing.x, thing.y)


def place_again(
    frame: torch.Tensor, known: torch.Tensor, looks: list[tuple[str, str, str]], before: list[Found | None]
) -> list[Found | None]:
    """Where things that are known to be in a clip lie in a frame, each at the place where it explains most.

    before: the things a frame ago, near which they are looked for first; None anywhere in the picture.
    """
    known, found = known.clone(), []
    for look, last in zip(looks, before, strict=True):
        thing = _place_one(frame, known, look, last)
        found.append(thing if _is_there(thing) else None)
        if found[-1] is not None:
            lay(known, thing)
    return found


def _is_there(thing: Found) -> bool:
    return thing.explained >= EXPLAINED_LEAST and thing.explained * thing.energy >= ENERGY_LEAST


def _drawing(kind: str, size: str, right: bool) -> tuple[Bank, int]:
    for bank in banks(True):
        for name in ((kind, right), (kind, True)):
            if bank.size == size and name in bank.names:
                return bank, bank.names.index(name)
    raise KeyError((kind, size))


def _best(frame: torch.Tensor, known: torch.Tensor, shapes: bool) -> Found | None:
    """The thing that explains most of what is not known yet."""
    half, half_known = F.avg_pool2d(frame[None], 2)[0], F.avg_pool2d(known[None], 2)[0]
    rivals: list[tuple[float, int, int, int, float, float]] = []
    for number, bank in enumerate(_half_banks(shapes)):
        pad = bank.canvas // 2  # as far as a drawing may reach beyond the picture
        away, under = (F.pad(t, (pad,) * 4) for t in (half - half_known, half_known))
        gain, _ = scores(bank, away, under, _inside(*half.shape[-2:], pad))
        top = gain.flatten(2).max(-1)  # [coats, K]
        width = gain.shape[-1]
        for value, index in zip(*top.values.flatten().topk(RIVALS), strict=True):
            coat, drawing = divmod(int(index), len(bank.names))
            row, column = divmod(int(top.indices[coat, drawing]), width)
            at = (column - pad) * 2.0 + bank.canvas, (row - pad) * 2.0 + bank.canvas  # the middle, in whole pixels
            rivals.append((float(value), number, drawing, coat, *at))
    compared = []
    for _, number, drawing, coat, x, y in sorted(rivals, reverse=True)[:RIVALS]:
        compared.append(_nearby(frame, known, banks(shapes)[number], drawing, coat, x, y))
    best = max(compared, key=lambda thing: thing.explained * thing.energy)
    return best if _is_there(best) else None


def _nearby(
    frame: torch.Tensor,
    known: torch.Tensor,
    bank: Bank,
    drawing: int,
    coat: int,
    x: float,
    y: float,
    reach: int = REACH,
) -> Found:
    """One drawing in one coat at the best place within `reach` pixels of (x, y)."""
    one = Bank(
        bank.size,
        (bank.names[drawing],),
        bank.coated(drawing, coat)[0][None],
        torch.zeros_like(bank.gain[:1]),
        bank.opacity[drawing : drawing + 1],
        1,
    )
    side, pad = bank.canvas, bank.canvas + reach
    left, top = round(x - side / 2) - reach, round(y - side / 2) - reach
    rows, columns = (slice(start + pad, start + pad + side + 2 * reach) for start in (top, left))
    seen = (frame - known, known, _inside(*frame.shape[-2:], 0))
    gain, energy = scores(one, *(F.pad(t, (pad,) * 4)[:, rows, columns] for t in seen))
    under_it = F.pad(seen[0].square().sum(0, keepdim=True), (pad,) * 4)[:, rows, columns]
    left_over = F.conv2d(under_it[None], one.opacity)[0, 0] - gain[0, 0]
    # Another thing's place can give more gain than its own, if that thing is more unlike what it lies on; and where the
    # drawing lies almost outside of the picture, there is little to be left over.
    fit = (energy[0, 0] - 2 * left_over) / (energy[0, 0] + 0.1 * energy.median())
    row, column = divmod(int(fit.argmax()), gain.shape[-1])
    there = max(float(energy[0, 0, row, column]), 1e-6)
    kind, right = bank.names[drawing]
    return Found(
        kind,
        book.COATS[coat],
        bank.size,
        right,
        left + column + side / 2,
        top + row + side / 2,
        float(gain[0, 0, row, column]) / there,
        there,
        float(fit[row, column]),
    )


def _place_one(frame: torch.Tensor, known: torch.Tensor, look: tuple[str, str, str], last: Found | None) -> Found:
    kind, coat, size = look
    rights = (False, True) if kind in sprites.KINDS and sprites.has_front(kind) else (True,)
    middle, everywhere = frame.shape[-1] / 2, frame.shape[-1] // 2
    tried: list[Found] = []
    # First as it was a frame ago, then turned round, then anywhere: what explains as well is not looked for further.
    first = sorted(rights, key=lambda right: last is not None and right != last.faces_right)
    ways = [(right, last.x, last.y, NEAR) for right in first] if last is not None else []
    for right, x, y, reach in ways + [(right, middle, middle, everywhere) for right in first]:
        if tried and last is not None and _fitting(tried).fit > last.fit - WORSE:
            break
        bank, number = _drawing(kind, size, right)
        tried.append(_nearby(frame, known, bank, number, book.COATS.index(coat), x, y, reach))
    return _fitting(tried)


def _fitting(things: list[Found]) -> Found:
    return max(things, key=lambda thing: thing.fit)


def cover(shares: torch.Tensor, thing: Found) -> None:
    """Raise [H, W], the share of each pixel that things cover, by one more thing, in place."""
    bank, number = _drawing(thing.kind, thing.size, thing.faces_right)
    opacity = bank.opacity[number]
    canvas = shares[None]
    book.paste(canvas, opacity, opacity, thing.x, thing.y)
