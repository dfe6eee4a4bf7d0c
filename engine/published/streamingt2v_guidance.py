"""Guidance as StreamingT2V's first enhancer gives it: its contrast pulled back towards the positive prediction's.

Source: the public code of StreamingT2V (arXiv 2403.14773), MS-Vid2Vid-XL; the rescaling is arXiv 2305.08891, section
3.4. In a graph guidance is the guider's own. How predictions are made is not known here.
"""

import torch

from ..sampling.alpha_space import guide

GUIDANCE = 7.5
RESCALE = 0.2


def rescaled_guidance(
    negative: torch.Tensor, positive: torch.Tensor, scale: float = GUIDANCE, rescale: float = RESCALE
) -> torch.Tensor:
    """Return guidance whose contrast is pulled back towards the positive prediction's, over the whole chunk.

    negative, positive: [B, ...] predictions. rescale: 0 leaves plain guidance, 1 takes the positive one's spread.
    """
    guided = guide(negative, positive, scale)
    axes = tuple(range(1, guided.ndim))
    spread = positive.std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True)
    return guided * (rescale * spread + (1 - rescale))
