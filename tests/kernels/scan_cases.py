"""Random inputs of a scan as a TTT layer makes them: unit queries and keys, a start, learning rates that matter."""

from typing import Any

import torch

from longreel.kernels import State


def scan_case(
    mlp: bool,
    B: int = 1,
    L: int = 24,
    H: int = 2,
    D: int = 8,
    chunk: int = 8,
    M: int | None = None,
    dtype: torch.dtype = torch.float32,
    state_dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> dict[str, Any]:
    """The arguments of kernels.scan by name. The inner updates change the outputs by about as much as they are."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    M = M or (4 * D if mlp else D)
    weights = [0.3 * normal(B, H, D, M) / D**0.5, 0.1 * normal(B, H, 1, M)]
    if mlp:
        weights += [normal(B, H, M, D) / M**0.5, 0.1 * normal(B, H, 1, D)]
    strength = 0.5 if mlp else 1.0
    return {
        "q": torch.nn.functional.normalize(normal(B, L, H, D), dim=-1).to(dtype),
        "k": torch.nn.functional.normalize(normal(B, L, H, D), dim=-1).to(dtype),
        "v": normal(B, L, H, D).to(dtype),
        "eta": (strength * torch.sigmoid(normal(B, L, H)) / chunk).to(state_dtype),
        "ln_weight": (1 + 0.1 * normal(H, D)).to(state_dtype),
        "ln_bias": (0.1 * normal(H, D)).to(state_dtype),
        "state": State(*(x.to(state_dtype) for x in weights)),
        "chunk": chunk,
    }


def in_double(case: dict[str, Any]) -> dict[str, Any]:
    """The same case in float64."""
    double = {name: x.double() if isinstance(x, torch.Tensor) else x for name, x in case.items()}
    return double | {"state": State(*(x.double() for x in case["state"].tensors()))}


def relative_error(got: torch.Tensor, want: torch.Tensor) -> float:
    """|| got - want || / || want ||; NaN where got has one."""
    return ((got.double() - want.double()).norm() / want.double().norm()).item()
