"""engine/attention/eight_bit.py: how near 8 bits come."""

import pytest
import torch

from longreel.engine.attention.eight_bit import pack, unpack


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4])
def test_each_token_comes_back_within_a_254th_of_its_largest_channel(dtype, size):
    x = (torch.randn(2, 5, 3, 16, generator=torch.Generator().manual_seed(1)) * size).to(dtype)
    x[0, 0, 0] = 0
    packed, scale = pack(x)
    assert packed.dtype == torch.int8 and packed.shape == x.shape and scale.shape == (2, 5, 3, 1)
    back = unpack(packed, scale, dtype)
    largest = x.float().abs().amax(dim=-1, keepdim=True)
    rounding = torch.finfo(dtype).eps * 2
    assert back.dtype == dtype
    assert ((back.float() - x.float()).abs() <= largest * (1 / 254 + rounding) + torch.finfo(dtype).tiny).all()
    assert (back[0, 0, 0] == 0).all()


def test_no_token_is_measured_by_another_ones_channels():
    x = torch.ones(1, 2, 1, 4)
    x[:, 1] *= 1e4
    assert torch.equal(unpack(*pack(x), torch.float32), x)
