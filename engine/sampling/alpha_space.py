"""Denoise in alpha space: v-prediction on a variance-preserving scale, from noise (alpha 0) to video (alpha 1).

Sources: DPM-Solver++(2M) SDE (arXiv 2211.01095) and DDIM (arXiv 2010.02502) as CogVideoX, DiTCtrl and ttt-video step
them; the zero-terminal-SNR rescaling is arXiv 2305.08891. Golden tensors of both code bases pin every number.

    x = alpha * video + sqrt(1 - alpha^2) * noise        alpha = sqrt(cumulative product of 1 - beta), in [0, 1]
    v = alpha * noise - sqrt(1 - alpha^2) * video        what the network predicts
    lam = log(alpha / sqrt(1 - alpha^2))                 the solvers' clock; -inf for pure noise, +inf for the video

Nothing here knows how a prediction is made (guidance, windows, masks): `sample` asks `denoise` for it. Tensors may have
any layout, since every operation is elementwise; scalars stay Python floats, so no device decides their rounding.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

TRAINING_STEPS = 1000
BETA_START = 0.00085
BETA_END = 0.012
SOLVERS = ("dpmpp_2m_sde", "ddim")


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


@dataclass(frozen=True)
class SolverState:
    """This is what a multistep solver carries from one step to the next: its last prediction and last step in lam."""

    video: torch.Tensor | None = None
    lam_step: float | None = None


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


def alpha_of_sigma(sigma: float) -> float:
    """Return the alpha of a noise level written as k-diffusion and ComfyUI write it: sigma = sqrt(1 - alpha^2)
    / alpha.
    """
    return 1.0 / math.sqrt(1.0 + sigma * sigma)


def noise_of(alpha: float) -> float:
    """Return the noise's share of x at `alpha`: sqrt(1 - alpha^2), the sigma of the variance-preserving scale."""
    return math.sqrt(max(0.0, 1.0 - alpha * alpha))


def add_noise(video: torch.Tensor, noise: torch.Tensor, alpha: float) -> torch.Tensor:
    """Return a clean video put at level `alpha`: alpha * video + sqrt(1 - alpha^2) * noise."""
    return alpha * video + noise_of(alpha) * noise


def video_from_v(x: torch.Tensor, v: torch.Tensor, alpha: float) -> torch.Tensor:
    """Return the clean video that a v-prediction at level `alpha` means."""
    return alpha * x - noise_of(alpha) * v


def guide(negative: torch.Tensor, positive: torch.Tensor, scale: float) -> torch.Tensor:
    """Apply classifier-free guidance: scale 0 is the negative prediction, 1 the positive one."""
    return negative + scale * (positive - negative)


def dynamic_guidance(scale: float, timestep: float, steps: int, exponent: float = 5.0) -> float:
    """Return the guidance scale of one step as the published code computes it, in [1, 1 + scale].

    The code puts the raw training timestep (999..0) where its documentation has the step's index, so the value jumps
    about instead of rising; checkpoints sampled with it look as published only with the jumps. See `rising_guidance`.
    """
    return 1 + scale * (1 - math.cos(math.pi * ((steps - timestep) / steps) ** exponent)) / 2


def rising_guidance(scale: float, step: int, steps: int, exponent: float = 5.0) -> float:
    """Return the guidance scale of one step as the documentation of the same code describes it: from 1 up towards 1 +
    scale.
    """
    return dynamic_guidance(scale, steps - step, steps, exponent)


def lam_of(alpha: float) -> float:
    """Return half the log signal-to-noise ratio, the solvers' clock: -inf for pure noise, +inf for the video."""
    if alpha <= 0.0:
        return -math.inf
    share = noise_of(alpha)
    return math.inf if share == 0.0 else math.log(alpha / share)


