"""Group what every scan is given, so that the check and the backends are handed one thing.

The names are those of arXiv 2504.05298, section 3; shapes and ranges are told at kernels.scan, which alone makes it.
How a scan is computed is not known here.
"""

from dataclasses import dataclass

import torch

from .state import State


@dataclass(frozen=True)
class ScanInputs:
    """The arguments of kernels.scan that decide its result; all shapes, units and ranges stand there."""

    q: torch.Tensor  # [B, L, H, D]
    k: torch.Tensor  # [B, L, H, D]
    v: torch.Tensor  # [B, L, H, D]
    eta: torch.Tensor  # [B, L, H]
    ln_weight: torch.Tensor  # [H, D]
    ln_bias: torch.Tensor  # [H, D]
    state: State  # before the first token
    chunk: int  # tokens
    index: torch.Tensor | None  # [L'], the order of the scan, None for 0 .. L - 1
    eps: float

    def needs_grad(self) -> bool:
        """Return whether a gradient is asked for through any of the tensors."""
        tensors = (self.q, self.k, self.v, self.eta, self.ln_weight, self.ln_bias, *self.state.tensors())
        return torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
