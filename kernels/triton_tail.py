"""Finish the projections of a TTT layer in one pass as a Triton kernel: unit length, rotary turn, target.

Source: arXiv 2504.05298, section 3; formulas readable in tail.py. A program takes T tokens of one head of one video:
it reads q, k and v once and writes them once, in their own places, where plain torch passes over them some fifty times.
There is no product and no inline assembly in it, so any GPU that Triton serves can run it, AMD's too.
Importing this file imports Triton.
"""

import contextlib

import torch
import triton
import triton.language as tl

from .launch import Launch

TOKENS = 32  # of a program
WARPS = 4


@triton.jit
def turned(x, cos, sin, T: tl.constexpr, D: tl.constexpr):
    """Return x [T, D] at length one, each pair of channels rotated by its angle: cos, sin [T, D / 2]."""
    length = tl.maximum(tl.sqrt(tl.sum(x * x, 1)), 1e-12)
    even, odd = tl.split(tl.reshape(x / length[:, None], [T, D // 2, 2]))
    return tl.reshape(tl.join(even * cos - odd * sin, even * sin + odd * cos), [T, D])


@triton.jit(do_not_specialize=["tokens"])
def finish_projections(
    q_ptr, k_ptr, v_ptr, cos_ptr, sin_ptr, gamma_ptr, beta_ptr, tokens, heads, T: tl.constexpr, D: tl.constexpr
):
    """Overwrite T tokens of a head: q, k, v [B, tokens, heads, D], cos, sin [tokens, D / 2], gamma, beta [heads, D]."""
    head, batch = tl.program_id(0), tl.program_id(2).to(tl.int64)  # heads first: they share the angles of their tokens
    rows = tl.program_id(1) * T + tl.arange(0, T)
    inside = (rows < tokens)[:, None]
    d, pair = tl.arange(0, D)[None, :], tl.arange(0, D // 2)[None, :]
    place = ((batch * tokens + rows.to(tl.int64))[:, None] * heads + head) * D + d
    cos = tl.load(cos_ptr + rows[:, None] * (D // 2) + pair, mask=inside, other=1.0)
    sin = tl.load(sin_ptr + rows[:, None] * (D // 2) + pair, mask=inside, other=0.0)
    gamma = tl.load(gamma_ptr + head * D + d).to(tl.float32)
    beta = tl.load(beta_ptr + head * D + d).to(tl.float32)

    q = tl.load(q_ptr + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(q_ptr + place, turned(q, cos, sin, T, D).to(q_ptr.dtype.element_ty), mask=inside)

    k = tl.load(k_ptr + place, mask=inside, other=0.0).to(tl.float32)
    rounded = turned(k, cos, sin, T, D).to(k_ptr.dtype.element_ty)
    tl.store(k_ptr + place, rounded, mask=inside)

    k = rounded.to(tl.float32)  # the target is of the key that the scan sees
    target = tl.load(v_ptr + place, mask=inside, other=0.0).to(tl.float32) - k
    target -= tl.sum(target, 1)[:, None] / D
    spread = tl.sqrt(tl.sum(target * target, 1)[:, None] / (D - 1)) + 1e-8
    target = gamma * (target / spread) + beta
    tl.store(v_ptr + place, (target + k).to(v_ptr.dtype.element_ty), mask=inside)


def finish(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    gamma: torch.Tensor,
    beta: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Overwrite q, k and v as tail.reference says, and return them."""
    q, k, v = (x.contiguous() for x in (q, k, v))
    with torch.cuda.device(q.device) if q.is_cuda else contextlib.nullcontext():
        if q.numel():
            planned(q, k, v, *(x.contiguous() for x in (cos, sin, gamma, beta))).run()
    return q, k, v


def planned(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *tables: torch.Tensor) -> Launch:
    """Return the launch that overwrites q, k and v, all contiguous. tables: cos, sin, gamma, beta."""
    B, S, H, D = q.shape
    names = ("q_ptr", "k_ptr", "v_ptr", "cos_ptr", "sin_ptr", "gamma_ptr", "beta_ptr")
    arguments = {**dict(zip(names, (q, k, v, *tables), strict=True)), "tokens": S, "heads": H, "T": TOKENS, "D": D}
    return Launch(finish_projections, (H, triton.cdiv(S, TOKENS), B), arguments, {"num_warps": WARPS})
