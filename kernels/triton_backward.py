"""Launch the backward pass of TTT-MLP: learn a group of chunks again, go back through its reading, then its learning.

What is kept of a group while it is worked on is the weights before and after each of its chunks, in the tokens' dtype,
and the gradients of these weights in float32, 200 KB a chunk and head of 64 channels in 16 bits. Reading goes back for
all chunks at once, learning from the last to the first. Which groups there are is differentiable.py's business, what
is computed triton_back.py's. Importing this file imports Triton.
"""

import contextlib
from typing import Any

import torch
import triton
from triton import knobs

from . import triton_apart
from .inputs import ScanInputs
from .launch import Launch, options_of
from .triton_back import SLICE, STAGES, WARPS, learn_back_mlp, read_back_mlp

NAMES = triton_apart.NAMES
HEADROOM = 16  # between the gradients of float16 outputs and those of the weights, which many tokens add up to


def back(inputs: ScanInputs, above: torch.Tensor, above_state: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Return the gradients by q, k, v, eta, ln_weight, ln_bias and the four weights before the first token, from those
    by the outputs and by the weights after the last.

    inputs: as kernels.scan takes them, without an order.
    """
    q = inputs.q
    inputs, above = triton_apart.contiguous(inputs), above if above.stride(-1) == 1 else above.contiguous()
    scale = _scale(above, above_state) if q.dtype == torch.float16 else None
    if scale is not None:
        above, above_state = (above * scale).to(q.dtype), tuple(x * scale for x in above_state)
    approx = q.dtype != torch.float32 and not knobs.runtime.interpret
    with torch.cuda.device(q.device) if q.is_cuda else contextlib.nullcontext():
        major = torch.cuda.get_device_capability(q.device)[0] if q.is_cuda else 0  # 0: interpreted
        again, read, learned, found, weights, norm = planned(inputs, above, major, approx)
        again.run()
        read.run()
        for place, x in zip(weights, above_state, strict=True):  # W1 stands transposed
            last = place[:, -1]
            last += (x.mT if place is weights[0] else x).reshape(last.shape)
        learned.run()
    H, D = q.shape[2:]
    of_norm = [x[:, 1:].sum(1).view(-1, H, D).sum(0) for x in norm]
    W1, b1, W2, b2 = (x[:, 0] for x in weights)
    starts = inputs.state.tensors()
    of_state = [x.reshape(like.shape) for x, like in zip((W1.mT, b1, W2, b2), starts, strict=True)]
    if scale is not None:
        found, of_norm, of_state = ([x / scale for x in group] for group in (found, of_norm, of_state))
    tokens = (inputs.q, inputs.k, inputs.v, inputs.eta)
    return *(x.to(like.dtype) for x, like in zip(found, tokens, strict=True)), *of_norm, *of_state


def _scale(above: torch.Tensor, above_state: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Return the power of two, in float32, that brings gradients among float16's numbers, in which they are handed
    on: going back is linear in them.
    """
    largest = torch.stack(
        [HEADROOM * above.abs().amax().float(), *(x.abs().amax().float() for x in above_state)]
    ).amax()
    return torch.where(largest > 0, torch.exp2((-torch.log2(largest).ceil()).clamp(max=100.0)), 1.0)


def planned(
    inputs: ScanInputs, above: torch.Tensor, major: int, approx: bool
) -> tuple[Launch, Launch, Launch, list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]]:
    """Return the launches that learn again, go back through reading, and through learning, and what they fill: the
    gradients by q, k, v and eta; by the weights of each chunk, and by the norm, [programs, chunks + 1, ...].

    Nothing is launched, so the tensors may be on the device "meta". They lie as triton_apart.contiguous makes them.
    """
    B, L, H, D = inputs.q.shape
    chunks = triton.cdiv(L, inputs.chunk)
    kept = triton_apart.room_for(inputs, chunks, inputs.q.dtype)
    weights = triton_apart.room_for(inputs, chunks, torch.float32)
    norm = [torch.empty_like(weights[3]) for _ in range(2)]
    start = list(inputs.state.tensors())
    again = triton_apart.learning(inputs, major, approx, 0, L, start, [torch.empty_like(x) for x in start], kept)
    tokens = (inputs.q, inputs.k, inputs.v, inputs.eta)
    # float16's are still scaled (`_scale`), so they may be small.
    dtypes = [torch.float32 if x.dtype == torch.float16 else x.dtype for x in tokens]
    found = [torch.empty(x.shape, dtype=dtype, device=x.device) for x, dtype in zip(tokens, dtypes, strict=True)]
    both: dict[str, Any] = {
        "gamma_ptr": inputs.ln_weight, "gamma_back_ptr": norm[0], "beta_back_ptr": norm[1],
        "heads": H, "tokens": L, "places": chunks + 1, "eps": inputs.eps, "K": inputs.chunk, "D": D,
        "S": SLICE,
    }  # fmt: skip
    both |= {f"{name}_kept_ptr": x for name, x in zip(NAMES, kept, strict=True)}
    both |= {f"{name}_back_ptr": x for name, x in zip(NAMES, weights, strict=True)}
    of_q, of_k, of_v, of_eta = found
    read = both | triton_apart.placed(q=inputs.q, above=above, q_back=of_q)
    learned = both | triton_apart.placed(
        k=inputs.k, v=inputs.v, eta=inputs.eta, k_back=of_k, v_back=of_v, eta_back=of_eta
    )
    learned |= {"beta_ptr": inputs.ln_bias}
    return (
        again,
        Launch(read_back_mlp, (B * H, chunks), read, options_of(WARPS, STAGES)),
        Launch(learn_back_mlp, (B * H,), learned, options_of(WARPS, STAGES)),
        found,
        weights,
        norm,
    )
