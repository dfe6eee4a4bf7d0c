"""Tiles of a picture, for a decoder whose whole picture does not fit on the device: where they lie, and how they blend.

Sizes and overlap are those of core's VAE Decode (Tiled), 512 and 64 pixels, and of what core falls back to, 256 and
64; neighbours are mixed linearly over the overlap. Unlike core's, the last tile of a row is as wide as the others. What
a network does with the whole picture (attention, group norm) it does within a tile, so tiles change the picture.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

TILES = (512, 256)  # pixels
OVERLAP = 64  # pixels


@dataclass(frozen=True)
class Place:
    """This is where a tile lies in the latent picture: first row and column, rows and columns, rows of overlap."""

    row: int
    column: int
    rows: int
    columns: int
    overlap: int

    def of(self, latent: Tensor) -> Tensor:
        """[..., H, W] -> [..., rows, columns]."""
        return latent[..., self.row : self.row + self.rows, self.column : self.column + self.columns]

    def weights(self, height: int, width: int, scale: int) -> Tensor:
        """Return the tile's share in each of its pixels, not yet divided by the sum of all shares: [rows, columns]."""
        feather = self.overlap * scale
        down = _ramps(self.rows * scale, self.row > 0, self.row + self.rows < height, feather)
        across = _ramps(self.columns * scale, self.column > 0, self.column + self.columns < width, feather)
        return down[:, None] * across


def _ramps(length: int, before: bool, behind: bool, feather: int) -> Tensor:
    """Return 1 in the middle, and less towards a side that has a neighbour."""
    shares = torch.ones(length)
    ramp = torch.arange(1, feather + 1) / (feather + 1)
    if before:
        shares[:feather] *= ramp
    if behind:
        shares[length - feather :] *= ramp.flip(0)
    return shares


def places(height: int, width: int, tile: int | None, stride: int) -> list[Place]:
    """Return the tiles of a latent picture, one of its whole size without `tile`, the rows and columns of one."""
    if tile is None:
        return [Place(0, 0, height, width, 0)]
    overlap = max(1, OVERLAP // stride)
    starts = [_starts(size, tile, overlap) for size in (height, width)]
    rows, columns = min(tile, height), min(tile, width)
    return [Place(row, column, rows, columns, overlap) for row in starts[0] for column in starts[1]]


def _starts(size: int, tile: int, overlap: int) -> list[int]:
    if size <= tile:
        return [0]
    return [*range(0, size - tile, tile - overlap), size - tile]


def put_together(tiles: Iterable[Tensor | None], parts: list[Place], size: torch.Size) -> Tensor | None:
    """Blend tiles [1, c, f, rows, columns] to [1, c, f, height, width]; `size` is the latent's height and width.

    A decoder has as many frames ready in every tile, so None is returned when the tiles are None.
    """
    whole = total = None
    for pixels, place in zip(tiles, parts, strict=True):
        if pixels is None:
            continue
        scale = pixels.shape[-1] // place.columns
        shares = place.weights(size[0], size[1], scale).to(pixels.device)
        if whole is None:
            whole = pixels.new_zeros(*pixels.shape[:3], size[0] * scale, size[1] * scale, dtype=torch.float32)
            total = whole.new_zeros(whole.shape[3:])
        there = Place(*(scale * n for n in (place.row, place.column, place.rows, place.columns, place.overlap)))
        there.of(whole).add_(pixels * shares)
        there.of(total).add_(shares)
    return None if whole is None else whole.div_(total)
