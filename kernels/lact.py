"""Learn from a large chunk of tokens in one step, readably: LaCT's fast weights, a SwiGLU that Muon updates.

Source: Test-Time Training Done Right (arXiv 2505.23884, section 3) and its public code (a1600012888/LaCT). Every head
has a network f(x) = (silu(x W1) * (x W3)) W2. A chunk takes one step on loss = -sum_i eta_i f(k_i) . v_i, all gradients
taken at the weights that it began with, and each of its queries is answered by the weights that it leaves:

    W <- scaled(W + orthogonalised(-d loss / d W))        o_i = f(q_i)

`orthogonalised` is Muon's: all singular values go to about 1. `scaled` gives what leads into a unit the length back
that it had at the start of the reading. So it does not matter how large a gradient is, and learning rates only weigh
the tokens of a chunk against each other. All of it is large products in the dtype of the tokens, on any device, and
differentiable; the weights are kept in float32. Where queries, keys and rates come from is not known here
(engine/ttt/lact.py).
"""

from typing import NamedTuple

import torch
from torch.nn import functional as F

# Of the polynomial a s + b s^3 + c s^5 of a singular value, iteration by iteration, as the public code has them.
COEFFICIENTS = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)
GRADIENT_EPS = 1e-7
LEAST_LENGTH = 1e-5
LEAST_VALUE = 1e-3  # values below this are not brought to 1, which would take their rates beyond float16


class FastWeights(NamedTuple):
    """The weights of f for each head: w1, w3 [B, H, D, M] and w2 [B, H, M, D], float32 or float64; or their lengths, of
    what leads into a unit: [B, H, 1, M] and [B, H, 1, D].
    """

    w1: torch.Tensor
    w2: torch.Tensor
    w3: torch.Tensor


def lengths_of(fast: FastWeights) -> FastWeights:
    """Return the length of what leads into each unit, which every step restores."""
    return FastWeights(*(torch.linalg.vector_norm(w, dim=-2, keepdim=True) for w in fast))


def read_chunk(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, rates: torch.Tensor, fast: FastWeights, lengths: FastWeights
) -> tuple[torch.Tensor, FastWeights]:
    """Learn from one chunk, then answer its queries. q, k, v [B, S, H, D], k of length one; rates [B, S, H, 3], above
    0: eta of a token for w1, w2 and w3; lengths: of the weights at the start of the reading.

    Returns out like q, and the weights after the chunk.
    """
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # [B, H, S, D]
    fast = learned(k, v, rates.transpose(1, 2), fast, lengths)
    return evaluated(q, fast).transpose(1, 2), fast


def evaluated(x: torch.Tensor, fast: FastWeights) -> torch.Tensor:
    """Return f(x) for x [B, H, S, D], like x."""
    w1, w2, w3 = (w.to(x.dtype) for w in fast)
    return (F.silu(x @ w1) * (x @ w3)) @ w2


def learned(
    k: torch.Tensor, v: torch.Tensor, rates: torch.Tensor, fast: FastWeights, lengths: FastWeights
) -> FastWeights:
    """Return the weights after one step on a chunk: k, v [B, H, S, D], rates [B, H, S, 3]."""
    w1, w2, w3 = (w.to(k.dtype) for w in fast)
    gate, up = k @ w1, k @ w3  # [B, H, S, M]
    open_ = gate.sigmoid()
    opened = gate * open_
    d_hidden = v @ w2.mT
    d_up, d_gate = d_hidden * opened, d_hidden * up * open_ * (1 + gate * (1 - open_))
    eta1, eta2, eta3 = _within_half(rates, v).split(1, -1)  # [B, H, S, 1]
    # The second step turned round, so that all three are of one shape and orthogonalised together.
    against = torch.stack([(k * eta1).mT @ d_gate, v.mT @ (opened * up * eta2), (k * eta3).mT @ d_up])
    step1, step2, step3 = orthogonalised(against)  # [3, B, H, D, M]
    return FastWeights(
        _scaled(fast.w1 + step1, lengths.w1),
        _scaled(fast.w2 + step2.mT, lengths.w2),
        _scaled(fast.w3 + step3, lengths.w3),
    )


def orthogonalised(x: torch.Tensor) -> torch.Tensor:
    """Return matrices with the singular vectors of x [..., rows, columns] and singular values of about 1, by five steps
    of Newton-Schulz in the dtype of x. Cheapest where rows are fewer than columns.
    """
    precise = torch.promote_types(x.dtype, torch.float32)
    size = torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True, dtype=precise)
    y = (x / (size + GRADIENT_EPS)).to(x.dtype).flatten(0, -3)
    for a, b, c in COEFFICIENTS:
        gram = y @ y.mT
        y = torch.baddbmm(y, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), y, beta=a)
    return y.view(x.shape)


def _within_half(rates: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Return rates in v's dtype, so scaled that sums of gradients stay within float16: the scale is lost when they are
    orthogonalised, so no gradient need flow through it.
    """
    with torch.no_grad():
        value = torch.linalg.vector_norm(v, float("inf"), dim=(-2, -1), keepdim=True).clamp(min=LEAST_VALUE)
        rate = rates.amax(-2, keepdim=True).clamp(min=torch.finfo(rates.dtype).tiny)  # [B, H, 1, 3]
    return (rates / rate / value).to(v.dtype)


def _scaled(w: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    now = torch.linalg.vector_norm(w, dim=-2, keepdim=True)
    return w * (length / now.clamp(min=LEAST_LENGTH))
