"""Tiles cover the picture, are all of one size, and blend back into it."""

import pytest
import torch

from longreel.hosts.video.tiles import OVERLAP, places, put_together


@pytest.mark.parametrize(("height", "width", "tile", "stride"), [(60, 106, 32, 8), (64, 20, 64, 8), (22, 38, 16, 32)])
def test_tiles_of_a_picture_are_the_picture_again(height: int, width: int, tile: int, stride: int):
    latent = torch.randn(1, 3, 2, height, width, generator=torch.Generator().manual_seed(1))
    parts = places(height, width, tile, stride)
    whole = latent.repeat_interleave(2, 3).repeat_interleave(2, 4)
    tiles = (part.of(latent).repeat_interleave(2, 3).repeat_interleave(2, 4) for part in parts)
    torch.testing.assert_close(put_together(tiles, parts, latent.shape[3:]), whole)
    assert {(part.rows, part.columns) for part in parts} == {(min(tile, height), min(tile, width))}
    assert (len(parts) == 1) == (height <= tile and width <= tile)


def test_neighbours_share_the_overlap_linearly():
    parts = places(32, 56, 32, 8)
    assert [(part.row, part.column, part.overlap) for part in parts] == [(0, 0, 8), (0, 24, 8)] and OVERLAP == 64
    tiles = [torch.full((1, 1, 1, 32, 32), value) for value in (0.0, 1.0)]
    row = put_together(iter(tiles), parts, torch.Size((32, 56)))[0, 0, 0, 5]
    torch.testing.assert_close(row, torch.cat([torch.zeros(24), torch.arange(1, 9) / 9, torch.ones(24)]))


def test_frames_that_no_tile_has_ready_are_none():
    parts = places(32, 56, 32, 8)
    assert put_together(iter([None, None]), parts, torch.Size((32, 56))) is None
