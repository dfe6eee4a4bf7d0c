"""Define TTT-Linear and TTT-MLP readably: the fast kernels are held to this.

Source: arXiv 2504.05298, section 3, in the primal form of its GPU kernels. A chunk of K tokens takes its gradients at
the weights of the chunk's start, makes one step of gradient descent, and reads out with the new weights: every token
sees its whole chunk and all chunks before. Each token has one learning rate (the last row of the published eta matrix;
reference_dual.py has the whole matrix).

Any device, any dtype of q, k, v, and differentiable, second derivatives of the inner loss included. Checkpoints keep
the weights between groups of chunks alone and recompute the rest in the backward pass. This file knows nothing of
projections, rotary positions, segments, or which backend a scan should use.
"""

from dataclasses import replace

import torch
from torch.utils.checkpoint import checkpoint

from .inner_loss import gelu, gelu_gradient, layer_norm, loss_gradient
from .inputs import ScanInputs
from .state import State


def scan(inputs: ScanInputs, checkpoint_every: int) -> tuple[torch.Tensor, State]:
    """Pass over the tokens once, as kernels.scan describes it. checkpoint_every: chunks per group, 0 for none."""
    q, index, state = inputs.q, inputs.index, inputs.state
    # One gather before the loop: gathering in it would cost the backward pass a whole sequence of zeros per chunk.
    rows = [x if index is None else x.index_select(1, index) for x in (q, inputs.k, inputs.v, inputs.eta)]
    group = inputs.chunk * checkpoint_every if checkpoint_every and inputs.needs_grad() else max(1, rows[0].shape[1])
    outs = []
    for XQ, XK, XV, lr in zip(*(x.split(group, 1) for x in rows), strict=True):
        part = replace(inputs, q=XQ, k=XK, v=XV, eta=lr, index=None, state=state)
        if group < rows[0].shape[1]:
            # Nothing in a scan is random, so the random state need not be kept.
            out, state = checkpoint(_scan_group, part, use_reentrant=False, preserve_rng_state=False)
        else:
            out, state = _scan_group(part)
        outs.append(out)
    out = torch.cat(outs, 1)
    if index is not None:
        out = torch.zeros_like(q).index_copy(1, index.long(), out)
    return out, state


def _scan_group(inputs: ScanInputs) -> tuple[torch.Tensor, State]:
    """Scan tokens that stand in the order of the scan -> out [B, L, H, D], state."""
    state, dtype = inputs.state, inputs.state.W1.dtype
    gamma, beta = (x.to(dtype)[:, None] for x in (inputs.ln_weight, inputs.ln_bias))  # [H, 1, D]
    tokens = (inputs.q, inputs.k, inputs.v, inputs.eta[..., None])
    outs = []
    for rows in zip(*(x.split(inputs.chunk, 1) for x in tokens), strict=True):
        XQ, XK, XV, lr = (x.transpose(1, 2).to(dtype).contiguous() for x in rows)  # [B, H, K, D], lr [B, H, K, 1]
        state = learn(XK, XV, lr, gamma, beta, state, inputs.eps)
        out = XQ + layer_norm(_f(XQ, state), gamma, beta, inputs.eps)
        outs.append(out.transpose(1, 2).to(inputs.q.dtype))
    return torch.cat(outs, 1), state


def learn(
    XK: torch.Tensor,
    XV: torch.Tensor,
    eta: torch.Tensor,
    gamma: torch.Tensor,
    beta: torch.Tensor,
    state: State,
    eps: float,
) -> State:
    """Take one step of gradient descent on the summed loss of a chunk: XK, XV [B, H, K, D], eta [B, H, K, 1]."""
    W1, b1, W2, b2 = state.W1, state.b1, state.W2, state.b2
    Z1 = XK @ W1 + b1  # [B, H, K, M]
    # The learning rate goes into the topmost gradient: all below are linear in it.
    if W2 is None or b2 is None:
        G1 = eta * loss_gradient(Z1, XV - XK, gamma, beta, eps)
        return State(_minus_product(W1, XK.mT, G1), b1 - G1.sum(-2, keepdim=True))
    X2 = gelu(Z1)
    G2 = eta * loss_gradient(X2 @ W2 + b2, XV - XK, gamma, beta, eps)  # [B, H, K, D]
    G1 = gelu_gradient(G2 @ W2.mT, Z1)  # at the chunk's first W2
    return State(
        _minus_product(W1, XK.mT, G1),
        b1 - G1.sum(-2, keepdim=True),
        _minus_product(W2, X2.mT, G2),
        b2 - G2.sum(-2, keepdim=True),
    )


def _minus_product(W: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return W - a @ b, all [B, H, ...], without a second array of W's size."""
    return torch.baddbmm(W.flatten(0, 1), a.flatten(0, 1), b.flatten(0, 1), alpha=-1).view(W.shape)


def _f(x: torch.Tensor, state: State) -> torch.Tensor:
    """Evaluate the inner network: x [B, H, K, D] -> [B, H, K, D]."""
    Z1 = x @ state.W1 + state.b1
    return Z1 if state.W2 is None or state.b2 is None else gelu(Z1) @ state.W2 + state.b2
