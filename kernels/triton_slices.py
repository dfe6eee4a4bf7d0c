"""Provide the pieces of the TTT-MLP kernels: rows of the hidden axis loaded, stored, computed, updated; a chunk's step.

Formulas: arXiv 2504.05298, section 3, in the primal form of reference.py. A slice is S rows of the hidden axis of one
head: W1 transposed [S, D], b1 [S] and W2 [S, D] in float32, so that the accumulators of the updates are the left
operands of the next products. How many slices there are, and where they stay between two chunks, is not known here.
"""

import triton
import triton.language as tl

from .triton_gelu import gelu, gelu_and_slope
from .triton_tiles import load_rates, load_rows, loss_gradient, product, step, step_of_bias


@triton.jit
def load_slice(W1_ptr, b1_ptr, W2_ptr, program, hidden, M: tl.constexpr, D: tl.constexpr):
    """Load rows `hidden` of W1 transposed, b1 and W2."""
    d = tl.arange(0, D)[None, :]
    W1 = tl.load(W1_ptr + program * D * M + d * M + hidden[:, None])
    b1 = tl.load(b1_ptr + program * M + hidden)
    W2 = tl.load(W2_ptr + program * M * D + hidden[:, None] * D + d)
    return W1, b1, W2


@triton.jit
def store_slice(W1_ptr, b1_ptr, W2_ptr, program, hidden, W1, b1, W2, M: tl.constexpr, D: tl.constexpr):
    """Write rows `hidden` of W1 transposed, b1 and W2 back, where `load_slice` read them."""
    d = tl.arange(0, D)[None, :]
    tl.store(W1_ptr + program * D * M + d * M + hidden[:, None], W1)
    tl.store(b1_ptr + program * M + hidden, b1)
    tl.store(W2_ptr + program * M * D + hidden[:, None] * D + d, W2)


@triton.jit
def hidden_layer(XT, W1, b1, APPROX: tl.constexpr):
    """Return gelu of one slice for tokens XT [D, K], X2 [S, K] in their dtype, and its slope there."""
    return gelu_and_slope(product(W1.to(XT.dtype), XT) + b1[:, None], XT.dtype, APPROX)


@triton.jit
def hidden_layer_only(XT, W1, b1, APPROX: tl.constexpr):
    """Return gelu of one slice alone."""
    return gelu(product(W1.to(XT.dtype), XT) + b1[:, None], XT.dtype, APPROX)


@triton.jit
def output_layer(X2a, X2b, W2a, W2b, once):
    """Return X2 W2 [K, D] without its bias, of two slices: X2 [S, K], W2 [S, D]. once: see `learn_chunk`."""
    Z2 = tl.zeros([X2a.shape[1], W2a.shape[1]], tl.float32)
    for _ in range(once):  # in a region of its own, or Hopper's two groups of warps would do it twice
        Z2 = tl.dot(tl.trans(X2a), W2a.to(X2a.dtype), Z2, input_precision="tf32x3")
        Z2 = tl.dot(tl.trans(X2b), W2b.to(X2a.dtype), Z2, input_precision="tf32x3")
    return Z2


@triton.jit
def update_slice(XK, X2, slope, G2, W1, b1, W2):
    """Return one slice after the step: XK [K, D], X2 and slope [S, K], G2 [K, D] with the learning rate in it, as
    triton_tiles.step wants it.
    """
    G1 = product(W2.to(XK.dtype), tl.trans(G2)) * slope  # [S, K], at the chunk's first W2
    W2 = step(W2, X2, G2)
    W1 = step(W1, G1.to(XK.dtype), XK)
    b1 = step_of_bias(b1, G1, 1, XK.dtype)
    return W1, b1, W2


@triton.jit
def learn_chunk(
    k_ptr, v_ptr, eta_ptr, k_token, v_token, eta_token, rows, inside, W1a, b1a, W2a, W1b, b1b, W2b, b2, gamma, beta,
    once, eps, D: tl.constexpr, APPROX: tl.constexpr,
):  # fmt: skip
    """Return the weights, in two slices, after the step of the chunk whose tokens lie at `rows`. once: 1, which the
    compiler must not know.
    """
    XK = load_rows(k_ptr, rows, inside, k_token, D)  # [K, D]
    XV = load_rows(v_ptr, rows, inside, v_token, D).to(tl.float32)
    rate = load_rates(eta_ptr, rows, inside, eta_token, XK.dtype)

    XKT = tl.trans(XK)
    X2a, slope_a = hidden_layer(XKT, W1a, b1a, APPROX)
    X2b, slope_b = hidden_layer(XKT, W1b, b1b, APPROX)
    Z2 = output_layer(X2a, X2b, W2a, W2b, once)
    G2 = rate * loss_gradient(Z2 + b2[None, :], XV - XK.to(tl.float32), gamma, beta, eps, D)
    b2 = step_of_bias(b2, G2, 0, XK.dtype)
    G2 = G2.to(XK.dtype)
    W1a, b1a, W2a = update_slice(XK, X2a, slope_a, G2, W1a, b1a, W2a)
    W1b, b1b, W2b = update_slice(XK, X2b, slope_b, G2, W1b, b1b, W2b)
    return W1a, b1a, W2a, W1b, b1b, W2b, b2
