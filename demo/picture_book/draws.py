"""Draws pages of the picture book at random: kinds, coats, places, movements and sizes evenly, layouts without overlap.

Two and three things stand side by side and move up and down, lie above each other and move across, or one chases or
carries the next. Shapes stay on plain backgrounds, as in shape world; drawings are everywhere.
"""

import random
from dataclasses import replace

from .. import world
from . import movements, scenes, sprites
from .book import COATS, SIDE, SIZES, Page, Thing, held_out

NUMBERS = {SIDE: {1: 0.55, 2: 0.30, 3: 0.15}, world.SIZE_PIXELS: {1: 0.8, 2: 0.2}}  # things: share of the pages
SHAPES = 0.15  # share of the pages with one thing
RELATED = 0.4  # share of the pages with more
LONG_FRAMES = 49  # 3 s: 13 latent frames
UP_AND_DOWN = ("moves up", "moves down", "bounces", "stays still")
ACROSS = ("moves left", "moves right", "crosses", "stays still")
LANES = {(SIDE, 2): (24, 72), (SIDE, 3): (16, 48, 80), (world.SIZE_PIXELS, 2): (16, 48)}  # centres, pixels
FLOOR = 80  # of native pages: where a thing that jumps stands when another one lies above it, pixels
CARRIED_MARGIN = 12  # pixels from the top to the middle of what is carried
CHASE_MARGIN = 8  # pixels: a chase may begin and end half outside


def random_page(
    rng: random.Random, frames: int, *, side: int = SIDE, number: int | None = None, held_out_ones: bool = False
) -> Page:
    """A page whose things stay inside for `frames` pixel frames (1 to 49), and which is held out, or is not."""
    weights = NUMBERS[side]
    while True:
        things = number or rng.choices(list(weights), list(weights.values()))[0]
        page = _alone(rng, frames, side) if things == 1 else _together(rng, frames, side, things)
        if page is not None and held_out(page) == held_out_ones:
            return page


def next_page(page: Page, rng: random.Random, frames: int, *, same_place: float = 0.5, held_out_ones=False) -> Page:
    """Another page with a thing that looks as the first one of `page`, in another movement: what comes behind a cut."""
    look = page.things[0]
    while True:
        place = page.place if rng.random() < same_place else rng.choice(_places(look))
        thing = _placed(replace(look, movement=rng.choice(movements.MOVEMENTS)), rng, frames, page.side)
        if thing is None or thing.movement == look.movement:
            continue
        following = Page(place, (thing,), side=page.side)
        if held_out(following) == held_out_ones:
            return following


def random_look(rng: random.Random, kinds: tuple[str, ...] = sprites.KINDS) -> Thing:
    """A thing of one of these kinds, with any coat and size, that has no movement and no place yet."""
    kind = rng.choice(kinds)
    coats = tuple(world.COLORS) if kind in world.SHAPES else COATS
    return Thing(kind, rng.choice(coats), "stays still", rng.choice(SIZES))


def _places(thing: Thing) -> tuple[str, ...]:
    """Where the thing is seen: a gray drawing is not on gray."""
    places = tuple(world.BACKGROUNDS) if thing.is_shape else scenes.PLACES
    return tuple(place for place in places if place != thing.coat)


def _placed(thing: Thing, rng: random.Random, frames: int, side: int) -> Thing | None:
    """The thing somewhere from where its movement stays inside; None where there is no such place."""
    heading = rng.choice((-1, 1))
    margin = world.NEAR if thing.is_shape else movements.MARGIN
    starts = movements.starts(thing.movement, heading, frames, side, margin)
    if not starts:
        return None
    x, y = rng.choice(starts)
    phase = rng.randrange(12) / 12 if thing.movement == "circles" else rng.randrange(8) / 8
    return replace(thing, x=float(x), y=float(y), phase=phase, heading=heading)


