"""Launch the Triton kernels: memory for the results, strides, and how many warps.

What can be launched is decided in dispatch.py; what is computed is in triton_linear.py, triton_mlp.py and
triton_mlp_wide.py. Importing this file imports Triton.
"""

import contextlib

import torch
from triton import knobs

from .inputs import ScanInputs
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


def scan(inputs: ScanInputs, warps: int | None = None, stages: int | None = None) -> tuple[torch.Tensor, State]:
    """Pass over the tokens once, as kernels.scan describes it. warps, stages: for benchmarks; else the kernel's."""
    B, L, H, D = inputs.q.shape
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (inputs.q, inputs.k, inputs.v))
    eta, index, state = inputs.eta, inputs.index, inputs.state
    tokens = L if index is None else index.numel()
    # Every token that the scan visits is written; only an index that leaves some out needs zeros there.
    out = (torch.empty if tokens == L else torch.zeros)((B, L, H, D), dtype=q.dtype, device=q.device)
    start = [x.contiguous() for x in state.tensors()]
    wide = state.is_mlp and D > 64
    end = [x.clone() if wide else torch.empty_like(x) for x in start]  # the wide kernel works in the end state
    strides = [stride for x in (q, k, v, eta, out) for stride in x.stride()[:3]]
    index = None if index is None else index.contiguous()
    weights = (*end,) if wide else (*start, *end)
    tensors = (q, k, v, eta, out, index, inputs.ln_weight.contiguous(), inputs.ln_bias.contiguous(), *weights)
    shape = {"heads": H, "tokens": tokens, "eps": inputs.eps, "K": inputs.chunk, "D": D}
    with torch.cuda.device(q.device) if q.is_cuda else contextlib.nullcontext():
        approx = q.dtype != torch.float32 and not knobs.runtime.interpret
        if wide:
            major = torch.cuda.get_device_capability(q.device)[0] if q.is_cuda else 0  # 0: interpreted
            scan_mlp_wide[(B * H,)](
                *tensors, *strides, **shape, S=slice_rows(major), APPROX=approx,
                num_warps=warps or WIDE_WARPS, num_stages=stages or WIDE_STAGES,
            )  # fmt: skip
        elif state.is_mlp:
            scan_mlp[(B * H,)](
                *tensors, *strides, **shape, APPROX=approx,
                num_warps=warps or MLP_WARPS, num_stages=stages or MLP_STAGES,
            )  # fmt: skip
        else:
            scan_linear[(B * H,)](
                *tensors, *strides, **shape, num_warps=warps or LINEAR_WARPS[D], num_stages=stages or LINEAR_STAGES
            )
    return out, State(*end)
