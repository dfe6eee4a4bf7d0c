"""Pages of the picture book: one to three things at a place, each with a movement, or one chasing or carrying another.

A superset of shape world (demo/world.py): its shapes are kinds like any other on its plain backgrounds, and drawn at 64
pixels they are its frames to the bit. Native pages have 96 pixels a side. Which combinations training never sees is a
rule in numbers (`held_out`). How pages are drawn at random stands in draws.py, their sentences in prompts.py. It knows
nothing about networks.
"""

from dataclasses import dataclass

import torch

from .. import world
from . import movements, scenes, sprites

SIDE = 96  # pixels, native
KINDS = (*world.SHAPES, *sprites.KINDS)
COATS = tuple(sprites.COATS)
SIZES = tuple(world.SIZES)

_KIND_NUMBER = {kind: i for i, kind in enumerate(KINDS)}
_COAT_NUMBER = {coat: i for i, coat in enumerate(COATS)}
_PLACE_NUMBER = {place: i for i, place in enumerate(scenes.PLACES)}
_MOVEMENT_NUMBER = {movement: i for i, movement in enumerate(movements.MOVEMENTS)}
_SHAPE_WORLD_HELD_OUT = frozenset(world.held_out_combinations())


@dataclass(frozen=True)
class Thing:
    """One object: words, and its centre (`x`, `y`) in pixels at the beginning (of a circle: the middle of the ring).

    `phase` 0..1 of a bounce, hop or round; `heading` -1 left, 1 right: where it goes or, when it goes nowhere, looks.
    """

    kind: str
    coat: str
    movement: str
    size: str = "big"
    x: float = 48.0
    y: float = 48.0
    phase: float = 0.0
    heading: int = 1

    @property
    def is_shape(self) -> bool:
        return self.kind in world.SHAPES

    @property
    def look(self) -> tuple[str, str, str]:
        """What makes it the same thing in another shot."""
        return self.kind, self.coat, self.size


@dataclass(frozen=True)
class Page:
    """What one shot shows. `verbs[i]` says what things[i] does to things[i + 1]; without verbs each moves by itself."""

    place: str
    things: tuple[Thing, ...]
    verbs: tuple[str, ...] = ()
    side: int = SIDE


def is_held_out(kind: str, coat: str, place: str, movement: str) -> bool:
    """Whether training never sees this combination: shape world's own 108 of 720, of all others one in seven."""
    if kind in world.SHAPES and place in world.BACKGROUNDS and movement in world.MOTIONS:
        return (kind, coat, place, movement) in _SHAPE_WORLD_HELD_OUT
    numbers = _KIND_NUMBER[kind], _COAT_NUMBER[coat], _PLACE_NUMBER[place], _MOVEMENT_NUMBER[movement]
    return sum(factor * number for factor, number in zip((1, 2, 3, 5), numbers, strict=True)) % 7 == 3


def is_relation_held_out(subject: str, verb: str, other: str) -> bool:
    """Whether training never sees this kind do this to that kind: one in seven."""
    return (2 * _KIND_NUMBER[subject] + 3 * _KIND_NUMBER[other] + movements.VERBS.index(verb)) % 7 == 0


def held_out(page: Page) -> bool:
    """Whether training never sees a page like this one, because of any of its things or relations."""
    pairs = zip(page.things, page.verbs, page.things[1:], strict=False)
    return any(is_held_out(t.kind, t.coat, page.place, t.movement) for t in page.things) or any(
        is_relation_held_out(a.kind, verb, b.kind) for a, verb, b in pairs
    )


def from_scene(scene: world.Scene) -> Page:
    """A scene of shape world as a page of 64 pixels, which `render` draws to the bit as that world does."""
    thing = Thing(scene.shape, scene.color, scene.motion, scene.size, scene.x, scene.y, scene.phase)
    return Page(scene.background, (thing,), side=world.SIZE_PIXELS)


def track(thing: Thing, frames: int, side: int) -> torch.Tensor:
    """The thing's centre in each pixel frame -> [frames, 2], pixels."""
    return movements.track(thing.movement, thing.x, thing.y, thing.phase, thing.heading, frames, side)


def render(page: Page, frames: int) -> torch.Tensor:
    """A page as video -> [F, 3, side, side] in 0..1; later things lie over earlier ones."""
    image = scenes.draw(page.place, page.side).expand(frames, -1, -1, -1)
    for thing in page.things:
        centres = track(thing, frames, page.side)
        if thing.is_shape:
            cover = shape_cover(thing.kind, centres, world.SIZES[thing.size], page.side)[:, None]  # [F, 1, H, W]
            image = image + cover * (torch.tensor(sprites.COATS[thing.coat]).view(1, 3, 1, 1) - image)
        else:
            rights = movements.faces_right(thing.movement, thing.phase, thing.heading, frames)
            image = image.clone()
            for frame, (x, y), right in zip(image, centres.tolist(), rights.tolist(), strict=True):
                paste(frame, *sprites.drawing(thing.kind, thing.coat, thing.size, right), x, y)
    return image


def shape_cover(kind: str, centres: torch.Tensor, radius: float, side: int) -> torch.Tensor:
    """How much of each pixel a flat shape covers: centres [F, 2] -> [F, side, side] in 0..1."""
    pixels = torch.arange(side, dtype=torch.float32) + 0.5
    dx = (pixels[None, :] - centres[:, :1])[:, None, :].expand(-1, side, -1)
    dy = (pixels[None, :] - centres[:, 1:])[:, :, None].expand(-1, -1, side)
    return (0.5 - world.signed_distance(kind, dx, dy, radius)).clamp(0, 1)


def paste(picture: torch.Tensor, colors: torch.Tensor, opacity: torch.Tensor, x: float, y: float) -> None:
    """Lay a drawing [3, S, S] with its opacity [1, S, S] over a picture [3, H, W] in place, its middle at (x, y).

    To the whole pixel; what lies outside of the picture is cut off.
    """
    size, (height, width) = colors.shape[-1], picture.shape[1:]
    left, top = round(x - size / 2), round(y - size / 2)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + size, width), min(top + size, height)
    if x0 >= x1 or y0 >= y1:
        return
    part = (slice(None), slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    under = picture[:, y0:y1, x0:x1]
    under.mul_(1 - opacity[part]).add_(colors[part])
