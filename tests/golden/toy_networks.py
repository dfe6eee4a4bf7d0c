"""The toy networks that stood in for the real ones when the golden tensors were recorded.

Their formulas are those of the READMEs beside the tensors; a test's input, not a part of what is tested.
"""

import torch


def ttt_velocity(x: torch.Tensor, text: torch.Tensor, timestep: int, matrix: torch.Tensor) -> torch.Tensor:
    """ttt/sampler_: x [B, T, C, H, W], matrix [C, C] -> v like x."""
    return torch.tanh(torch.einsum("btchw,cd->btdhw", x, matrix)) + 0.1 * text.mean() + 0.001 * timestep


def ditctrl_velocity(x: torch.Tensor, text: torch.Tensor, timestep: int, toy: dict) -> torch.Tensor:
    """ditctrl/a2_ and a3_: x [4, L, C, H, W], text [4, tokens, width], rows u_source, u_target, c_source, c_target."""
    per_row = text.mean(dim=(-2, -1)).view(-1, 1, 1, 1, 1)
    v = toy["a"] * x + toy["b"] * per_row + toy["c"] * timestep / 1000
    v[1] = v[1] + toy["s"] * x[0].mean()  # the target rows see their source, as with shared K/V
    v[3] = v[3] + toy["s"] * x[2].mean()
    return v


def streaming_velocity(x: torch.Tensor, condition: float) -> torch.Tensor:
    """streamingt2v/blend_x0_: x [B, C, F, H, W] -> v like x."""
    ramp = torch.linspace(-1, 1, x.shape[2]).view(1, 1, -1, 1, 1)
    return 0.7 * (1 + condition) * torch.tanh(x) + 0.3 * x.mean(dim=2, keepdim=True) + 0.1 * ramp + condition


def enhancer_noise(x: torch.Tensor, condition: float, timestep: int) -> torch.Tensor:
    """streamingt2v/blend_xprev_ddim: x [B, C, F, H, W] -> noise like x."""
    ramp = torch.linspace(-1, 1, x.shape[2]).view(1, 1, -1, 1, 1)
    of_frames = 0.25 * x.mean(dim=2, keepdim=True) + 0.1 * ramp
    return 0.8 * (1 + condition) * torch.tanh(x) + of_frames + 1e-4 * timestep + condition
