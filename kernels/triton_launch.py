"""Launch the Triton kernels: memory for the results, strides, and how many warps.

What can be launched is decided in dispatch.py; what is computed is in triton_linear.py, triton_mlp.py and
triton_mlp_wide.py; TTT-MLP on a card that it would leave half empty is triton_apart.py's. `planned` says what will be
launched without doing it, so that tests/kernels/offline_compile.py compiles that very kernel for GPUs that are not
here. Importing this file imports Triton.
"""

import contextlib

import torch
from triton import knobs

from . import triton_apart
from .inputs import ScanInputs
from .launch import Launch, options_of
from .state import State
from .triton_linear import STAGES as LINEAR_STAGES
from .triton_linear import WARPS as LINEAR_WARPS
from .triton_linear import scan_linear
from .triton_mlp import STAGES as MLP_STAGES
from .triton_mlp import WARPS as MLP_WARPS
from .triton_mlp import scan_mlp
from .triton_mlp_wide import STAGES as WIDE_STAGES
from .triton_mlp_wide import WARPS as WIDE_WARPS
from .triton_mlp_wide import scan_mlp_wide, slice_rows


def scan(
    inputs: ScanInputs, warps: int | None = None, stages: int | None = None, apart: bool | None = None
) -> tuple[torch.Tensor, State]:
    """Pass over the tokens once, as kernels.scan describes it.

    For benchmarks: warps, stages of the one kernel, else its own; apart: whether TTT-MLP learns and reads by two
    kernels, else where the card has room for it.
    """
    q = inputs.q
    approx = q.dtype != torch.float32 and not knobs.runtime.interpret
    with torch.cuda.device(q.device) if q.is_cuda else contextlib.nullcontext():
        if apart is None:
            apart = q.is_cuda and warps is stages is None and triton_apart.is_worth_it(inputs, _multiprocessors(q))
        major = torch.cuda.get_device_capability(q.device)[0] if q.is_cuda else 0  # 0: interpreted
        if apart:
            beside = triton_apart.SecondStream(q.device) if q.is_cuda else triton_apart.AtOnce()
            return triton_apart.scan(inputs, major, approx, beside)
        launch, out, end = planned(inputs, major, approx, warps, stages)
        launch.run()
    return out, end


def _multiprocessors(x: torch.Tensor) -> int:
    return torch.cuda.get_device_properties(x.device).multi_processor_count


def planned(
    inputs: ScanInputs, major: int, approx: bool, warps: int | None = None, stages: int | None = None
) -> tuple[Launch, torch.Tensor, State]:
    """Return the launch that answers `inputs` on a GPU of compute capability `major`.x, and the tensors that it fills.

    approx: whether tanh may be the hardware's. Nothing is launched, so the tensors may be on the device "meta".
    """
    B, L, H, D = inputs.q.shape
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (inputs.q, inputs.k, inputs.v))
    eta, index, state = inputs.eta, inputs.index, inputs.state
    tokens = L if index is None else index.numel()
    # Every token that the scan visits is written; only an index that leaves some out needs zeros there.
    out = (torch.empty if tokens == L else torch.zeros)((B, L, H, D), dtype=q.dtype, device=q.device)
    start = [x.contiguous() for x in state.tensors()]
    wide = state.is_mlp and D > 64
    end = [x.clone() if wide else torch.empty_like(x) for x in start]  # the wide kernel works in the end state
    arguments = {
        "q_ptr": q, "k_ptr": k, "v_ptr": v, "eta_ptr": eta, "out_ptr": out,
        "index_ptr": None if index is None else index.contiguous(),
        "gamma_ptr": inputs.ln_weight.contiguous(), "beta_ptr": inputs.ln_bias.contiguous(),
        "heads": H, "tokens": tokens, "eps": inputs.eps, "K": inputs.chunk, "D": D,
    }  # fmt: skip
    for name, x in (("q", q), ("k", k), ("v", v), ("eta", eta), ("out", out)):
        for place, stride in zip(("batch", "token", "head"), x.stride(), strict=False):
            arguments[f"{name}_{place}"] = stride
    names = ("W1", "b1", "W2", "b2")
    if wide:
        arguments |= {f"{name}_ptr": x for name, x in zip(names, end, strict=True)}
        arguments |= {"S": slice_rows(major), "APPROX": approx}
        kernel, options = scan_mlp_wide, (WIDE_WARPS, WIDE_STAGES)
    else:
        arguments |= {f"{name}_ptr": x for name, x in zip(names, start, strict=False)}
        arguments |= {f"{name}_out_ptr": x for name, x in zip(names, end, strict=False)}
        kernel, options = scan_linear, (LINEAR_WARPS.get(D, 8), LINEAR_STAGES)
        if state.is_mlp:
            arguments |= {"APPROX": approx, "once": 1}
            kernel, options = scan_mlp, (MLP_WARPS, MLP_STAGES)
    given = options_of(warps or options[0], stages or options[1])
    return Launch(kernel, (B * H,), arguments, given), out, State(*end)
