"""The places of the picture book: six scenes of few large areas, beside shape world's plain backgrounds.

A scene is drawn for any side in pixels, the same up to its size. No area has the colour of a coat (sprites.py), edges
are a pixel soft, and nothing is smaller than what a small VAE keeps.
"""

from functools import lru_cache

import torch

from .. import world

SCENES = ("meadow", "sea", "night", "room", "desert", "street")
PLACES = (*world.BACKGROUNDS, *SCENES)

Color = tuple[float, float, float]


@lru_cache(maxsize=64)
def draw(place: str, side: int) -> torch.Tensor:
    """A plain background or a scene -> [3, side, side] in 0..1. Raises ValueError for an unknown place."""
    if place in world.BACKGROUNDS:
        return torch.tensor(world.BACKGROUNDS[place]).view(3, 1, 1).expand(3, side, side).contiguous()
    if place not in SCENES:
        raise ValueError(f"unknown place {place!r}; known: {', '.join(PLACES)}")
    axis = (torch.arange(side) + 0.5) / side
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return _DRAWN[place](x, y, _Brush(side))


class _Brush:
    """Paints areas given by how far inside of them a point lies, as a share of the picture."""

    def __init__(self, side: int) -> None:
        self.side = side

    def fill(self, color: Color) -> torch.Tensor:
        return torch.tensor(color).view(3, 1, 1).expand(3, self.side, self.side)

    def paint(self, picture: torch.Tensor, color: Color, inside: torch.Tensor) -> torch.Tensor:
        cover = (inside * self.side + 0.5).clamp(0, 1)
        return picture + cover * (torch.tensor(color).view(3, 1, 1) - picture)


def _disc(x: torch.Tensor, y: torch.Tensor, at: tuple[float, float], radius: float) -> torch.Tensor:
    return radius - ((x - at[0]) ** 2 + (y - at[1]) ** 2).sqrt()


def _box(x: torch.Tensor, y: torch.Tensor, left: float, top: float, right: float, bottom: float) -> torch.Tensor:
    return torch.minimum(torch.minimum(x - left, right - x), torch.minimum(y - top, bottom - y))


def _meadow(x: torch.Tensor, y: torch.Tensor, brush: _Brush) -> torch.Tensor:
    picture = brush.fill((0.62, 0.86, 1.00))
    picture = brush.paint(picture, (0.55, 0.78, 0.45), y - 0.24 - 0.05 * torch.cos(8 * x))
    return brush.paint(picture, (0.70, 0.90, 0.52), y - 0.40 - 0.03 * torch.sin(6 * x))


def _sea(x: torch.Tensor, y: torch.Tensor, brush: _Brush) -> torch.Tensor:
    picture = brush.paint(brush.fill((0.80, 0.95, 0.98)), (0.25, 0.66, 0.78), y - 0.22)
    return brush.paint(picture, (0.12, 0.52, 0.66), y - 0.62 - 0.03 * torch.sin(12.6 * x))


def _night(x: torch.Tensor, y: torch.Tensor, brush: _Brush) -> torch.Tensor:
    picture = brush.paint(brush.fill((0.08, 0.08, 0.28)), (0.96, 0.94, 0.78), _disc(x, y, (0.80, 0.16), 0.09))
    return brush.paint(picture, (0.06, 0.16, 0.20), y - 0.72 - 0.05 * torch.sin(5 * x))


def _room(x: torch.Tensor, y: torch.Tensor, brush: _Brush) -> torch.Tensor:
    picture = brush.fill((0.95, 0.86, 0.80))
    picture = brush.paint(picture, (0.70, 0.45, 0.45), _box(x, y, 0.08, 0.06, 0.36, 0.30))
    picture = brush.paint(picture, (0.66, 0.88, 0.98), _box(x, y, 0.12, 0.10, 0.32, 0.26))
    return brush.paint(picture, (0.78, 0.58, 0.50), y - 0.66)


def _desert(x: torch.Tensor, y: torch.Tensor, brush: _Brush) -> torch.Tensor:
    picture = brush.paint(brush.fill((0.55, 0.80, 0.92)), (1.00, 0.97, 0.80), _disc(x, y, (0.20, 0.14), 0.08))
    picture = brush.paint(picture, (0.86, 0.68, 0.45), y - 0.30 + 0.10 * torch.sin(5 * x + 0.6))
    return brush.paint(picture, (0.96, 0.83, 0.60), y - 0.48 - 0.05 * torch.sin(5 * x))


def _street(x: torch.Tensor, y: torch.Tensor, brush: _Brush) -> torch.Tensor:
    picture = brush.fill((0.80, 0.92, 1.00))
    picture = brush.paint(picture, (0.78, 0.50, 0.44), _box(x, y, 0.04, 0.08, 0.40, 0.50))
    picture = brush.paint(picture, (0.90, 0.78, 0.60), _box(x, y, 0.46, 0.16, 0.96, 0.50))
    picture = brush.paint(picture, (0.56, 0.60, 0.62), y - 0.40)
    picture = brush.paint(picture, (0.34, 0.36, 0.42), y - 0.54)
    return brush.paint(picture, (0.92, 0.92, 0.88), torch.minimum(y - 0.93, 0.96 - y))


_DRAWN = {"meadow": _meadow, "sea": _sea, "night": _night, "room": _room, "desert": _desert, "street": _street}
