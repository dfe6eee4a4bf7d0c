"""Compute the inner loss of a TTT layer and its gradient: what one token asks of the fast weights.

Source: arXiv 2504.05298, section 3; formulas of the public code. A token's key k should lead to its target v:
loss = 1/2 || LN(f(k)) - (v - k) ||^2, with one LayerNorm (gamma, beta) per head that the inner loop does not change.
What f is, and how far a step goes, is not known here.
"""

import torch
import torch.nn.functional as F


def layer_norm(z: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor, eps: float) -> torch.Tensor:
    """Return LN over the last axis with biased variance; gamma, beta [..., 1, D] broadcast to z [..., K, D]."""
    return F.layer_norm(z, z.shape[-1:], eps=eps) * gamma + beta


def loss_gradient(
    z: torch.Tensor, target: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor, eps: float
) -> torch.Tensor:
    """Return the gradient d / d z of the loss 1/2 || LN(z) - target ||^2 of each token: z, target [..., K, D] -> [...,
    K, D].
    """
    centred = z - z.mean(-1, keepdim=True)
    s = (centred.square().mean(-1, keepdim=True) + eps).sqrt()  # torch.var is ten times slower on a CPU
    xh = centred / s
    u = gamma * (gamma * xh + beta - target)
    return (u - u.mean(-1, keepdim=True) - xh * (u * xh).mean(-1, keepdim=True)) / s


def gelu(z: torch.Tensor) -> torch.Tensor:
    """Return the tanh form of gelu, as the published networks use it."""
    return F.gelu(z, approximate="tanh")


def gelu_gradient(above: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """Return `above` * gelu'(z), the gradient below a gelu from that above it."""
    return torch.ops.aten.gelu_backward(above, z, approximate="tanh")
