"""What attention and matrix products cost here, by dtype and by torch's backends, at the sizes of Wan at 832x480x81."""

from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.bench.gpu.timing import device, milliseconds, require_gpu

TOKENS = 32_760
HEADS = {"Wan 1.3B": 12, "Wan 14B": 40}
BACKENDS = ("CUDNN_ATTENTION", "FLASH_ATTENTION", "EFFICIENT_ATTENTION")


def backends(record: Any, rehearse: bool) -> None:
    """Record milliseconds of one self-attention for each backend, or why it cannot."""
    require_gpu(rehearse)
    for name, heads in HEADS.items():
        shape = (1, 2 if rehearse else heads, 128 if rehearse else TOKENS, 128)
        for dtype in (torch.bfloat16, torch.float16):
            q, k, v = (torch.randn(shape, device=device(), dtype=dtype) for _ in range(3))
            for backend in BACKENDS:
                try:
                    with sdpa_kernel(getattr(SDPBackend, backend)):
                        ms = milliseconds(lambda q=q, k=k, v=v: F.scaled_dot_product_attention(q, k, v), 3)
                    found = {"ms": ms, "TFLOP/s": 4 * shape[1] * shape[2] ** 2 * 128 / ms / 1e9}
                except RuntimeError as error:
                    found = {"refused": str(error)[:200]}
                record(f"{name}, {str(dtype)[6:]}, {backend.lower()}", found)


def products(record: Any, rehearse: bool) -> None:
    """Record what products of 8192 and a copy of 4 GB reach: the ceilings of everything else; fp8 last."""
    require_gpu(rehearse)
    n = 256 if rehearse else 8192
    for dtype in (torch.bfloat16, torch.float16):
        a = torch.randn(n, n, device=device(), dtype=dtype)
        ms = milliseconds(lambda a=a: a @ a, 3)
        record(str(dtype)[6:], {"ms": ms, "TFLOP/s": 2 * n**3 / ms / 1e9})
    x = torch.empty(2**20 if rehearse else 2**30, device=device())
    y = torch.empty_like(x)
    record("copy", {"GB/s": 2 * x.nbytes / milliseconds(lambda: y.copy_(x), 3) / 1e6})
    host = torch.empty(2**20 if rehearse else 2**28, pin_memory=torch.cuda.is_available())
    there = host.to(device())
    record("pinned memory to the device", {"GB/s": host.nbytes / milliseconds(lambda: there.copy_(host), 3) / 1e6})
    record("device to pinned memory", {"GB/s": host.nbytes / milliseconds(lambda: host.copy_(there), 3) / 1e6})
    a = torch.randn(n, n, device=device()).to(torch.float8_e4m3fn)
    one = torch.ones((), device=device())
    ms = milliseconds(lambda: torch._scaled_mm(a, a.t(), one, one, out_dtype=torch.bfloat16), 3)
    record("float8_e4m3fn", {"ms": ms, "TFLOP/s": 2 * n**3 / ms / 1e9})
