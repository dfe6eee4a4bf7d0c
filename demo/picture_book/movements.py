"""How things move in the picture book: shape world's movements, and others that stay in the picture for 3 s.

Shape world's own go 2 pixels, so one latent cell a latent frame; crossing, hopping, chasing and carrying go 1 pixel a
frame, which takes 49 frames from one side of 96 pixels to the other; circling comes back after 48 frames, in twelve
places, one each latent frame. Places are centres on the latent grid wherever a movement begins.
"""

import math
from functools import lru_cache

import torch

from .. import world

SLOW = 1.0  # pixels per frame
HOP_HEIGHT, HOP_FRAMES = 12.0, 16
ROUND_FRAMES = 48
HEADED = ("crosses", "hops")  # to the left or to the right
MOVEMENTS = (*world.MOTIONS, "crosses", "circles", "hops")
VERBS = ("chases", "carries")  # of one thing to another; both cross
MARGIN = 16  # pixels from a centre to the border, for drawings


def radii(side: int) -> tuple[float, float]:
    """Half the width and height of a circle's ring, in pixels."""
    return (24.0, 16.0) if side >= 96 else (12.0, 12.0)


def track(movement: str, x: float, y: float, phase: float, heading: int, frames: int, side: int) -> torch.Tensor:
    """The centre in each pixel frame -> [frames, 2], pixels.

    `x`, `y` is where it begins, of a circle the middle. `phase` 0..1 is of a bounce, a hop or a round. `heading` is -1
    to the left and 1 to the right. Raises ValueError for an unknown movement.
    """
    if movement in world.MOTIONS:
        return world.track(movement, x, y, phase, frames)
    t = torch.arange(frames, dtype=torch.float32)
    if movement == "circles":
        angle = 2 * math.pi * (t / ROUND_FRAMES + phase)
        across, down = radii(side)
        return torch.stack([x + across * angle.sin(), y - down * angle.cos()], -1)  # from the top, clockwise
    if movement not in HEADED:
        raise ValueError(f"unknown movement {movement!r}; known: {', '.join(MOVEMENTS)}")
    xs, ys = x + heading * SLOW * t, torch.full((frames,), float(y))
    if movement == "hops":
        ys = ys - HOP_HEIGHT * torch.sin(math.pi * (t / HOP_FRAMES + phase)).abs()
    return torch.stack([xs, ys], -1)


def faces_right(movement: str, phase: float, heading: int, frames: int) -> torch.Tensor:
    """Whether a thing with a front looks to the right in each frame, [frames] bool."""
    if movement == "circles":
        angle = 2 * math.pi * (torch.arange(frames) / ROUND_FRAMES + phase)
        return angle.cos() >= 0
    if movement in ("moves left", "moves right"):
        heading = 1 if movement == "moves right" else -1
    return torch.full((frames,), heading > 0)


@lru_cache(maxsize=4096)
def starts(movement: str, heading: int, frames: int, side: int, margin: int = MARGIN) -> tuple[tuple[int, int], ...]:
    """The grid's places (x, y) from which a movement stays `margin` pixels inside for as many frames; may be none."""
    grid = range(world.CELL * 2, side - world.CELL * 2 + 1, world.CELL)
    if movement == "circles":
        across, down = radii(side)
        return tuple(
            (x, y)
            for x in grid
            for y in grid
            if margin + across <= x <= side - margin - across and margin + down <= y <= side - margin - down
        )
    found = []
    for x in grid:
        for y in grid:
            path = track(movement, x, y, 0.5, heading, frames, side)
            if path.min() >= margin and path.max() <= side - margin:
                found.append((x, y))
    return tuple(found)
