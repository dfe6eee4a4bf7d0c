"""Go back through TTT-Linear in one program for each head of each video: learn a group of chunks again and keep the
weights between them, then go from the last chunk to the first.

Source: arXiv 2504.05298, section 3, in the primal form of reference.py, differentiated by hand. The weights [D, D] and
their gradient stay in float32 registers; of every chunk the weights that it began with are kept, in the tokens' dtype,
as a product takes them. How it is launched is triton_backward.py's business.
"""

import triton
import triton.language as tl

from .triton_linear import learn_linear
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


@triton.jit(do_not_specialize=["tokens", "places"])
def back_linear(
    q_ptr, k_ptr, v_ptr, eta_ptr, above_ptr, q_back_ptr, k_back_ptr, v_back_ptr, eta_back_ptr,
    gamma_ptr, beta_ptr, gamma_back_ptr, beta_back_ptr,
    W1_ptr, b1_ptr, W1_kept_ptr, b1_kept_ptr, W1_back_ptr, b1_back_ptr,
    q_batch, q_token, q_head, k_batch, k_token, k_head, v_batch, v_token, v_head,
    eta_batch, eta_token, eta_head, above_batch, above_token, above_head,
    q_back_batch, q_back_token, q_back_head, k_back_batch, k_back_token, k_back_head,
    v_back_batch, v_back_token, v_back_head, eta_back_batch, eta_back_token, eta_back_head,
    heads, tokens, places, eps,
    K: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """Go back through so many tokens of one head of one video in one program.

    places: that the kept weights have, [programs, places, ...], one for each chunk. W1_back, b1_back [programs, ...]:
    the gradient of the weights after the last token, in whose place that of those before the first is left.
    gamma_back, beta_back [programs, D].
    """
    program = tl.program_id(0).to(tl.int64)  # a video's tensors hold more numbers than 32 bits count
    batch, head = program // heads, program % heads
    q_ptr += batch * q_batch + head * q_head
    k_ptr += batch * k_batch + head * k_head
    v_ptr += batch * v_batch + head * v_head
    eta_ptr += batch * eta_batch + head * eta_head
    above_ptr += batch * above_batch + head * above_head
    q_back_ptr += batch * q_back_batch + head * q_back_head
    k_back_ptr += batch * k_back_batch + head * k_back_head
    v_back_ptr += batch * v_back_batch + head * v_back_head
    eta_back_ptr += batch * eta_back_batch + head * eta_back_head

    d = tl.arange(0, D)
    square = d[:, None] * D + d[None, :]
    gamma = tl.load(gamma_ptr + head * D + d).to(tl.float32)[None, :]
    beta = tl.load(beta_ptr + head * D + d).to(tl.float32)[None, :]

    W1 = tl.load(W1_ptr + program * D * D + square)  # [D, D]
    b1 = tl.load(b1_ptr + program * D + d)
    at = program * places
    for start in range(0, tokens, K):
        tl.store(W1_kept_ptr + at * D * D + square, W1.to(W1_kept_ptr.dtype.element_ty))
        tl.store(b1_kept_ptr + at * D + d, b1)
        at += 1
        rows, inside = chunk_rows(None, start, tokens, K)
        W1, b1 = learn_linear(
            k_ptr, v_ptr, eta_ptr, rows, inside, k_token, v_token, eta_token, W1, b1, gamma, beta, eps, D
        )
    tl.debug_barrier()  # what one thread has stored another one loads

    dW1 = tl.load(W1_back_ptr + program * D * D + square)
    db1 = tl.load(b1_back_ptr + program * D + d)
    by_gamma, by_beta = tl.zeros([D], tl.float32), tl.zeros([D], tl.float32)
    W1_after, b1_after = W1.to(W1_kept_ptr.dtype.element_ty), b1
    chunks = tl.cdiv(tokens, K)
    for number in range(chunks):
        chunk = chunks - 1 - number
        rows, inside = chunk_rows(None, chunk * K, tokens, K)

        XQ = load_rows(q_ptr, rows, inside, q_token, D)
        above = load_rows(above_ptr, rows, inside, above_token, D).to(tl.float32)
        xh, per_s = normalise(product(XQ, W1_after) + b1_after[None, :], eps, D)
        by_gamma += tl.sum(above * xh, 0)
        by_beta += tl.sum(above, 0)
        dZ1 = through_normalise(gamma * above, xh, per_s, D)
        db1 += tl.sum(dZ1, 0)
        dZ1 = dZ1.to(XQ.dtype)
        dW1 = tl.dot(tl.trans(XQ), dZ1, dW1, input_precision="tf32x3")
        above = tl.dot(dZ1, tl.trans(W1_after), above, input_precision="tf32x3")
        store_rows(q_back_ptr, above, rows, inside, q_back_token, D)

        at = program * places + chunk
        W1_before, b1_before = tl.load(W1_kept_ptr + at * D * D + square), tl.load(b1_kept_ptr + at * D + d)
        XK = load_rows(k_ptr, rows, inside, k_token, D)
        target = load_rows(v_ptr, rows, inside, v_token, D).to(tl.float32) - XK.to(tl.float32)
        rate = -tl.load(eta_ptr + rows * eta_token, mask=inside, other=0.0).to(tl.float32)[:, None]
        if XK.dtype == tl.float16:
            rate = LIFT * rate  # and with it all that it is a factor of: dZ1 and dT, and what follows from these
        dW1_16 = dW1.to(XK.dtype)
        dG1 = product(XK, dW1_16) + db1[None, :]
        Z1 = product(XK, W1_before) + b1_before[None, :]
        G1, dZ1, dT, of_gamma, of_beta = loss_gradient_back(Z1, target, rate * dG1, gamma, beta, eps, D)
        tl.store(eta_back_ptr + rows * eta_back_token, -tl.sum(dG1 * G1, 1), mask=inside)
        by_gamma += lowered(of_gamma, XK.dtype)
        by_beta += lowered(of_beta, XK.dtype)
        store_rows(v_back_ptr, lowered(dT, XK.dtype), rows, inside, v_back_token, D)
        db1 += lowered(tl.sum(dZ1, 0), XK.dtype)
        dZ1 = dZ1.to(XK.dtype)
        dK = tl.dot((rate * G1).to(XK.dtype), tl.trans(dW1_16), -dT, input_precision="tf32x3")
        dK = tl.dot(dZ1, tl.trans(W1_before), dK, input_precision="tf32x3")
        store_rows(k_back_ptr, lowered(dK, XK.dtype), rows, inside, k_back_token, D)
        dW1 += lowered(product(tl.trans(XK), dZ1), XK.dtype)
        W1_after, b1_after = W1_before, b1_before

    tl.store(W1_back_ptr + program * D * D + square, dW1)
    tl.store(b1_back_ptr + program * D + d, db1)
    tl.store(gamma_back_ptr + program * D + d, by_gamma)
    tl.store(beta_back_ptr + program * D + d, by_beta)
