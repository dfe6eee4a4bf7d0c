"""Keep keys and values in 8 bits: int8, with one scale for each token of each head.

The largest of a token's channels becomes 127 and the others follow, so what is read back lies within a 254th of that
channel. (Absolute-maximum quantisation, as in LLM.int8(), arXiv 2208.07339, section 2.1, along the channels of a head.)
"""

import torch

LEVELS = 127


def pack(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (int8 of the shape of x, scales [..., 1] in float32) for x [..., D]."""
    scale = x.abs().amax(dim=-1, keepdim=True).float() / LEVELS
    scale = scale.clamp(min=torch.finfo(torch.float32).tiny)  # of a token that is all zero
    return (x / scale).round_().to(torch.int8), scale


def unpack(packed: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return what `pack` was given, [..., D], as near as 8 bits hold it."""
    return (packed * scale).to(dtype)
