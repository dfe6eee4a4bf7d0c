"""Launch the backward pass of a group of chunks: it is learned again, and its reading and learning gone back through.

TTT-MLP is learned again by the kernel that learns apart, its reading goes back for all chunks at once, and its learning
from the last to the first; of each chunk and head of 64 channels the weights are kept meanwhile, in the tokens' dtype,
and their gradients, in float32, 200 KB in 16 bits. TTT-Linear does all in one kernel, and keeps 8 KB. Which groups
there are is differentiable.py's business, what is computed triton_back.py's and triton_linear_back.py's. Importing this
file imports Triton.
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
from .triton_linear_back import STAGES as LINEAR_STAGES
from .triton_linear_back import WARPS as LINEAR_WARPS
from .triton_linear_back import back_linear

NAMES = triton_apart.NAMES
HEADROOM = 16  # between the gradients of float16 outputs and those of the weights, which many tokens add up to


Tensors = tuple[torch.Tensor, ...]
Found = list[torch.Tensor]


def back(inputs: ScanInputs, above: torch.Tensor, above_state: Tensors) -> Tensors:
    """Return the gradients by q, k, v, eta, ln_weight, ln_bias and the weights before the first token, from those
    by the outputs and by the weights after the last.

    inputs: as kernels.scan takes them, without an order.
    """
    q = inputs.q
    inputs, above = triton_apart.contiguous(inputs), above if above.stride(-1) == 1 else above.contiguous()
    scale = _scale(above, above_state) if q.dtype == torch.float16 else None
    if scale is not None:
        above, above_state = (above * scale).to(q.dtype), tuple(x * scale for x in above_state)
    with torch.cuda.device(q.device) if q.is_cuda else contextlib.nullcontext():
        found, of_norm, of_state = (_mlp if inputs.state.is_mlp else _linear)(inputs, above, above_state)
    of_norm = [x.view(-1, *q.shape[2:]).sum(0) for x in of_norm]
    of_state = [x.reshape(like.shape) for x, like in zip(of_state, inputs.state.tensors(), strict=True)]
    if scale is not None:
        found, of_norm, of_state = ([x / scale for x in group] for group in (found, of_norm, of_state))
    tokens = (inputs.q, inputs.k, inputs.v, inputs.eta)
    return *(x.to(like.dtype) for x, like in zip(found, tokens, strict=True)), *of_norm, *of_state


def _mlp(inputs: ScanInputs, above: torch.Tensor, above_state: Tensors) -> tuple[Found, Found, Found]:
    """Return the gradients by q, k, v and eta, by the norm of each program, and by the weights before."""
    q = inputs.q
    approx = q.dtype != torch.float32 and not knobs.runtime.interpret
    major = torch.cuda.get_device_capability(q.device)[0] if q.is_cuda else 0  # 0: interpreted
    again, read, learned, found, weights, norm = planned(inputs, above, major, approx)
    again.run()
    read.run()
    for place, x in zip(weights, above_state, strict=True):  # W1 stands transposed
        last = place[:, -1]
        last += (x.mT if place is weights[0] else x).reshape(last.shape)
    learned.run()
    W1, b1, W2, b2 = (x[:, 0] for x in weights)
    return found, [x.sum(1) for x in norm], [W1.mT, b1, W2, b2]


def _linear(inputs: ScanInputs, above: torch.Tensor, above_state: Tensors) -> tuple[Found, Found, Found]:
    launch, found, weights, norm = planned_linear(inputs, above)
    for place, x in zip(weights, above_state, strict=True):
        place.copy_(x)
    launch.run()
    return found, norm, weights


def _scale(above: torch.Tensor, above_state: Tensors) -> torch.Tensor:
    """Return the power of two, in float32, that brings gradients among float16's numbers, in which they are handed
    on: going back is linear in them.
    """
    largest = torch.stack(
        [HEADROOM * above.abs().amax().float(), *(x.abs().amax().float() for x in above_state)]
    ).amax()
    return torch.where(largest > 0, torch.exp2((-torch.log2(largest).ceil()).clamp(max=100.0)), 1.0)


def planned(
    inputs: ScanInputs, above: torch.Tensor, major: int, approx: bool
) -> tuple[Launch, Launch, Launch, Found, Found, Found]:
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
    found = _room_for_tokens(inputs)
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


def planned_linear(inputs: ScanInputs, above: torch.Tensor) -> tuple[Launch, Found, Found, Found]:
    """Return the launch of TTT-Linear and what it fills, as `planned`; the weights' gradients, shaped like these, are
    those after the last token before it is run, and those before the first token after it.
    """
    B, L, H, D = inputs.q.shape
    W1, b1 = inputs.state.tensors()
    chunks = triton.cdiv(L, inputs.chunk)
    found, device = _room_for_tokens(inputs), inputs.q.device
    weights = [torch.empty(x.shape, dtype=x.dtype, device=device) for x in (W1, b1)]
    norm = [torch.empty(B * H, D, device=device) for _ in range(2)]
    of_q, of_k, of_v, of_eta = found
    arguments = triton_apart.placed(
        q=inputs.q, k=inputs.k, v=inputs.v, eta=inputs.eta, above=above,
        q_back=of_q, k_back=of_k, v_back=of_v, eta_back=of_eta,
    ) | {
        "gamma_ptr": inputs.ln_weight, "beta_ptr": inputs.ln_bias, "gamma_back_ptr": norm[0], "beta_back_ptr": norm[1],
        "W1_ptr": W1, "b1_ptr": b1, "W1_back_ptr": weights[0], "b1_back_ptr": weights[1],
        "W1_kept_ptr": torch.empty(B * H, chunks, D, D, dtype=inputs.q.dtype, device=device),
        "b1_kept_ptr": torch.empty(B * H, chunks, D, device=device),
        "heads": H, "tokens": L, "places": chunks, "eps": inputs.eps, "K": inputs.chunk, "D": D,
    }  # fmt: skip
    return Launch(back_linear, (B * H,), arguments, options_of(LINEAR_WARPS, LINEAR_STAGES)), found, weights, norm


def _room_for_tokens(inputs: ScanInputs) -> Found:
    """Return memory for the gradients by q, k, v and eta: in float32 those of float16 tokens, which are still scaled
    (`_scale`), so that they may be small.
    """
    tokens = (inputs.q, inputs.k, inputs.v, inputs.eta)
    dtypes = [torch.float32 if x.dtype == torch.float16 else x.dtype for x in tokens]
    return [torch.empty(x.shape, dtype=dtype, device=x.device) for x, dtype in zip(tokens, dtypes, strict=True)]
