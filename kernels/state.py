"""Hold the fast weights of a TTT layer, which one scan hands to the next.

Source: arXiv 2504.05298, section 3. TTT-Linear is f(x) = x W1 + b1, TTT-MLP f(x) = gelu(x W1 + b1) W2 + b2 with a
hidden width of 4 D. Every head of every video has its own. Where they come from (the learned start, or the slab of
tokens before) is not known here.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class State:
    """The fast weights are W1 [B, H, D, M], b1 [B, H, 1, M] and, for the MLP, W2 [B, H, M, D], b2 [B, H, 1, D]; for
    TTT-Linear M = D and W2, b2 are None. float32, or float64 to check gradients: in bfloat16 the updates would be
    rounded away. They are never written in place.
    """

    W1: torch.Tensor
    b1: torch.Tensor
    W2: torch.Tensor | None = None
    b2: torch.Tensor | None = None

    @property
    def is_mlp(self) -> bool:
        return self.W2 is not None

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """Return (W1, b1) or (W1, b1, W2, b2)."""
        return tuple(x for x in (self.W1, self.b1, self.W2, self.b2) if x is not None)
