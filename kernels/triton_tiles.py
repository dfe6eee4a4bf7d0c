"""Provide the pieces of all Triton kernels: a chunk's rows, the inner loss, the step.

Formulas: arXiv 2504.05298, section 3 (inner_loss.py has them readable). A chunk is a tile [K, D] of one head of one
video. Tokens behind the end are read as zeros and have no learning rate. Products take operands in the tokens' dtype
and add up in float32; all else is float32. float32 operands are split in three tf32 parts, because one would keep ten
bits. What a tile is used for is not known here.
"""

import triton
import triton.language as tl

# Learning rates are about 1e-5, and gradients times them would fall among float16's subnormal numbers. Lifted by a
# power of two they keep all their bits; the updates are lowered again in float32. The other dtypes need no lift, so
# their updates are added up inside the product, with the sign in the rate (`step`, `load_rates`).
LIFT = tl.constexpr(1024.0)
LOWER = tl.constexpr(1.0 / 1024.0)


@triton.jit
def product(a, b):
    """Return a [M, K] @ b [K, N] as float32 [M, N]; a and b in the same dtype, every side at least 16."""
    return tl.dot(a, b, input_precision="tf32x3")


@triton.jit
def step(W, a, b):
    """Return W [M, N], float32, after a step along a [M, K] @ b [K, N], in which the learning rate is already."""
    if b.dtype == tl.float16:  # noqa: SIM108 (see chunk_rows)
        W = W - LOWER * product(a, b)
    else:
        W = tl.dot(a, b, W, input_precision="tf32x3")
    return W


@triton.jit
def step_of_bias(b, gradient, axis: tl.constexpr, dtype: tl.constexpr):
    """Return b after the step of `step` for tokens of `dtype`: gradient in float32, summed over its tokens."""
    if dtype == tl.float16:  # noqa: SIM108 (see chunk_rows)
        b = b - LOWER * tl.sum(gradient, axis)
    else:
        b = b + tl.sum(gradient, axis)
    return b


@triton.jit
def chunk_rows(index_ptr, start, tokens, K: tl.constexpr):
    """Return where the K tokens from `start` lie, int64 [K], and which of them exist, bool [K]."""
    place = start + tl.arange(0, K)
    inside = place < tokens
    if index_ptr is None:  # noqa: SIM108 (Triton compiles one branch of an `if`, both of a ternary)
        rows = place.to(tl.int64)
    else:
        rows = tl.load(index_ptr + place, mask=inside, other=0).to(tl.int64)
    return rows, inside


@triton.jit
def load_rows(ptr, rows, inside, stride, D: tl.constexpr):
    """Load rows of D neighbouring numbers as [K, D]; zeros for tokens that do not exist."""
    return tl.load(ptr + rows[:, None] * stride + tl.arange(0, D)[None, :], mask=inside[:, None], other=0.0)


@triton.jit
def store_rows(ptr, x, rows, inside, stride, D: tl.constexpr):
    """Store x [K, D] as rows of D neighbouring numbers, in their dtype; only of tokens that exist."""
    at = ptr + rows[:, None] * stride + tl.arange(0, D)[None, :]
    tl.store(at, x.to(ptr.dtype.element_ty), mask=inside[:, None])


@triton.jit
def load_rates(ptr, rows, inside, stride, dtype: tl.constexpr):
    """Load learning rates as [K, 1], lifted or with the sign that `step` wants for tokens of `dtype`; 0 for tokens that
    do not exist.
    """
    rate = tl.load(ptr + rows * stride, mask=inside, other=0.0).to(tl.float32)[:, None]
    if dtype == tl.float16:  # noqa: SIM108 (see chunk_rows)
        rate = LIFT * rate
    else:
        rate = -rate
    return rate


@triton.jit
def lowered(x, dtype: tl.constexpr):
    """Return what was lifted for tokens of `dtype` as it is."""
    if dtype == tl.float16:
        x = LOWER * x
    return x


@triton.jit
def normalise(z, eps, D: tl.constexpr):
    """Return (z - mean) / s [K, D] and 1 / s [K, 1] for z [K, D]."""
    centred = z - tl.sum(z, 1)[:, None] / D
    per_s = 1.0 / tl.sqrt(tl.sum(centred * centred, 1)[:, None] / D + eps)
    return centred * per_s, per_s


@triton.jit
def through_normalise(above, xh, per_s, D: tl.constexpr):
    """Return the gradient by z [K, D] from that by xh, both of `normalise`."""
    return (above - tl.sum(above, 1)[:, None] / D - xh * (tl.sum(above * xh, 1)[:, None] / D)) * per_s


@triton.jit
def loss_gradient(z, target, gamma, beta, eps, D: tl.constexpr):
    """Return d / d z of 1/2 || LN(z) - target ||^2; z, target [K, D], gamma, beta [1, D] -> [K, D]."""
    xh, per_s = normalise(z, eps, D)
    return through_normalise(gamma * (gamma * xh + beta - target), xh, per_s, D)


@triton.jit
def loss_gradient_back(z, target, above, gamma, beta, eps, D: tl.constexpr):
    """Return `loss_gradient` and, from the gradient `above` by it [K, D], those by z and target [K, D], gamma and
    beta [D].
    """
    xh, per_s = normalise(z, eps, D)
    miss = gamma * xh + beta - target
    u = gamma * miss
    gradient = through_normalise(u, xh, per_s, D)
    du = through_normalise(above, xh, per_s, D)
    by_target = -gamma * du
    by_xh = gamma * gamma * du - per_s * (
        above * (tl.sum(u * xh, 1) / D)[:, None] + u * (tl.sum(above * xh, 1) / D)[:, None]
    )
    by_z = through_normalise(by_xh, xh, per_s, D) - per_s * xh * (tl.sum(above * gradient, 1) / D)[:, None]
    return gradient, by_z, by_target, tl.sum(du * (miss + gamma * xh), 0), tl.sum(gamma * du, 0)
