"""engine/attention/rotary.py against rotation of complex numbers, and against rotary positions written out."""

import pytest
import torch

from longreel.engine.attention.rotary import grid_angles, rotate_pairs, time_frequencies


def sample(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def test_neighbouring_channels_rotate_as_complex_numbers():
    x, angles = sample(2, 3, 5, 8), torch.linspace(-4, 4, 4)
    rotated = torch.view_as_complex(x.unflatten(-1, (-1, 2))) * torch.polar(torch.ones(4), angles)
    assert torch.allclose(rotate_pairs(x, angles), torch.view_as_real(rotated).flatten(-2), atol=1e-6)


def test_halves_rotate_as_complex_numbers():
    x, angles = sample(2, 3, 5, 8), torch.linspace(-4, 4, 4)
    rotated = torch.complex(*x.chunk(2, dim=-1)) * torch.polar(torch.ones(4), angles)
    assert torch.allclose(
        rotate_pairs(x, angles, halves=True), torch.cat([rotated.real, rotated.imag], dim=-1), atol=1e-6
    )


def test_pairs_behind_the_last_angle_stay():
    x, angles = sample(1, 1, 4, 8), torch.tensor([1.0])
    assert torch.equal(rotate_pairs(x, angles)[..., 2:], x[..., 2:])
    stays = [1, 2, 3, 5, 6, 7]  # channels 0 and 4 are the first pair of halves
    assert torch.equal(rotate_pairs(x, angles, halves=True)[..., stays], x[..., stays])


def test_every_head_has_its_own_angles():
    x, angles = sample(2, 3, 5, 8), sample(3, 1, 4)
    for head in range(3):
        assert torch.equal(rotate_pairs(x, angles)[:, head], rotate_pairs(x[:, head], angles[head]))


def test_rotation_by_zero_changes_nothing_and_rotations_add_up():
    x, angles = sample(2, 2, 6, 16), torch.linspace(0.1, 2, 5)
    assert torch.equal(rotate_pairs(x, 0 * angles), x)
    assert torch.allclose(rotate_pairs(rotate_pairs(x, angles), 2 * angles), rotate_pairs(x, 3 * angles), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rotated_in_single_precision(dtype):
    x, angles = sample(1, 2, 6, 16).to(dtype), 1000 * torch.linspace(0.1, 2, 8, dtype=torch.float64)
    assert torch.equal(rotate_pairs(x, angles), rotate_pairs(x.float(), angles).to(dtype))


def test_rotated_keys_have_the_same_logits_as_keys_at_that_position():
    frequencies = time_frequencies(8, 10000.0)
    assert torch.allclose(frequencies, torch.tensor([1.0, 0.1, 0.01, 0.001], dtype=torch.float64))
    q, k = sample(1, 8), sample(1, 8).flip(-1)

    def logit(query_at: float, key_at: float) -> torch.Tensor:
        return (rotate_pairs(q, query_at * frequencies) * rotate_pairs(k, key_at * frequencies)).sum()

    assert torch.allclose(logit(3, 1), logit(10, 8), atol=1e-5)  # it is their distance that counts
    assert not torch.allclose(logit(3, 1), logit(3, 2), atol=1e-2)


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
    assert torch.equal(rotate_pairs(x, grid_angles(torch.tensor([0]), 4, 5, 16)), x)


def test_a_head_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="24 channels do not divide"):
        grid_angles(torch.arange(4), 2, 2, 24)