def step_dpmpp_2m_sde(
    x: torch.Tensor,
    video: torch.Tensor,
    noise: torch.Tensor | None,
    alpha: float,
    alpha_next: float,
    state: SolverState,
    eta: float = 1.0,
) -> tuple[torch.Tensor, SolverState]:
    """Take one step of DPM-Solver++(2M) from `alpha` to `alpha_next` (both below 1).

    video: the prediction at `alpha`. noise: unit Gaussian like x, or None when eta is 0. eta: 1.0 is the published
    stochastic solver, 0.0 its deterministic form. From pure noise with eta 1, x is replaced entirely by fresh noise.
    """
    lam_step = lam_of(alpha_next) - lam_of(alpha)  # +inf out of pure noise
    corrected = video
    if state.video is not None:
        ratio = state.lam_step / lam_step
        corrected = (1 + 1 / (2 * ratio)) * video - (1 / (2 * ratio)) * state.video
    # inf * 0 is not a number, and at eta 0 nothing decays beyond the ratio of the two noise shares.
    decay = math.exp(-eta * lam_step) if eta > 0 else 1.0
    out = (noise_of(alpha_next) / noise_of(alpha)) * decay * x
    out = out - math.expm1(-(1 + eta) * lam_step) * alpha_next * corrected
    if eta > 0:
        out = out + noise_of(alpha_next) * math.sqrt(1 - decay * decay) * noise
    return out, SolverState(video, lam_step)


def step_ddim(
    x: torch.Tensor,
    video: torch.Tensor,
    noise: torch.Tensor | None,
    alpha: float,
    alpha_next: float,
    state: SolverState,
    eta: float = 0.0,
) -> tuple[torch.Tensor, SolverState]:
    """Take one step of DDIM from `alpha` to `alpha_next` (both below 1): the same video, the same noise, another mix.

    eta: 0.0 is deterministic, 1.0 is ancestral (DDPM). noise: unit Gaussian like x, or None when eta is 0.
    """
    share, share_next = noise_of(alpha), noise_of(alpha_next)
    kept_noise = (x - alpha * video) / share
    fresh = eta * (share_next / share) * math.sqrt(max(0.0, 1 - (alpha / alpha_next) ** 2))
    out = alpha_next * video + math.sqrt(max(0.0, share_next**2 - fresh**2)) * kept_noise
    if eta > 0:
        out = out + fresh * noise
    return out, state


_STEPS = {"dpmpp_2m_sde": step_dpmpp_2m_sde, "ddim": step_ddim}


def sample(
    x: torch.Tensor,
    alphas: Sequence[float],
    levels: Sequence,
    denoise: Callable[[torch.Tensor, float, object], torch.Tensor],
    noise: Callable[[int], torch.Tensor],
    solver: str = "dpmpp_2m_sde",
    eta: float = 1.0,
    callback: Callable[[int, torch.Tensor, torch.Tensor], None] | None = None,
) -> torch.Tensor:
    """Denoise x along `alphas`.

    x: any shape, at level alphas[0]. alphas: N + 1 values, ascending in [0, 1]. levels: N values, handed to `denoise`
    as the network's own name of each level (a timestep, a sigma). denoise(x, alpha, level) -> video, like x.
    noise(step) -> unit Gaussian like x; asked only for steps that use one. eta: 0..1, share of fresh noise.
    callback(step, video, x): after the prediction of a step, before x moves.
    Returns x at alphas[-1]; where that is 1, the last prediction itself. Raises ValueError on levels that cannot run.
    """
    _check(alphas, levels, solver, eta)
    state = SolverState()
    for step, level in enumerate(levels):
        alpha, alpha_next = alphas[step], alphas[step + 1]
        video = denoise(x, alpha, level)
        if callback is not None:
            callback(step, video, x)
        if alpha_next >= 1.0:
            x = video
            continue
        fresh = noise(step) if eta > 0 else None
        x, state = _STEPS[solver](x, video, fresh, alpha, alpha_next, state, eta=eta)
    return x


def _check(alphas: Sequence[float], levels: Sequence, solver: str, eta: float) -> None:
    if solver not in _STEPS:
        raise ValueError(f"solver '{solver}' is not one of {', '.join(SOLVERS)}")
    if len(alphas) != len(levels) + 1:
        raise ValueError(f"{len(levels)} levels need {len(levels) + 1} alphas, got {len(alphas)}")
    if not 0.0 <= eta <= 1.0:
        raise ValueError(f"eta {eta} is outside 0..1; 1 is the published SDE, 0 is deterministic")
    for before, after in itertools.pairwise(alphas):
        if not 0.0 <= before < after <= 1.0:
            raise ValueError(f"alphas must rise within 0..1, but {after:.6g} follows {before:.6g}; sort the sigmas")
