"""Scan with TTT-MLP for heads of 128 channels as one Triton kernel: a program walks all chunks of one head of one
video.

Source: arXiv 2504.05298, section 3, in the primal form of reference.py. The weights are 512 KB of float32 per head,
twice a register file, so they stay in global memory, in the tensors of the end state, and the hidden axis is walked in
slices (triton_slices.py), twice per chunk: once for the loss, and once to update each slice and at once read the
queries out with it. The second walk computes gelu of the keys anew, for which no room is left. The caller has put the
start state into the tensors. Launching is triton_launch.py's business. What the way of the weights to the L2 cache and
back costs is not known: nobody has timed this on a GPU yet.
"""

import triton
import triton.language as tl

from .triton_slices import hidden_layer, hidden_layer_only, load_slice, store_slice, update_slice
from .triton_tiles import chunk_rows, load_rates, load_rows, loss_gradient, normalise, product, step_of_bias, store_rows

WARPS = 8
STAGES = 1


def slice_rows(major: int) -> int:
    """Return the rows of a slice on a GPU of compute capability `major`.x.

    Hopper's matrix instructions take 64 rows for each group of four warps, so that 8 warps would compute fewer than 128
    rows twice or fall back to older instructions. The other GPUs spill with more than 32, and most have only 99 KB of
    shared memory. (Counted in the assembly for chunk 64, instructions per warp and chunk: sm_90 14,400 with 128 rows
    and 24,100 with 32; sm_89 28,000 with 32 and 32,600 with 64.)
    """
    return 128 if major == 9 else 32


@triton.jit(do_not_specialize=["tokens"])
def scan_mlp_wide(
    q_ptr, k_ptr, v_ptr, eta_ptr, out_ptr, index_ptr, gamma_ptr, beta_ptr,
    W1_ptr, b1_ptr, W2_ptr, b2_ptr,
    q_batch, q_token, q_head, k_batch, k_token, k_head, v_batch, v_token, v_head,
    eta_batch, eta_token, eta_head, out_batch, out_token, out_head,
    heads, tokens, eps,
    K: tl.constexpr, D: tl.constexpr, S: tl.constexpr, APPROX: tl.constexpr,
):  # fmt: skip
    """Scan one head of one video in one program, K tokens at a time, with the MLP's weights in memory, slice
    by slice.
    """
    M: tl.constexpr = 4 * D
    program = tl.program_id(0).to(tl.int64)  # a video's tensors hold more numbers than 32 bits count
    batch, head = program // heads, program % heads
    q_ptr += batch * q_batch + head * q_head
    k_ptr += batch * k_batch + head * k_head
    v_ptr += batch * v_batch + head * v_head
    eta_ptr += batch * eta_batch + head * eta_head
    out_ptr += batch * out_batch + head * out_head

    d, s = tl.arange(0, D), tl.arange(0, S)
    b2 = tl.load(b2_ptr + program * D + d)
    gamma = tl.load(gamma_ptr + head * D + d).to(tl.float32)[None, :]
    beta = tl.load(beta_ptr + head * D + d).to(tl.float32)[None, :]

    for start in range(0, tokens, K):
        rows, inside = chunk_rows(index_ptr, start, tokens, K)
        XK = load_rows(k_ptr, rows, inside, k_token, D)  # [K, D]
        XKT = tl.trans(XK)
        Z2 = tl.zeros([K, D], tl.float32) + b2[None, :]
        for first in range(0, M, S):  # the loss of the whole chunk needs every slice
            W1, b1, W2 = load_slice(W1_ptr, b1_ptr, W2_ptr, program, first + s, M, D)
            X2 = hidden_layer_only(XKT, W1, b1, APPROX)
            Z2 += product(tl.trans(X2), W2.to(XK.dtype))

        XV = load_rows(v_ptr, rows, inside, v_token, D).to(tl.float32)
        rate = load_rates(eta_ptr, rows, inside, eta_token, XK.dtype)
        G2 = rate * loss_gradient(Z2, XV - XK.to(tl.float32), gamma, beta, eps, D)
        b2 = step_of_bias(b2, G2, 0, XK.dtype)
        G2 = G2.to(XK.dtype)

        XQ = load_rows(q_ptr, rows, inside, q_token, D)
        XQT = tl.trans(XQ)
        Z2 = tl.zeros([K, D], tl.float32) + b2[None, :]
        for first in range(0, M, S):
            W1, b1, W2 = load_slice(W1_ptr, b1_ptr, W2_ptr, program, first + s, M, D)
            X2, slope = hidden_layer(XKT, W1, b1, APPROX)
            W1, b1, W2 = update_slice(XK, X2, slope, G2, W1, b1, W2)
            tl.debug_barrier()  # a thread may store what another one has loaded: all have
            store_slice(W1_ptr, b1_ptr, W2_ptr, program, first + s, W1, b1, W2, M, D)
            X2 = hidden_layer_only(XQT, W1, b1, APPROX)
            Z2 += product(tl.trans(X2), W2.to(XQ.dtype))
        tl.debug_barrier()  # and the other way round, before the next chunk's loads

        xh, _ = normalise(Z2, eps, D)
        out = XQ.to(tl.float32) + gamma * xh + beta
        store_rows(out_ptr, out, rows, inside, out_token, D)

    tl.store(b2_ptr + program * D + d, b2)
