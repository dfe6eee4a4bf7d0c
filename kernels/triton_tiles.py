"""Provide the pieces of all Triton kernels: a chunk's rows, the inner loss, gelu.

Formulas: arXiv 2504.05298, section 3 (inner_loss.py has them readable). A chunk is a tile [K, D] of one head of one
video. Tokens behind the end are read as zeros and have no learning rate. Products take operands in the tokens' dtype
and add up in float32; all else is float32. float32 operands are split in three tf32 parts, because one would keep ten
bits. What a tile is used for is not known here.

Triton's interpreter has no bfloat16 arithmetic (it computes on the raw bits), no tanh, and no inline assembly, so tanh
is built from exp wherever float32 accuracy is wanted.
"""

import triton
import triton.language as tl

# Learning rates are about 1e-5, and gradients times them would fall among float16's subnormal numbers. Lifted by a
# power of two they keep all their bits; the updates are lowered again in float32. Adding the updates up inside the
# product instead, where the dtype needs no lift, spills more registers, not fewer (offline for sm_89 and sm_90).
LIFT = tl.constexpr(1024.0)
LOWER = tl.constexpr(1.0 / 1024.0)


@triton.jit
def product(a, b):
    """Return a [M, K] @ b [K, N] as float32 [M, N]; a and b in the same dtype, every side at least 16."""
    return tl.dot(a, b, input_precision="tf32x3")


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
def load_rates(ptr, rows, inside, stride):
    """Load lifted learning rates as [K, 1]; 0 for tokens that do not exist."""
    return LIFT * tl.load(ptr + rows * stride, mask=inside, other=0.0).to(tl.float32)[:, None]


@triton.jit
def normalise(z, eps, D: tl.constexpr):
    """Return (z - mean) / s [K, D] and 1 / s [K, 1] for z [K, D]."""
    centred = z - tl.sum(z, 1)[:, None] / D
    per_s = 1.0 / tl.sqrt(tl.sum(centred * centred, 1)[:, None] / D + eps)
    return centred * per_s, per_s


@triton.jit
def loss_gradient(z, target, gamma, beta, eps, D: tl.constexpr):
    """Return d / d z of 1/2 || LN(z) - target ||^2; z, target [K, D], gamma, beta [1, D] -> [K, D]."""
    xh, per_s = normalise(z, eps, D)
    u = gamma * (gamma * xh + beta - target)
    return (u - tl.sum(u, 1)[:, None] / D - xh * (tl.sum(u * xh, 1)[:, None] / D)) * per_s


@triton.jit
def tanh(x, APPROX: tl.constexpr):
    """Return tanh; APPROX takes the hardware's instruction, whose error of 2^-11 is that of float16 operands."""
    if APPROX:
        return tl.inline_asm_elementwise("tanh.approx.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)
    shrunk = tl.exp(-2.0 * tl.abs(x))  # cannot overflow
    t = (1.0 - shrunk) / (1.0 + shrunk)
    return tl.where(x < 0, -t, t)


@triton.jit
def gelu(z, APPROX: tl.constexpr):
    """Return the tanh form of gelu(z), and the tanh that its derivative needs."""
    t = tanh(0.7978845608028654 * z * (1.0 + 0.044715 * z * z), APPROX)
    return 0.5 * z * (1.0 + t), t


@triton.jit
def gelu_slope(z, t):
    """Return gelu'(z), from z and the tanh of gelu(z)."""
    return 0.5 * z * (1.0 - t * t) * (0.7978845608028654 + 0.1070322243 * z * z) + 0.5 * (1.0 + t)
