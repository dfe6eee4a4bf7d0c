"""Offer one scan to every caller, which checks what it is given, picks the backend once, and says why where it cannot.

`reference` is plain torch (reference.py): any device, any dtype, differentiable. `triton` are the NVIDIA kernels
(triton_linear.py, triton_mlp.py, triton_mlp_wide.py): chosen wherever they can run and, at their first use, agree with
the reference (first_use.py). In 16 bits, heads of 64 channels go back by kernels, too (triton_backward.py); what else
gradients are asked for passes forwards alone by a kernel (differentiable.py). The argument `backend`, else the
environment variable LONGREEL_TTT_BACKEND, forces one of them (`compiled` is for tail.py, and the reference here); a
kernel that is forced is not tried first. The maths, and where the tokens come from, are not known here. Triton is
optional and imported when a kernel is first launched.
"""

import importlib.util
import logging
import os
import shutil
from functools import cache

import torch

from . import differentiable, first_use, graphed, reference
from .inputs import ScanInputs
from .state import State

BACKENDS = ("reference", "triton", "compiled")
VARIABLE = "LONGREEL_TTT_BACKEND"
GRAPH = "LONGREEL_TTT_GRAPH"

_graphed = graphed.Graphed()

TRITON_CHUNKS = (16, 64)
TRITON_HEAD_DIMS = (64, 128)
# Of TTT-MLP with float32 tokens, by head dim and chunk, compiled for sm_80, 86, 89 and 120; all else fits every GPU.
# Hopper has 227 KB, enough for its own first two (80 and 128 KB) and too little for its last (512 KB).
TRITON_SHARED_BYTES = {(64, 16): 147456, (64, 64): 131072, (128, 64): 294912}
TRITON_DTYPES = (torch.bfloat16, torch.float16, torch.float32)
BACK_BYTES = 128 * 2**20
TRITON_BACK_DTYPES = (torch.bfloat16, torch.float16)  # learning float32 again takes 260 KB of shared memory on Hopper


def scan(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    eta: torch.Tensor,
    ln_weight: torch.Tensor,
    ln_bias: torch.Tensor,
    state: State,
    chunk: int,
    index: torch.Tensor | None = None,
    eps: float = 1e-6,
    backend: str | None = None,
    checkpoint_every: int = 16,
    check_index: bool = True,
) -> tuple[torch.Tensor, State]:
    """Learn from the tokens chunk by chunk, and read every token out with the weights that its chunk left.

    Source: arXiv 2504.05298, section 3, as trained (one learning rate per token; docs/ttt.md, The inner step).

    q, k, v    [B, L, H, D], any strides. v is the target plus k: the loss is 1/2 || LN(f(k)) - (v - k) ||^2.
    eta        [B, L, H], inner learning rate of each token, already divided by `chunk`; 0 .. base_lr / D / chunk.
    ln_weight, ln_bias  [H, D] of the inner LayerNorm; eps is 1e-6 in the kernels that trained the published weights,
               and 1e-8 in the published PyTorch code.
    state      weights before the first token; float32 (float64 to check gradients).
    chunk      tokens per step of learning, a part of the trained model: 64 for the published MLP, 16 for Linear.
    index      [L'] int32 or int64, each token at most once, or None for 0 .. L - 1: the order of the scan. eta is read
               and out is written at the tokens' own places; places that are not in it stay 0 in out.
    checkpoint_every  chunks between two kept states when gradients are asked for; 0 keeps everything. Kernels that go
               back need less for a chunk than plain torch, and take more of them where they are small.
    check_index  whether the numbers of `index` are looked at, for which the host waits for the device; without, whoever
               calls answers for them: a kernel would read and write foreign memory.

    A last chunk may be short: its missing tokens teach nothing. To stream a long video call this slab by slab, each a
    multiple of `chunk` but the last, and hand each the state of the one before.

    Returns out [B, L, H, D] in q's dtype, q + LN(f(q)), and the state after the last token.
    Raises ValueError for shapes and dtypes that do not fit and for a forced backend that cannot do it.
    """
    inputs = ScanInputs(q, k, v, eta, ln_weight, ln_bias, state, chunk, index, eps)
    _check(inputs, check_index)
    if checkpoint_every < 0:
        raise ValueError(f"checkpoint_every is {checkpoint_every}; use 0 for no checkpoints, or chunks per checkpoint")
    needs_grad = inputs.needs_grad()
    if choose_backend(q, state, chunk, needs_grad, backend) == "triton":
        if not needs_grad and (_forced(backend) or _agrees(inputs)):
            return _by_triton(inputs)
        if needs_grad and (_forced(backend) or (_agrees(inputs) and _agrees_going_back(inputs))):
            every = max(checkpoint_every, _chunks_going_back(inputs)) if checkpoint_every else max(1, q.shape[1])
            return differentiable.scan(inputs, every, _by_triton, _back_by_triton)
    if needs_grad and checkpoint_every and not _forced(backend) and _passes_forwards(inputs):
        return differentiable.scan(inputs, checkpoint_every, _by_triton, _back_in_torch(inputs))
    return reference.scan(inputs, checkpoint_every)


