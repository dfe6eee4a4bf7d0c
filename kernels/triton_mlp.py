"""Scan with TTT-MLP for heads of 64 channels as one Triton kernel: a program walks all chunks of one head of one video.

Source: arXiv 2504.05298, section 3, in the primal form of reference.py. The weights are 128 KB of float32 per head and
stay in registers from the first chunk to the last, with the hidden axis as the rows: W1 transposed and W2 are both
[M, D], so that the accumulators of the updates are the left operands of the next products, and the elementwise work is
spread over all warps (tokens as rows would have two groups of warps do it twice on Hopper). Two halves of the hidden
axis, each with its own name, keep the temporaries small. Tokens are gathered row by row and their number is a run-time
value: no copy for an order, one compilation for every length. Launching is triton_launch.py's business.
"""

import triton
import triton.language as tl

from .triton_slices import hidden_layer_only, learn_chunk, load_slice, output_layer, store_slice
from .triton_tiles import chunk_rows, load_rows, normalise, store_rows

WARPS = 8
STAGES = 1


@triton.jit(do_not_specialize=["tokens", "once"])
def scan_mlp(
    q_ptr, k_ptr, v_ptr, eta_ptr, out_ptr, index_ptr, gamma_ptr, beta_ptr,
    W1_ptr, b1_ptr, W2_ptr, b2_ptr, W1_out_ptr, b1_out_ptr, W2_out_ptr, b2_out_ptr,
    q_batch, q_token, q_head, k_batch, k_token, k_head, v_batch, v_token, v_head,
    eta_batch, eta_token, eta_head, out_batch, out_token, out_head,
    heads, tokens, once, eps,
    K: tl.constexpr, D: tl.constexpr, APPROX: tl.constexpr,
):  # fmt: skip
    """Scan one head of one video in one program, K tokens at a time, with the MLP's weights in registers, in halves.

    once: 1, which the compiler must not know.
    """
    M: tl.constexpr = 4 * D
    HALF: tl.constexpr = M // 2
    program = tl.program_id(0).to(tl.int64)  # a video's tensors hold more numbers than 32 bits count
    batch, head = program // heads, program % heads
    q_ptr += batch * q_batch + head * q_head
    k_ptr += batch * k_batch + head * k_head
    v_ptr += batch * v_batch + head * v_head
    eta_ptr += batch * eta_batch + head * eta_head
    out_ptr += batch * out_batch + head * out_head

    d, low = tl.arange(0, D), tl.arange(0, HALF)
    high = low + HALF
    W1a, b1a, W2a = load_slice(W1_ptr, b1_ptr, W2_ptr, program, low, M, D)
    W1b, b1b, W2b = load_slice(W1_ptr, b1_ptr, W2_ptr, program, high, M, D)
    b2 = tl.load(b2_ptr + program * D + d)
    gamma = tl.load(gamma_ptr + head * D + d).to(tl.float32)[None, :]
    beta = tl.load(beta_ptr + head * D + d).to(tl.float32)[None, :]

    for start in range(0, tokens, K):
        rows, inside = chunk_rows(index_ptr, start, tokens, K)
        W1a, b1a, W2a, W1b, b1b, W2b, b2 = learn_chunk(
            k_ptr, v_ptr, eta_ptr, k_token, v_token, eta_token, rows, inside, W1a, b1a, W2a, W1b, b1b, W2b, b2,
            gamma, beta, once, eps, D, APPROX,
        )  # fmt: skip

        XQ = load_rows(q_ptr, rows, inside, q_token, D)  # loaded after the update, which needs the registers
        XQT = tl.trans(XQ)
        Qa = hidden_layer_only(XQT, W1a, b1a, APPROX)
        Qb = hidden_layer_only(XQT, W1b, b1b, APPROX)
        xh, _ = normalise(output_layer(Qa, Qb, W2a, W2b, once) + b2[None, :], eps, D)
        out = XQ.to(tl.float32) + gamma * xh + beta
        store_rows(out_ptr, out, rows, inside, out_token, D)

    store_slice(W1_out_ptr, b1_out_ptr, W2_out_ptr, program, low, W1a, b1a, W2a, M, D)
    store_slice(W1_out_ptr, b1_out_ptr, W2_out_ptr, program, high, W1b, b1b, W2b, M, D)
    tl.store(b2_out_ptr + program * D + d, b2)
