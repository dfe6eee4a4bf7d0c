"""Compute TTT-Linear and TTT-MLP in the dual form, as the paper's PyTorch code publishes them, for comparison.

Source: arXiv 2504.05298 and arXiv 2407.04620, section 2.5. The updated weights are never formed for the read-out; their
effect is written as an attention over the chunk. Here eta is a whole matrix: row i holds the learning rates that token
i reads with, and the last row is the one that the weights keep. Where all rows of a chunk are equal the result is that
of reference.py, for fewer products there. It differs where a segment's length is no multiple of the chunk, because the
public code then mixes rows of several chunks. Trained weights saw the last row everywhere, so no layer uses this form.
"""

import torch

from .inner_loss import gelu, gelu_gradient, layer_norm, loss_gradient
from .state import State


def scan_dual(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    eta: torch.Tensor,
    ln_weight: torch.Tensor,
    ln_bias: torch.Tensor,
    state: State,
    eps: float = 1e-8,
) -> tuple[torch.Tensor, State]:
    """Scan in the dual form: q, k, v [B, L, H, D] in the order of the scan, eta [B, H, L / K, K, K] (row: reading
    token, column: learned token, already divided by K), ln_weight, ln_bias [H, D] -> out [B, L, H, D], state. eps is
    the published code's.
    """
    chunks, K = eta.shape[2:4]
    if q.shape[1] != chunks * K:
        raise ValueError(f"{q.shape[1]} tokens are not {chunks} chunks of {K}; the dual form has no tail: pad them")
    gamma, beta = ln_weight[:, None], ln_bias[:, None]  # [H, 1, D]
    outs = []
    for i, rows in enumerate(zip(*(x.split(K, 1) for x in (q, k, v)), strict=True)):
        XQ, XK, XV = (x.transpose(1, 2).contiguous() for x in rows)  # [B, H, K, D]
        z, state = _chunk(XQ, XK, XV, eta[:, :, i], gamma, beta, state, eps)
        outs.append((XQ + layer_norm(z, gamma, beta, eps)).transpose(1, 2))
    return torch.cat(outs, 1), state


def _chunk(
    XQ: torch.Tensor,
    XK: torch.Tensor,
    XV: torch.Tensor,
    eta: torch.Tensor,
    gamma: torch.Tensor,
    beta: torch.Tensor,
    state: State,
    eps: float,
) -> tuple[torch.Tensor, State]:
    """Learn and read one chunk: XQ, XK, XV [B, H, K, D], eta [B, H, K, K] -> f(XQ) [B, H, K, D] before its LayerNorm,
    state.
    """
    W1, b1, W2, b2 = state.W1, state.b1, state.W2, state.b2
    last = eta[:, :, -1, :, None]  # [B, H, K, 1]
    Z1 = XK @ W1 + b1
    if W2 is None or b2 is None:
        G1 = loss_gradient(Z1, XV - XK, gamma, beta, eps)
        Z1_bar = XQ @ W1 - (eta * (XQ @ XK.mT)) @ G1 + (b1 - eta @ G1)
        return Z1_bar, State(W1 - (last * XK).mT @ G1, b1 - (last * G1).sum(-2, keepdim=True))
    X2 = gelu(Z1)
    G2 = loss_gradient(X2 @ W2 + b2, XV - XK, gamma, beta, eps)
    G1 = gelu_gradient(G2 @ W2.mT, Z1)
    X2_bar = gelu(XQ @ W1 - (eta * (XQ @ XK.mT)) @ G1 + (b1 - eta @ G1))  # [B, H, K, M]
    Z2_bar = X2_bar @ W2 - (eta * (X2_bar @ X2.mT)) @ G2 + (b2 - eta @ G2)
    return Z2_bar, State(
        W1 - (last * XK).mT @ G1,
        b1 - (last * G1).sum(-2, keepdim=True),
        W2 - (last * X2).mT @ G2,
        b2 - (last * G2).sum(-2, keepdim=True),
    )
