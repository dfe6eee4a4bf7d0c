"""Judges every single frame of a clip of shape world: is it what the clip as a whole shows, or is it broken?

A clip's reading (demo/detector.py) says what it shows: a background, a colour, one shape of one size. Each frame is
held against that picture of it, with its outline where the frame's own object lies. Outside of the outline there has
to be the background, inside the colour; what is there instead is counted in pixels: a second object, splinters, a flash
of another background, noise (`stray`), and holes, tears and faded parts (`holes`). A band of BAND pixels around the
outline is free, because decoded frames are soft and their corners lumpy. Beside that: the object's shape and area
against the clip's, the softness of its outline against the clip's median, and its place against where its own movement
takes it (`place`), so that it can neither jump nor stall.

Thresholds were chosen on seeds 5000 to 6999 and are reported on others (tests/bench/yardsticks.py): clean clips are
rendered ones and such as went through the demo model's VAE and an h264 file. What is smaller than they are goes unseen
on purpose: a splinter of STRAY pixels, a jump of JUMP pixels. What every frame shows alike is not broken: it is the
reading's to say whether it is right.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from . import world

BAND = 2.5  # pixels on both sides of the outline that may be anything
OFF_BACKGROUND, OFF_COLOR = 0.2, 0.4  # distances in RGB from which a pixel is something else
STRAY, HOLES = 14, 12  # pixels
OBJECT = 20  # pixels of a connected part from which it counts as an object
SHAPE_MARGIN = 0.05, 0.12  # how much better another shape overlaps with the object: in two frames in a row, in one
OVERLAP_LOSS = 0.1, 0.18  # how much worse the clip's shape does than in the median frame: the same
AREA = 1.3  # ratio to the clip's median area, up or down
SOFT = 1.6, 30  # ratio to the clip's median number of soft pixels, and how many more there must be
JUMP = 4.0  # pixels that a step differs from both neighbouring ones
ASTRAY = 3.5  # pixels away from where the clip's movement takes the object
STEADY = 0.2  # pixels per frame by which a movement's steps may differ where a stall is looked for: no bounce
STALL = 1.2  # pixels per frame by which two steps in a row fall short of a movement


@dataclass(frozen=True)
class Seen:
    """What the detector found in a clip of F frames, for its K templates (shape, size, scale).

    `overlaps` [F, K] and `places` [F, K, 2] of each template, `mask` [F, H, W] the object's soft mask, `best` the
    clip's template, `present` [F] bool, `positions` [F, 2], `ideal` [F, 2] the movement's track (None: no movement was
    read), up to an offset.
    """

    background: str
    color: str
    templates: list[tuple[str, str, float]]
    overlaps: torch.Tensor
    places: torch.Tensor
    mask: torch.Tensor
    best: int
    present: torch.Tensor
    positions: torch.Tensor
    ideal: torch.Tensor | None


def measures(video: torch.Tensor, seen: Seen) -> dict[str, torch.Tensor]:
    """Video [F, H, W, 3], 0..1 -> what `faults` compares with its thresholds, of the picture, each [F]."""
    shape, size, scale = seen.templates[seen.best]
    centres, radius = seen.places[:, seen.best], world.SIZES[size] * scale
    axis = torch.arange(world.SIZE_PIXELS) + 0.5
    dx = (axis[None, None, :] - centres[:, 0, None, None]).expand_as(seen.mask)
    dy = (axis[None, :, None] - centres[:, 1, None, None]).expand_as(seen.mask)
    away = world.signed_distance(shape, dx, dy, radius)  # [F, H, W], negative inside
    strange = (video - torch.tensor(world.BACKGROUNDS[seen.background])).square().sum(-1).sqrt() > OFF_BACKGROUND
    other = (video - torch.tensor(world.COLORS[seen.color])).square().sum(-1).sqrt() > OFF_COLOR
    expected = (0.5 - away).clamp(0, 1).sum((1, 2)).clamp(min=1)
    area = seen.mask.sum((1, 2)) / expected
    by_shape = torch.stack(
        [seen.overlaps[:, [k for k, t in enumerate(seen.templates) if t[0] == s]].amax(1) for s in world.SHAPES], 1
    )  # [F, 4]
    own = by_shape[:, world.SHAPES.index(shape)]
    others = by_shape.clone()
    others[:, world.SHAPES.index(shape)] = 0
    there = seen.present
    soft = ((seen.mask > 0.2) & (seen.mask < 0.8)).sum((1, 2)).float()
    return {
        "stray": (strange & (away > BAND)).sum((1, 2)).float(),
        "holes": (other & (away < -BAND)).sum((1, 2)).float(),
        "shape": others.amax(1) - own,
        "outline": own[there].median() - own,
        "area": area / area[there].median(),
        "soft": soft / soft[there].median().clamp(min=1),
        "soft_pixels": soft - soft[there].median(),
    }


def places(seen: Seen, broken: torch.Tensor) -> dict[str, torch.Tensor]:
    """As `measures`, of the object's place; frames whose picture is `broken` [F] have none."""
    positions = seen.positions.clone()
    positions[broken] = torch.nan
    return {
        "jump": _jumps(positions),
        "astray": _astray(positions, seen.ideal),
        "stall": _stalls(positions, seen.ideal),
    }


