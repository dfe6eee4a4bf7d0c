"""engine/rotary.py: turns add up, and a grid's axes turn their own channels."""

import pytest
import torch

from longreel.engine.rotary import grid_angles, time_frequencies, turn_pairs


def test_each_axis_turns_its_share_of_the_channels():
    height, width, channels = 2, 3, 32  # 4 pairs for the frame, 6 for the row, 6 for the column
    angles = grid_angles(torch.arange(4 * height * width), height, width, channels).view(4, height, width, -1)
    frame, row, column = angles.split([4, 6, 6], dim=-1)
    assert torch.equal(frame, frame[:, :1, :1].expand_as(frame))
    assert torch.equal(row, row[:1, :, :1].expand_as(row))
    assert torch.equal(column, column[:1, :1].expand_as(column))
    torch.testing.assert_close(frame[3, 0, 0], 3 * time_frequencies(8, 10000).float())
    torch.testing.assert_close(row[0, 1, 0], time_frequencies(12, 10000).float())
    torch.testing.assert_close(column[0, 0, 2], 2 * time_frequencies(12, 10000).float())


def test_position_0_turns_nothing():
    x = torch.randn(1, 2, 16)
    assert torch.equal(turn_pairs(x, grid_angles(torch.tensor([0]), 4, 5, 16)), x)


def test_turns_keep_lengths_and_add_up():
    x, angles = torch.randn(3, 7, 32), torch.randn(7, 16)
    once = turn_pairs(x, angles)
    torch.testing.assert_close(once.norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(turn_pairs(once, angles), turn_pairs(x, 2 * angles))


def test_a_head_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="24 channels do not divide"):
        grid_angles(torch.arange(4), 2, 2, 24)