def _agrees(inputs: ScanInputs) -> bool:
    """Return whether the kernel is to be used for such inputs, after a try at first use; say once why not."""
    obstacle = first_use.obstacle(inputs, _by_triton)
    if obstacle is not None:
        _say_once(obstacle)
    return obstacle is None


def _agrees_going_back(inputs: ScanInputs) -> bool:
    """Return whether the kernels of the way back are to be used, likewise."""
    obstacle = first_use.obstacle_going_back(inputs, _back_by_triton)
    if obstacle is not None:
        _say_once(obstacle, "gradients of TTT layers")
    return obstacle is None


def _back_in_torch(inputs: ScanInputs) -> differentiable.Back:
    """Return how plain torch goes back: as a CUDA graph where that is asked for and agrees, else operation by
    operation.
    """
    if os.environ.get(GRAPH) != "1" or not inputs.q.is_cuda:
        return differentiable.by_reference
    obstacle = first_use.obstacle_going_back(inputs, _graphed, GRAPH)
    if obstacle is not None:
        graphs = obstacle.replace("its kernels", f"{GRAPH} was asked for, but CUDA graphs", 1)
        _say_once(graphs, "gradients of TTT layers")
    return _graphed if obstacle is None else differentiable.by_reference


def _passes_forwards(inputs: ScanInputs) -> bool:
    """Return whether the kernel can serve the forward pass of a scan whose gradients are plain torch's."""
    can = choose_backend(inputs.q, inputs.state, inputs.chunk, False) == "triton"
    return can and _agrees(inputs)


def _by_triton(inputs: ScanInputs) -> tuple[torch.Tensor, State]:
    from . import triton_launch

    return triton_launch.scan(inputs)


def _back_by_triton(
    inputs: ScanInputs, above: torch.Tensor, above_state: tuple[torch.Tensor, ...]
) -> tuple[torch.Tensor, ...]:
    if not inputs.q.shape[1]:
        return differentiable.by_reference(inputs, above, above_state)
    from . import triton_backward

    return triton_backward.back(inputs, above, above_state)


def _chunks_going_back(inputs: ScanInputs) -> int:
    """Return of how many chunks `BACK_BYTES` hold the weights and, of TTT-MLP, their gradients."""
    numbers = sum(x.numel() for x in inputs.state.tensors())
    return BACK_BYTES // (numbers * (inputs.q.element_size() + 4 * inputs.state.is_mlp))


def _forced(backend: str | None) -> str | None:
    """Return the backend that the argument or the environment names."""
    return backend or os.environ.get(VARIABLE) or None


def choose_backend(q: torch.Tensor, state: State, chunk: int, needs_grad: bool, backend: str | None = None) -> str:
    """Return the name of the backend that serves these tensors. backend: a forced choice, else LONGREEL_TTT_BACKEND
    decides.

    Raises ValueError where the forced choice is unknown or cannot run here, with the reason.
    """
    forced = _forced(backend)
    if forced not in (None, *BACKENDS):
        raise ValueError(f"unknown TTT backend {forced!r}; use one of {', '.join(BACKENDS)}, or none for the faster")
    if forced in ("reference", "compiled"):  # what is compiled is the tail of the projections (tail.py)
        return "reference"
    obstacle = _triton_obstacle(q, state, chunk, needs_grad)
    if obstacle is None:
        return "triton"
    if forced == "triton":
        raise ValueError(
            f"the TTT backend triton was asked for, but {obstacle}; ask for the backend reference, or none"
        )
    if q.is_cuda and not needs_grad:
        _say_once(obstacle)
    return "reference"


