"""Move keys that stand at one time to another by rotating pairs of their channels (rotary positions).

Source: RoFormer (arXiv 2104.09864). A rotary position p rotates each pair of channels by p times the pair's frequency,
and rotations add up, so a rotated key is moved by n positions by a further rotation of n. Which channels carry time,
and how fast each pair rotates, is the network's matter (hosts/families/<family>.py); so is whether it has rotary
positions at all. `grid_angles` are those of CogVideoX and of TTT layers.
"""

import torch

from ..to_device import sent


def time_frequencies(channels: int, theta: float) -> torch.Tensor:
    """Return [channels / 2], the radians per position of the pairs of one axis: theta ** (-2 pair / channels)."""
    return theta ** -(torch.arange(0, channels, 2, dtype=torch.float64) / channels)


def grid_angles(positions: torch.Tensor, height: int, width: int, channels: int, theta: float = 10000) -> torch.Tensor:
    """Return the angles [S, channels / 2] of tokens on frames of height x width, in CogVideoX's share of the axes.

    A quarter of the channels rotates with the frame, three eighths with the row and three eighths with the column.
    `positions` [S] are counted frame by frame and row by row; position 0 rotates nothing. Raises ValueError where the
    channels do not divide so.
    """
    if channels % 16:
        raise ValueError(
            f"{channels} channels do not divide into a quarter and two three eighths of whole pairs; use "
            f"a multiple of 16"
        )
    axes = [
        (positions // (height * width), channels // 4),
        (positions // width % height, channels * 3 // 8),
        (positions % width, channels * 3 // 8),
    ]
    frequencies = [sent(time_frequencies(share, theta), positions, torch.float32) for _, share in axes]
    return torch.cat([place[:, None] * speeds for (place, _), speeds in zip(axes, frequencies, strict=True)], dim=1)


def rotate_pairs(x: torch.Tensor, angles: torch.Tensor, halves: bool = False) -> torch.Tensor:
    """Rotate the first A pairs of channels of x [..., D] by `angles` [..., A] radians, A <= D / 2; the others stay.

    Pair i is channels 2i and 2i + 1, or, with `halves`, channels i and D / 2 + i.
    """
    rest = x.shape[-1] // 2 - angles.shape[-1]
    angles = torch.nn.functional.pad(angles, (0, rest))
    cos, sin = sent(angles.cos(), x, torch.float32), sent(angles.sin(), x, torch.float32)
    pairs = x.float().unflatten(-1, (2, -1) if halves else (-1, 2))
    a, b = pairs.unbind(-2 if halves else -1)  # [..., D / 2]
    rotated = torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-2 if halves else -1)
    return rotated.flatten(-2).to(x.dtype)
