"""Learn with TTT-MLP for heads of 64 channels without reading: the weights that each chunk leaves are kept.

Source: arXiv 2504.05298, section 3, in the primal form of reference.py. What a chunk is read with is known as soon as
it is learned, and nothing later depends on the reading. So this kernel is the part that must go from chunk to chunk,
and triton_read.py answers the queries of all chunks at once. It is triton_mlp.py without its queries; the weights
before and after each chunk are stored in the tokens' dtype, as a product takes them, 66 KB a chunk and head in 16 bits.
How the two are launched is triton_apart.py's business.
"""

import triton
import triton.language as tl

from .triton_slices import learn_chunk, load_slice, store_slice
from .triton_tiles import chunk_rows

WARPS = 8
STAGES = 1


def is_early(major: int) -> bool:
    """Return EARLY for a GPU of compute capability `major`.x.

    On Hopper it saves 64 conversions a warp and chunk (4,996 clocks to issue in place of 5,086). Where products want
    another layout than stores it costs: 8,042 on sm_89, in place of 6,850.
    """
    return major == 9


@triton.jit
def keep(W1_ptr, b1_ptr, W2_ptr, at, hidden, W1, b1, W2, M: tl.constexpr, D: tl.constexpr):
    """Store rows `hidden` of a chunk's weights: W1 transposed, b1 and W2."""
    d = tl.arange(0, D)[None, :]
    tl.store(W1_ptr + at * M * D + hidden[:, None] * D + d, W1.to(W1_ptr.dtype.element_ty))
    tl.store(b1_ptr + at * M + hidden, b1)
    tl.store(W2_ptr + at * M * D + hidden[:, None] * D + d, W2.to(W2_ptr.dtype.element_ty))


@triton.jit
def keep_all(W1_ptr, b1_ptr, W2_ptr, b2_ptr, at, W1a, b1a, W2a, W1b, b1b, W2b, b2, M: tl.constexpr, D: tl.constexpr):
    """Store all of a chunk's weights, the two halves of the hidden axis and b2, at place `at`."""
    half = tl.arange(0, M // 2)
    keep(W1_ptr, b1_ptr, W2_ptr, at, half, W1a, b1a, W2a, M, D)
    keep(W1_ptr, b1_ptr, W2_ptr, at, half + M // 2, W1b, b1b, W2b, M, D)
    tl.store(b2_ptr + at * D + tl.arange(0, D), b2)


@triton.jit(do_not_specialize=["first", "stop", "places", "once"])
def learn_mlp(
    k_ptr, v_ptr, eta_ptr, index_ptr, gamma_ptr, beta_ptr,
    W1_ptr, b1_ptr, W2_ptr, b2_ptr, W1_out_ptr, b1_out_ptr, W2_out_ptr, b2_out_ptr,
    W1_kept_ptr, b1_kept_ptr, W2_kept_ptr, b2_kept_ptr,
    k_batch, k_token, k_head, v_batch, v_token, v_head, eta_batch, eta_token, eta_head,
    heads, first, stop, places, once, eps,
    K: tl.constexpr, D: tl.constexpr, EARLY: tl.constexpr, APPROX: tl.constexpr,
):  # fmt: skip
    """Learn the tokens `first` to `stop` of a scan, for one head of one video in a program.

    places: that the kept tensors have, [programs, places, ...]; the first holds the weights before. once: 1, which the
    compiler must not know. EARLY: whether weights are stored before the next chunk, whose products round them anyway,
    or at once. The weights before and after may be the same tensors.
    """
    M: tl.constexpr = 4 * D
    HALF: tl.constexpr = M // 2
    program = tl.program_id(0).to(tl.int64)  # a video's tensors hold more numbers than 32 bits count
    batch, head = program // heads, program % heads
    k_ptr += batch * k_batch + head * k_head
    v_ptr += batch * v_batch + head * v_head
    eta_ptr += batch * eta_batch + head * eta_head

    d, low = tl.arange(0, D), tl.arange(0, HALF)
    high = low + HALF
    W1a, b1a, W2a = load_slice(W1_ptr, b1_ptr, W2_ptr, program, low, M, D)
    W1b, b1b, W2b = load_slice(W1_ptr, b1_ptr, W2_ptr, program, high, M, D)
    b2 = tl.load(b2_ptr + program * D + d)
    gamma = tl.load(gamma_ptr + head * D + d).to(tl.float32)[None, :]
    beta = tl.load(beta_ptr + head * D + d).to(tl.float32)[None, :]

    at = program * places
    if not EARLY:
        keep_all(W1_kept_ptr, b1_kept_ptr, W2_kept_ptr, b2_kept_ptr, at, W1a, b1a, W2a, W1b, b1b, W2b, b2, M, D)
    for start in range(first, stop, K):
        if EARLY:
            keep_all(W1_kept_ptr, b1_kept_ptr, W2_kept_ptr, b2_kept_ptr, at, W1a, b1a, W2a, W1b, b1b, W2b, b2, M, D)
        at += 1
        rows, inside = chunk_rows(index_ptr, start, stop, K)
        W1a, b1a, W2a, W1b, b1b, W2b, b2 = learn_chunk(
            k_ptr, v_ptr, eta_ptr, k_token, v_token, eta_token, rows, inside, W1a, b1a, W2a, W1b, b1b, W2b, b2,
            gamma, beta, once, eps, D, APPROX,
        )  # fmt: skip
        if not EARLY:
            keep_all(W1_kept_ptr, b1_kept_ptr, W2_kept_ptr, b2_kept_ptr, at, W1a, b1a, W2a, W1b, b1b, W2b, b2, M, D)

    if EARLY:
        keep_all(W1_kept_ptr, b1_kept_ptr, W2_kept_ptr, b2_kept_ptr, at, W1a, b1a, W2a, W1b, b1b, W2b, b2, M, D)
    tl.debug_barrier()  # a thread may store what another one has loaded at the start
    store_slice(W1_out_ptr, b1_out_ptr, W2_out_ptr, program, low, W1a, b1a, W2a, M, D)
    store_slice(W1_out_ptr, b1_out_ptr, W2_out_ptr, program, high, W1b, b1b, W2b, M, D)
    tl.store(b2_out_ptr + program * D + d, b2)
