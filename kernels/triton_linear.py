"""Scan with TTT-Linear as one Triton kernel: a program walks all chunks of one head of one video.

Source: arXiv 2504.05298, section 3, in the primal form of reference.py. W1 [D, D] and b1 stay in registers in float32
from the first chunk to the last; tokens are gathered row by row, so an order (interleave, reversal) costs no copy. The
number of tokens is a run-time value: one compilation serves every length. Launching is triton_launch.py's business.
"""

import triton
import triton.language as tl

from .triton_tiles import (
    chunk_rows,
    load_rates,
    load_rows,
    loss_gradient,
    normalise,
    product,
    step,
    step_of_bias,
    store_rows,
)

WARPS = {64: 4, 128: 8}  # by head dim: as few as keep the state in registers without spilling
STAGES = 2


@triton.jit
def learn_linear(
    k_ptr, v_ptr, eta_ptr, rows, inside, k_token, v_token, eta_token, W1, b1, gamma, beta, eps, D: tl.constexpr
):  # fmt: skip
    """Return W1 [D, D] and b1 [D] after they have learned a chunk of one head, whose tokens these rows are."""
    XK = load_rows(k_ptr, rows, inside, k_token, D)  # [K, D]
    Z1 = product(XK, W1.to(XK.dtype)) + b1[None, :]
    XV = load_rows(v_ptr, rows, inside, v_token, D).to(tl.float32)
    rate = load_rates(eta_ptr, rows, inside, eta_token, XK.dtype)
    G1 = rate * loss_gradient(Z1, XV - XK.to(tl.float32), gamma, beta, eps, D)
    return step(W1, tl.trans(XK), G1.to(XK.dtype)), step_of_bias(b1, G1, 0, XK.dtype)


@triton.jit(do_not_specialize=["tokens"])
def scan_linear(
    q_ptr, k_ptr, v_ptr, eta_ptr, out_ptr, index_ptr, gamma_ptr, beta_ptr,
    W1_ptr, b1_ptr, W1_out_ptr, b1_out_ptr,
    q_batch, q_token, q_head, k_batch, k_token, k_head, v_batch, v_token, v_head,
    eta_batch, eta_token, eta_head, out_batch, out_token, out_head,
    heads, tokens, eps,
    K: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """Scan one head of one video in one program, with W1 [D, D] and b1 [D] in registers, K tokens at a time."""
    program = tl.program_id(0).to(tl.int64)  # a video's tensors hold more numbers than 32 bits count
    batch, head = program // heads, program % heads
    q_ptr += batch * q_batch + head * q_head
    k_ptr += batch * k_batch + head * k_head
    v_ptr += batch * v_batch + head * v_head
    eta_ptr += batch * eta_batch + head * eta_head
    out_ptr += batch * out_batch + head * out_head

    d = tl.arange(0, D)
    square = program * D * D + d[:, None] * D + d[None, :]
    W1 = tl.load(W1_ptr + square)  # [D, D]
    b1 = tl.load(b1_ptr + program * D + d)
    gamma = tl.load(gamma_ptr + head * D + d).to(tl.float32)[None, :]
    beta = tl.load(beta_ptr + head * D + d).to(tl.float32)[None, :]

    for start in range(0, tokens, K):
        rows, inside = chunk_rows(index_ptr, start, tokens, K)
        W1, b1 = learn_linear(
            k_ptr, v_ptr, eta_ptr, rows, inside, k_token, v_token, eta_token, W1, b1, gamma, beta, eps, D
        )
        XQ = load_rows(q_ptr, rows, inside, q_token, D)
        xh, _ = normalise(product(XQ, W1.to(XQ.dtype)) + b1[None, :], eps, D)
        out = XQ.to(tl.float32) + gamma * xh + beta
        store_rows(out_ptr, out, rows, inside, out_token, D)

    tl.store(W1_out_ptr + square, W1)
    tl.store(b1_out_ptr + program * D + d, b1)