def _triton_obstacle(q: torch.Tensor, state: State, chunk: int, needs_grad: bool) -> str | None:
    """Return why the Triton kernels cannot run this, as the end of a sentence, or None where they can."""
    D = q.shape[-1]
    if needs_grad and D != 64:
        return f"its kernels have a backward pass for head dim 64 alone, not {D}, and a gradient is asked for"
    if D not in TRITON_HEAD_DIMS:
        return f"its kernels are built for head dims {' and '.join(map(str, TRITON_HEAD_DIMS))}, not {D}"
    if state.is_mlp and state.W1.shape[-1] != 4 * D:
        return f"its TTT-MLP kernel is built for a hidden width of {4 * D}, not {state.W1.shape[-1]}"
    if chunk not in TRITON_CHUNKS:
        return f"its kernels are built for chunks of {' and '.join(map(str, TRITON_CHUNKS))}, not {chunk}"
    if q.dtype not in TRITON_DTYPES or state.W1.dtype != torch.float32:
        return f"its kernels take bfloat16, float16 or float32 and a float32 state, not {q.dtype} and {state.W1.dtype}"
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed (pip install triton, triton-windows on Windows)"
    if os.environ.get("TRITON_INTERPRET") == "1":
        if q.dtype == torch.bfloat16:
            return "Triton's interpreter computes bfloat16 wrongly; use float16 or float32 in it"
        return None
    if not q.is_cuda or torch.version.hip:
        return f"its kernels need an NVIDIA GPU and the tensors are on {q.device}"
    major, minor = torch.cuda.get_device_capability(q.device)
    if major < 8:
        return f"its kernels need compute capability 8.0 and this GPU has {major}.{minor}"
    if state.is_mlp and q.dtype == torch.float32 and (D, chunk) in TRITON_SHARED_BYTES:
        needed, there = TRITON_SHARED_BYTES[D, chunk], _shared_bytes(q.device)
        if there < needed:
            return (
                f"its TTT-MLP kernel needs {needed} bytes of shared memory for float32 and this GPU has {there}; "
                f"bfloat16 and float16 need less"
            )
    if needs_grad and q.dtype not in TRITON_BACK_DTYPES:
        return f"its backward pass takes bfloat16 and float16, not {q.dtype}, and a gradient is asked for"
    if os.name == "posix" and not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "Triton finds no C compiler, which it needs to launch a kernel (install gcc)"
    return None


def _shared_bytes(device: torch.device) -> int:
    properties = torch.cuda.get_device_properties(device)
    return properties.shared_memory_per_block_optin  # type: ignore[attr-defined]  # torch's stub leaves it out


@cache
def _say_once(obstacle: str, what: str = "TTT layers") -> None:
    logging.warning("Longreel: %s run on the slower reference: %s", what, obstacle)


def _check(inputs: ScanInputs, look_into_index: bool) -> None:
    """Raise ValueError for the first thing that does not fit, with both numbers."""
    q, state = inputs.q, inputs.state
    if q.dim() != 4:
        raise ValueError(f"q has shape {list(q.shape)}; TTT scans [batch, tokens, heads, head dim]")
    B, L, H, D = q.shape
    M = state.W1.shape[-1]
    shapes = {
        "k": (inputs.k, (B, L, H, D)),
        "v": (inputs.v, (B, L, H, D)),
        "eta": (inputs.eta, (B, L, H)),
        "ln_weight": (inputs.ln_weight, (H, D)),
        "ln_bias": (inputs.ln_bias, (H, D)),
        "state.W1": (state.W1, (B, H, D, M if state.is_mlp else D)),
        "state.b1": (state.b1, (B, H, 1, M)),
    }
    if (state.W2 is None) != (state.b2 is None):
        raise ValueError("the state has only one of W2 and b2; TTT-MLP has both and TTT-Linear neither")
    if state.W2 is not None and state.b2 is not None:
        shapes |= {"state.W2": (state.W2, (B, H, M, D)), "state.b2": (state.b2, (B, H, 1, D))}
    for name, (x, shape) in shapes.items():
        if tuple(x.shape) != shape:
            raise ValueError(f"{name} has shape {list(x.shape)}; with q {list(q.shape)} it must be {list(shape)}")
        if x.device != q.device:
            raise ValueError(f"{name} is on {x.device} and q on {q.device}; move them to one device")
    for name, x in (("k", inputs.k), ("v", inputs.v)):
        if x.dtype != q.dtype:
            raise ValueError(f"{name} is {x.dtype} and q {q.dtype}; cast them to one dtype")
    for x in state.tensors():
        if x.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"a state of {x.dtype} would round the updates away; use float32")
    if inputs.chunk < 1:
        raise ValueError(f"a chunk of {inputs.chunk} tokens is no chunk; use the trained size, 64 or 16")
    if not inputs.eps > 0:
        raise ValueError(f"eps is {inputs.eps}, and a LayerNorm needs one above 0; use 1e-6")
    if inputs.index is not None:
        _check_index(inputs.index, L, look_into_index)


def _check_index(index: torch.Tensor, L: int, look_into: bool) -> None:
    """Refuse an index outside the tokens, which would read foreign memory in a kernel, at the price of one wait."""
    if index.dim() != 1 or index.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"index is {index.dtype} {list(index.shape)}; it must be a row of int32 or int64 numbers")
    if index.numel() == 0 or not look_into:
        return
    lowest, highest = (int(x) for x in index.aminmax())
    if lowest < 0 or highest >= L:
        raise ValueError(f"index runs from {lowest} to {highest}, but the tokens are 0 to {L - 1}")
    most = int(torch.bincount(index, minlength=L).max())
    if most > 1:
        raise ValueError(f"index names a token {most} times; each token has one place in the scan")