def faults(video: torch.Tensor, seen: Seen) -> dict[str, torch.Tensor]:
    """Video [F, H, W, 3], 0..1 -> what is wrong -> [F] bool."""
    found = measures(video, seen)
    picture = {
        "absent": ~seen.present,
        "stray": found["stray"] > STRAY,
        "holes": found["holes"] > HOLES,
        "shape": _lasting(found["shape"], *SHAPE_MARGIN),
        "outline": _lasting(found["outline"], *OVERLAP_LOSS),
        "size": (found["area"] > AREA) | (found["area"] < 1 / AREA),
        "soft": (found["soft"] > SOFT[0]) & (found["soft_pixels"] > SOFT[1]),
    }
    place = places(seen, torch.stack(list(picture.values())).any(0))
    return {**picture, "place": (place["jump"] > JUMP) | (place["astray"] > ASTRAY) | (place["stall"] > STALL)}


def _lasting(values: torch.Tensor, two: float, one: float) -> torch.Tensor:
    """Values [F] -> above `one`, or above `two` together with a neighbour: a VAE blurs single frames of a fast turn."""
    above = F.pad(values > two, (1, 1))
    return (values > one) | (above[1:-1] & (above[:-2] | above[2:]))


def count_objects(video: torch.Tensor, background: str) -> torch.Tensor:
    """Connected parts of at least OBJECT pixels that are not the background, per frame, [F] int."""
    strange = (video - torch.tensor(world.BACKGROUNDS[background])).square().sum(-1).sqrt() > OFF_BACKGROUND
    numbers = torch.arange(1, strange[0].numel() + 1, dtype=torch.float32).view(1, 1, *strange.shape[1:])
    labels = numbers * strange[:, None]  # every pixel takes the largest number that its part has
    while True:
        spread = F.max_pool2d(labels, 3, 1, 1) * strange[:, None]
        if torch.equal(spread, labels):
            break
        labels = spread
    counts = [(torch.bincount(frame[frame > 0].long()) >= OBJECT).sum() for frame in labels.flatten(1)]
    return torch.stack(counts).int()


def _jumps(positions: torch.Tensor) -> torch.Tensor:
    """How far each frame's step, [F], differs from both the one before it and the one behind it; 0 where unknown."""
    found = torch.zeros(len(positions))
    steps = positions[1:] - positions[:-1]
    if len(steps) < 3:
        return found
    change = (steps[1:] - steps[:-1]).norm(dim=1).nan_to_num(0.0)  # [F - 2]
    both = torch.minimum(F.pad(change, (1, 0), value=torch.inf), F.pad(change, (0, 1), value=torch.inf))
    both[[0, -1]] = torch.tensor([float(change[0]), float(change[-1])])
    found[1:] = both
    return found


def _astray(positions: torch.Tensor, ideal: torch.Tensor | None) -> torch.Tensor:
    if ideal is None:
        return torch.zeros(len(positions))
    away = positions - ideal
    return (away - away.nanmedian(0).values).norm(dim=1).nan_to_num(0.0)


def _stalls(positions: torch.Tensor, ideal: torch.Tensor | None) -> torch.Tensor:
    """How much both of two steps in a row, up to a frame, fall short of the movement's, pixels per frame, [F]."""
    found = torch.zeros(len(positions))
    if ideal is None or len(positions) < 3:
        return found
    asked, done = ideal[1:] - ideal[:-1], positions[1:] - positions[:-1]
    length = asked.norm(dim=1)
    short = (length - (done * asked).sum(1) / length.clamp(min=1e-6)).nan_to_num(0.0)
    if float((asked[1:] - asked[:-1]).norm(dim=1).max()) > STEADY:
        return found
    short = short * (length > 1.0)
    found[2:] = torch.minimum(short[1:], short[:-1])
    return found
