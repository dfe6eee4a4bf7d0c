"""Compute the tanh form of gelu and its slope in Triton kernels: exactly, or two numbers at a time in float16.

Triton's interpreter has no inline assembly (gelu_assembly.py) and no tanh, so there, and for float32 tokens, tanh is
built from exp.
"""

import triton
import triton.language as tl

from . import gelu_assembly

HALF_WITH_SLOPE = tl.constexpr(gelu_assembly.HALF_WITH_SLOPE)
BFLOAT_WITH_SLOPE = tl.constexpr(gelu_assembly.BFLOAT_WITH_SLOPE)
HALF, BFLOAT = tl.constexpr(gelu_assembly.HALF), tl.constexpr(gelu_assembly.BFLOAT)


@triton.jit
def gelu_and_slope(z, dtype: tl.constexpr, APPROX: tl.constexpr):
    """Return gelu(z) in `dtype` and gelu'(z) for z in float32; APPROX: in float16, for 16-bit dtypes."""
    if not APPROX:
        t = tanh(0.7978845608028654 * z * (1.0 + 0.044715 * z * z))
        slope = 0.5 * z * (1.0 - t * t) * (0.7978845608028654 + 0.1070322243 * z * z) + 0.5 * (1.0 + t)
        x = (0.5 * z * (1.0 + t)).to(dtype)
    elif dtype == tl.float16:
        x, slope = tl.inline_asm_elementwise(
            HALF_WITH_SLOPE, "=r,=r,f,f", [z], dtype=(tl.float16, tl.float16), is_pure=True, pack=2
        )
    else:
        x, slope = tl.inline_asm_elementwise(
            BFLOAT_WITH_SLOPE, "=r,=r,f,f", [z], dtype=(tl.bfloat16, tl.float16), is_pure=True, pack=2
        )
    return x, slope


@triton.jit
def gelu_with_slopes(z):
    """Return gelu(z), gelu'(z) and gelu''(z) for z in float32, exactly: 1 - tanh^2 of a saturated tanh that is a
    little wrong would be wrong altogether.
    """
    s = z * z
    shrunk = tl.exp(-1.5957691216057308 * tl.abs(z) * (1.0 + 0.044715 * s))  # cannot overflow
    part = 1.0 / (1.0 + shrunk)
    t = (1.0 - shrunk) * part
    t = tl.where(z < 0, -t, t)
    rest = 4.0 * shrunk * part * part  # 1 - t^2
    inner = 0.7978845608028654 + 0.1070322243 * s  # the slope of what tanh is of
    half = 0.5 + 0.5 * t
    curvature = rest * (inner + 0.1070322243 * s - z * t * inner * inner)
    return z * half, half + 0.5 * z * rest * inner, curvature


@triton.jit
def gelu(z, dtype: tl.constexpr, APPROX: tl.constexpr):
    """Return gelu(z) as `gelu_and_slope` does."""
    if not APPROX:
        x = (0.5 * z * (1.0 + tanh(0.7978845608028654 * z * (1.0 + 0.044715 * z * z)))).to(dtype)
    elif dtype == tl.float16:
        x = tl.inline_asm_elementwise(HALF, "=r,f,f", [z], dtype=tl.float16, is_pure=True, pack=2)
    else:
        x = tl.inline_asm_elementwise(BFLOAT, "=r,f,f", [z], dtype=tl.bfloat16, is_pure=True, pack=2)
    return x


@triton.jit
def tanh(x):
    """Return tanh in float32."""
    shrunk = tl.exp(-2.0 * tl.abs(x))  # cannot overflow
    t = (1.0 - shrunk) / (1.0 + shrunk)
    return tl.where(x < 0, -t, t)