def _alone(rng: random.Random, frames: int, side: int) -> Page | None:
    look = random_look(rng, world.SHAPES if rng.random() < SHAPES else sprites.KINDS)
    place = rng.choice(_places(look))
    if look.is_shape and side == world.SIZE_PIXELS and frames <= world.CLIP_FRAMES:
        motion = rng.choice(world.MOTIONS)
        starts = world.start_positions(motion, frames)
        x, y = rng.choice(starts)
        thing = replace(look, movement=motion, x=float(x), y=float(y), phase=rng.randrange(8) / 8)
    else:
        thing = _placed(replace(look, movement=rng.choice(movements.MOVEMENTS)), rng, frames, side)
    return Page(place, (thing,), side=side) if thing else None


def _together(rng: random.Random, frames: int, side: int, number: int) -> Page | None:
    looks = [random_look(rng) for _ in range(number)]
    if len({(t.kind, t.coat) for t in looks}) < number:
        return None
    place = rng.choice([place for place in scenes.PLACES if all(place != look.coat for look in looks)])
    if rng.random() < RELATED:
        return _related(rng, frames, side, place, looks)
    if number == 3 or side < SIDE:
        looks = [replace(t, size="small") for t in looks]
    upright = rng.random() < 0.5
    shared = rng.choice(UP_AND_DOWN if upright else ACROSS) if number == 3 and rng.random() < 0.5 else None
    things = []
    for i, (look, lane) in enumerate(zip(looks, LANES[side, number], strict=True)):
        lowest = i == number - 1
        choices = (
            UP_AND_DOWN
            if upright
            else ACROSS + (("bounces", "hops") if lowest and number == 2 and side == SIDE else ())
        )
        movement = shared or rng.choice(choices)
        thing = _in_lane(replace(look, movement=movement), rng, frames, side, lane, upright)
        if thing is None:
            return None
        things.append(thing)
    return Page(place, tuple(things), side=side)


def _in_lane(thing: Thing, rng: random.Random, frames: int, side: int, lane: int, upright: bool) -> Thing | None:
    heading = rng.choice((-1, 1))
    starts = movements.starts(thing.movement, heading, frames, side)
    if not upright and thing.movement in ("bounces", "hops"):
        lane = FLOOR
    along = sorted({y for _, y in starts} if upright else {x for x, _ in starts})
    if not along:
        return None
    at = float(rng.choice(along))
    x, y = (float(lane), at) if upright else (at, float(lane))
    return replace(thing, x=x, y=y, phase=rng.randrange(8) / 8, heading=heading)


def _related(rng: random.Random, frames: int, side: int, place: str, looks: list[Thing]) -> Page | None:
    """One chases the next, or carries it over its head, or the second of three carries the third."""
    heading = rng.choice((-1, 1))
    verbs = ("chases", "carries") if len(looks) == 3 else (rng.choice(movements.VERBS),)
    if verbs[-1] == "carries":
        looks = [*looks[:-1], replace(looks[-1], size="small")]
    ahead = gap(looks[0], looks[1])
    reach = movements.SLOW * (frames - 1) + (ahead if verbs[0] == "chases" else 0)
    margin = CHASE_MARGIN if verbs[0] == "chases" else movements.MARGIN
    grid = range(margin, side - margin + 1, world.CELL)
    starts = [x for x in grid if margin <= x + heading * reach <= side - margin]
    room = above(looks[-2].size) + CARRIED_MARGIN if verbs[-1] == "carries" else 0  # pixels for what is carried
    rows = [y for y in grid if max(side / 2 + 1, room) <= y <= side - movements.MARGIN]
    if not starts or not rows:
        return None
    x, y = float(rng.choice(starts)), float(rng.choice(rows))
    things = [replace(looks[0], movement="crosses", x=x, y=y, heading=heading)]
    for look, verb in zip(looks[1:], verbs, strict=True):
        before = things[-1]
        x, y = (x + heading * ahead, y) if verb == "chases" else (x, y - above(before.size))
        things.append(replace(look, movement="crosses", x=x, y=y, heading=heading))
    return Page(place, tuple(things), verbs, side)


def gap(chaser: Thing, chased: Thing) -> int:
    """Pixels between the middles of who chases and who is chased: whole latent cells, and they do not touch."""
    return 40 if chaser.size == chased.size == "big" else 32


def above(carrier_size: str) -> float:
    """Pixels from the middle of who carries up to the middle of the small thing that is carried: 4 between them."""
    return (sprites.SIDES[carrier_size] + sprites.SIDES["small"]) / 2 + 4
