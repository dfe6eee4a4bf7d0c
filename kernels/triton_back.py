"""Go back through TTT-MLP: from gradients of what was read, and of the last weights, to those of all that was given.

Source: arXiv 2504.05298, section 3, in the primal form of reference.py, differentiated by hand. With the weights of
each chunk at hand (triton_learn.py keeps them) what reading a chunk asks of its weights needs no other chunk, so
`read_back_mlp` answers all chunks at once. `learn_back_mlp` goes from the last chunk to the first and hands on the
gradient of the weights, in float32. A head's tokens are tiles [K, D]; the hidden axis is walked in slices, as in
triton_mlp_wide.py, which bounds registers and shared memory for every head width. The gradient of a chunk's weights
stands where reading has left its part of it. How the two are launched is triton_backward.py's business.
"""

import triton
import triton.language as tl

from .triton_gelu import gelu_with_slopes
from .triton_tiles import (
    LIFT,
    chunk_rows,
    load_rows,
    loss_gradient_back,
    lowered,
    normalise,
    product,
    store_rows,
    through_normalise,
)

WARPS = 4
STAGES = 1
# Rows of a slice. Clocks to issue a chunk of `learn_back_mlp` on sm_90, bfloat16, chunk 64: 19,400, with 32 rows
# 21,300; with 8 warps 22,500 with 128 rows, 34,500 with 64, 27,300 with 32. On sm_89 23,900, with 32 rows 29,000.
SLICE = 64


@triton.jit
def load_kept(W1_ptr, b1_ptr, W2_ptr, at, hidden, M: tl.constexpr, D: tl.constexpr):
    """Load rows `hidden` of the weights at place `at`: W1 transposed [S, D], b1 [S], W2 [S, D]."""
    square = at * M * D + hidden[:, None] * D + tl.arange(0, D)[None, :]
    return tl.load(W1_ptr + square), tl.load(b1_ptr + at * M + hidden), tl.load(W2_ptr + square)


@triton.jit(do_not_specialize=["tokens", "places"])
def read_back_mlp(
    q_ptr, above_ptr, q_back_ptr, gamma_ptr,
    W1_kept_ptr, b1_kept_ptr, W2_kept_ptr, b2_kept_ptr,
    W1_back_ptr, b1_back_ptr, W2_back_ptr, b2_back_ptr, gamma_back_ptr, beta_back_ptr,
    q_batch, q_token, q_head, above_batch, above_token, above_head, q_back_batch, q_back_token, q_back_head,
    heads, tokens, places, eps,
    K: tl.constexpr, D: tl.constexpr, S: tl.constexpr,
):  # fmt: skip
    """Go back through the reading of one chunk of a scan of so many tokens.

    places: that the weights have and their gradients, [programs, places, ...]; the first is before the first chunk. The
    gradients of the norm have places, too. In a chunk's place is left what its reading asks of its weights.
    """
    M: tl.constexpr = 4 * D
    program, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    batch, head = program // heads, program % heads
    q_ptr += batch * q_batch + head * q_head
    above_ptr += batch * above_batch + head * above_head
    q_back_ptr += batch * q_back_batch + head * q_back_head

    d, s = tl.arange(0, D), tl.arange(0, S)
    at = program * places + chunk + 1
    rows, inside = chunk_rows(None, chunk * K, tokens, K)
    XQ = load_rows(q_ptr, rows, inside, q_token, D)  # [K, D]
    XQT = tl.trans(XQ)
    Z2 = tl.zeros([K, D], tl.float32) + tl.load(b2_kept_ptr + at * D + d)[None, :]
    for low in range(0, M, S):
        W1, b1, W2 = load_kept(W1_kept_ptr, b1_kept_ptr, W2_kept_ptr, at, low + s, M, D)
        X2, _, _ = gelu_with_slopes(product(W1, XQT) + b1[:, None])
        Z2 = tl.dot(tl.trans(X2.to(XQ.dtype)), W2, Z2, input_precision="tf32x3")

    above = load_rows(above_ptr, rows, inside, above_token, D).to(tl.float32)
    gamma = tl.load(gamma_ptr + head * D + d).to(tl.float32)[None, :]
    xh, per_s = normalise(Z2, eps, D)
    tl.store(gamma_back_ptr + at * D + d, tl.sum(above * xh, 0))
    tl.store(beta_back_ptr + at * D + d, tl.sum(above, 0))
    dZ2 = through_normalise(gamma * above, xh, per_s, D)
    tl.store(b2_back_ptr + at * D + d, tl.sum(dZ2, 0))
    dZ2 = dZ2.to(XQ.dtype)

    for low in range(0, M, S):
        hidden = low + s
        W1, b1, W2 = load_kept(W1_kept_ptr, b1_kept_ptr, W2_kept_ptr, at, hidden, M, D)
        X2, slope, _ = gelu_with_slopes(product(W1, XQT) + b1[:, None])
        dZ1 = product(W2, tl.trans(dZ2)) * slope  # [S, K]
        tl.store(b1_back_ptr + at * M + hidden, tl.sum(dZ1, 1))
        dZ1 = dZ1.to(XQ.dtype)
        square = at * M * D + hidden[:, None] * D + d[None, :]
        tl.store(W2_back_ptr + square, product(X2.to(XQ.dtype), dZ2))
        tl.store(W1_back_ptr + square, product(dZ1, XQ))
        above = tl.dot(tl.trans(dZ1), W1, above, input_precision="tf32x3")
    store_rows(q_back_ptr, above, rows, inside, q_back_token, D)


