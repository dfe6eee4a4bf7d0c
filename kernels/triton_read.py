"""Read the queries of all chunks of TTT-MLP at once, each chunk with the weights that it left.

Source: arXiv 2504.05298, section 3: o = q + LN(gelu(q W1 + b1) W2 + b2). The weights are triton_learn.py's; a program
answers one chunk of one head of one video, in slices of the hidden axis. Nothing is carried, so tokens are rows.
"""

import triton
import triton.language as tl

from .triton_slices import hidden_layer_only
from .triton_tiles import chunk_rows, load_rows, normalise, store_rows

WARPS = 4
STAGES = 1
SLICE = 128  # rows of the hidden axis


@triton.jit(do_not_specialize=["first", "stop", "places"])
def read_mlp(
    q_ptr, out_ptr, index_ptr, gamma_ptr, beta_ptr, W1_kept_ptr, b1_kept_ptr, W2_kept_ptr, b2_kept_ptr,
    q_batch, q_token, q_head, out_batch, out_token, out_head, heads, first, stop, places, eps,
    K: tl.constexpr, D: tl.constexpr, S: tl.constexpr, APPROX: tl.constexpr,
):  # fmt: skip
    """Answer the queries of one chunk behind token `first` of a scan that ends at `stop`; places: see learn_mlp."""
    M: tl.constexpr = 4 * D
    program, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    batch, head = program // heads, program % heads
    q_ptr += batch * q_batch + head * q_head
    out_ptr += batch * out_batch + head * out_head

    d, s = tl.arange(0, D), tl.arange(0, S)
    at = program * places + chunk + 1  # the first place is before the first chunk
    rows, inside = chunk_rows(index_ptr, first + chunk * K, stop, K)
    XQ = load_rows(q_ptr, rows, inside, q_token, D)  # [K, D]
    XQT = tl.trans(XQ)
    Z2 = tl.zeros([K, D], tl.float32) + tl.load(b2_kept_ptr + at * D + d)[None, :]
    for low in range(0, M, S):
        hidden = low + s
        W1 = tl.load(W1_kept_ptr + at * M * D + hidden[:, None] * D + d[None, :])
        W2 = tl.load(W2_kept_ptr + at * M * D + hidden[:, None] * D + d[None, :])
        X2 = hidden_layer_only(XQT, W1, tl.load(b1_kept_ptr + at * M + hidden), APPROX)
        Z2 = tl.dot(tl.trans(X2), W2, Z2, input_precision="tf32x3")

    gamma = tl.load(gamma_ptr + head * D + d).to(tl.float32)[None, :]
    beta = tl.load(beta_ptr + head * D + d).to(tl.float32)[None, :]
    xh, _ = normalise(Z2, eps, D)
    out = XQ.to(tl.float32) + gamma * xh + beta
    store_rows(out_ptr, out, rows, inside, out_token, D)
