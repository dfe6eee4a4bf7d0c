"""Denoise in alpha space: v-prediction on a variance-preserving scale, from noise (alpha 0) to video (alpha 1).

Sources: DPM-Solver++(2M) SDE (arXiv 2211.01095) and DDIM (arXiv 2010.02502) as CogVideoX, DiTCtrl and ttt-video step
them. Golden tensors of both code bases pin every number, over their own schedule (engine/published/zero_snr.py).

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

SOLVERS = ("dpmpp_2m_sde", "ddim")


@dataclass(frozen=True)
class SolverState:
    """This is what a multistep solver carries from one step to the next: its last prediction and last step in lam."""

    video: torch.Tensor | None = None
    lam_step: float | None = None


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


def drawn(noise: torch.Tensor | None, why: str) -> torch.Tensor:
    """Return the noise of a step that adds some. Raises ValueError where none was drawn; `why`: what asks for it."""
    if noise is None:
        raise ValueError(f"{why} adds fresh noise and none was given; give unit Gaussian noise like the latent")
    return noise


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
    if state.video is not None and state.lam_step is not None:
        ratio = state.lam_step / lam_step
        corrected = (1 + 1 / (2 * ratio)) * video - (1 / (2 * ratio)) * state.video
    # inf * 0 is not a number, and at eta 0 nothing decays beyond the ratio of the two noise shares.
    decay = math.exp(-eta * lam_step) if eta > 0 else 1.0
    out = (noise_of(alpha_next) / noise_of(alpha)) * decay * x
    out = out - math.expm1(-(1 + eta) * lam_step) * alpha_next * corrected
    if eta > 0:
        out = out + noise_of(alpha_next) * math.sqrt(1 - decay * decay) * drawn(noise, f"eta {eta:g}")
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
        out = out + fresh * drawn(noise, f"eta {eta:g}")
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