@triton.jit(do_not_specialize=["tokens", "places"])
def learn_back_mlp(
    k_ptr, v_ptr, eta_ptr, k_back_ptr, v_back_ptr, eta_back_ptr, gamma_ptr, beta_ptr,
    W1_kept_ptr, b1_kept_ptr, W2_kept_ptr, b2_kept_ptr,
    W1_back_ptr, b1_back_ptr, W2_back_ptr, b2_back_ptr, gamma_back_ptr, beta_back_ptr,
    k_batch, k_token, k_head, v_batch, v_token, v_head, eta_batch, eta_token, eta_head,
    k_back_batch, k_back_token, k_back_head, v_back_batch, v_back_token, v_back_head,
    eta_back_batch, eta_back_token, eta_back_head,
    heads, tokens, places, eps,
    K: tl.constexpr, D: tl.constexpr, S: tl.constexpr,
):  # fmt: skip
    """Go back through the learning of so many tokens, for one head of one video in a program.

    places: see `read_back_mlp`, which has left its part of the gradients; in the last chunk's place stands the whole
    one. The whole ones are left in the places before it, as far as the first.
    """
    M: tl.constexpr = 4 * D
    program = tl.program_id(0).to(tl.int64)  # a video's tensors hold more numbers than 32 bits count
    batch, head = program // heads, program % heads
    k_ptr += batch * k_batch + head * k_head
    v_ptr += batch * v_batch + head * v_head
    eta_ptr += batch * eta_batch + head * eta_head
    k_back_ptr += batch * k_back_batch + head * k_back_head
    v_back_ptr += batch * v_back_batch + head * v_back_head
    eta_back_ptr += batch * eta_back_batch + head * eta_back_head

    d, s = tl.arange(0, D), tl.arange(0, S)
    gamma = tl.load(gamma_ptr + head * D + d).to(tl.float32)[None, :]
    beta = tl.load(beta_ptr + head * D + d).to(tl.float32)[None, :]
    chunks = tl.cdiv(tokens, K)
    last = program * places + chunks
    db2 = tl.load(b2_back_ptr + last * D + d)
    of_gamma, of_beta = tl.zeros([D], tl.float32), tl.zeros([D], tl.float32)

    for number in range(chunks):
        chunk = chunks - 1 - number
        at = program * places + chunk  # of the weights that the chunk began with; one further: of those it left
        rows, inside = chunk_rows(None, chunk * K, tokens, K)
        XK = load_rows(k_ptr, rows, inside, k_token, D)  # [K, D]
        XKT = tl.trans(XK)

        Z2 = tl.zeros([K, D], tl.float32) + tl.load(b2_kept_ptr + at * D + d)[None, :]
        dG2 = tl.zeros([K, D], tl.float32) + db2[None, :]
        for low in range(0, M, S):  # what the loss has been, and the gradient of its gradient, need every slice
            hidden = low + s
            W1, b1, W2 = load_kept(W1_kept_ptr, b1_kept_ptr, W2_kept_ptr, at, hidden, M, D)
            dW1, db1, dW2 = load_kept(W1_back_ptr, b1_back_ptr, W2_back_ptr, at + 1, hidden, M, D)
            X2, slope, _ = gelu_with_slopes(product(W1, XKT) + b1[:, None])
            X2T = tl.trans(X2.to(XK.dtype))
            Z2 = tl.dot(X2T, W2, Z2, input_precision="tf32x3")
            dG2 = tl.dot(X2T, dW2.to(XK.dtype), dG2, input_precision="tf32x3")
            dP = (product(dW1.to(XK.dtype), XKT) + db1[:, None]) * slope
            dG2 = tl.dot(tl.trans(dP.to(XK.dtype)), W2, dG2, input_precision="tf32x3")

        target = load_rows(v_ptr, rows, inside, v_token, D).to(tl.float32) - XK.to(tl.float32)
        rate = -tl.load(eta_ptr + rows * eta_token, mask=inside, other=0.0).to(tl.float32)[:, None]
        if XK.dtype == tl.float16:
            rate = LIFT * rate  # and with it all that it is a factor of: dZ2 and dT, and what follows from these
        G2, dZ2, dT, by_gamma, by_beta = loss_gradient_back(Z2, target, rate * dG2, gamma, beta, eps, D)
        tl.store(eta_back_ptr + rows * eta_back_token, -tl.sum(dG2 * G2, 1), mask=inside)
        of_gamma += lowered(by_gamma, XK.dtype)
        of_beta += lowered(by_beta, XK.dtype)
        store_rows(v_back_ptr, lowered(dT, XK.dtype), rows, inside, v_back_token, D)
        db2 += lowered(tl.sum(dZ2, 0), XK.dtype) + tl.load(b2_back_ptr + at * D + d, mask=chunk > 0, other=0.0)
        G2, dZ2 = (rate * G2).to(XK.dtype), dZ2.to(XK.dtype)
        G2T, dZ2T = tl.trans(G2), tl.trans(dZ2)

        dK = -dT
        for low in range(0, M, S):
            hidden = low + s
            W1, b1, W2 = load_kept(W1_kept_ptr, b1_kept_ptr, W2_kept_ptr, at, hidden, M, D)
            dW1, db1, dW2 = load_kept(W1_back_ptr, b1_back_ptr, W2_back_ptr, at + 1, hidden, M, D)
            X2, slope, curvature = gelu_with_slopes(product(W1, XKT) + b1[:, None])
            dW1_16, dW2_16 = dW1.to(XK.dtype), dW2.to(XK.dtype)
            dG1 = product(dW1_16, XKT) + db1[:, None]
            P = product(W2, G2T)
            dX2 = tl.dot(dW2_16, G2T, product(W2, dZ2T), input_precision="tf32x3")
            dZ1 = dX2 * slope + dG1 * P * curvature
            dK = tl.dot(tl.trans((P * slope).to(XK.dtype)), dW1_16, dK, input_precision="tf32x3")
            square = at * M * D + hidden[:, None] * D + d[None, :]
            of_b1 = lowered(tl.sum(dZ1, 1), XK.dtype)
            dZ1 = dZ1.to(XK.dtype)
            dK = tl.dot(tl.trans(dZ1), W1, dK, input_precision="tf32x3")
            of_W2 = tl.dot((dG1 * slope).to(XK.dtype), G2, product(X2.to(XK.dtype), dZ2), input_precision="tf32x3")
            dW1 += lowered(product(dZ1, XK), XK.dtype) + tl.load(W1_back_ptr + square, mask=chunk > 0, other=0.0)
            db1 += of_b1 + tl.load(b1_back_ptr + at * M + hidden, mask=chunk > 0, other=0.0)
            dW2 += lowered(of_W2, XK.dtype) + tl.load(W2_back_ptr + square, mask=chunk > 0, other=0.0)
            tl.debug_barrier()  # a thread may store what another one has loaded: all have
            tl.store(W1_back_ptr + square, dW1)
            tl.store(b1_back_ptr + at * M + hidden, db1)
            tl.store(W2_back_ptr + square, dW2)
        store_rows(k_back_ptr, lowered(dK, XK.dtype), rows, inside, k_back_token, D)
        tl.debug_barrier()  # and the other way round, before the next chunk's loads
    before = program * places * D + d
    tl.store(b2_back_ptr + before, db2)
    tl.store(gamma_back_ptr + before, of_gamma)
    tl.store(beta_back_ptr + before, of_beta)
