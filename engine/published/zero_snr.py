"""Make the zero-terminal-SNR schedule of CogVideoX, over which DiTCtrl and ttt-video step.

Source: arXiv 2305.08891 (the rescaling) and their public code. Nodes take the sigmas that ComfyUI's scheduler makes and
turn them into alphas (engine/sampling/alpha_space.alpha_of_sigma). How a step is made is not known here.
"""

from dataclasses import dataclass

import torch

TRAINING_STEPS = 1000
BETA_START = 0.00085
BETA_END = 0.012


@dataclass(frozen=True)
class AlphaSchedule:
    """These are a run's noise levels.

    timesteps: N training timesteps, 0..999, descending; what the network is told.
    alphas: N + 1 alphas, ascending from exactly 0 (pure noise) to exactly 1 (the video).
    table: [1000] float32, the alpha of every training timestep, descending from almost 1 to exactly 0.
    """

    timesteps: tuple[int, ...]
    alphas: tuple[float, ...]
    table: torch.Tensor

    def network_alpha(self, alpha: float) -> float:
        """Return the table entry nearest to `alpha`: the level that the network's own conversion from v to
        video uses.
        """
        distance = (self.table - alpha).abs()  # [1000]
        return float(self.table[distance.argmin()])


def zero_snr_schedule(steps: int, shift: float = 1.0) -> AlphaSchedule:
    """Return the zero-terminal-SNR schedule of CogVideoX for a number of steps.

    steps: model evaluations, 1..1000. shift: how far the signal is pushed down; 1.0 for CogVideoX-5B and ttt-video,
    3.0 for CogVideoX-2B and DiTCtrl. The rescaling runs over the *selected* timesteps, as the published code does.
    Raises ValueError for steps or a shift outside their range.
    """
    if not 1 <= steps <= TRAINING_STEPS:
        raise ValueError(f"{steps} steps is outside 1..{TRAINING_STEPS}; use 50")
    if shift <= 0:
        raise ValueError(f"shift {shift} is not above 0; use 1.0 (5B) or 3.0 (2B)")
    betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, TRAINING_STEPS, dtype=torch.float64) ** 2
    signal = torch.cumprod(1 - betas, dim=0)  # [1000] alpha squared
    signal = signal / (shift + (1 - shift) * signal)
    stride = -(TRAINING_STEPS - 1) / steps
    timesteps = [int(i * stride + (TRAINING_STEPS - 1)) for i in range(steps)]
    ascending = torch.tensor(timesteps[::-1])
    # One level leaves nothing to rescale against: it is the pure noise itself.
    alphas = [0.0] if steps == 1 else _rescaled(signal[ascending]).flip(0).tolist()
    return AlphaSchedule(tuple(timesteps), (*alphas, 1.0), _rescaled(signal))


def _rescaled(signal: torch.Tensor) -> torch.Tensor:
    """Return the square root of `signal` [N], stretched so that its last entry is 0 and its first stays; float32,
    descending.
    """
    alphas = signal.float().sqrt()  # rounded before the root, as the published tables are
    first, last = alphas[0].clone(), alphas[-1].clone()
    return (alphas - last) * (first / (first - last))
