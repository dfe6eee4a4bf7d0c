"""Say what a denoising network is trained on: how a clean latent is made noisy, and what the network should say of it.

Two kinds. Flow matching (Wan, HunyuanVideo, LTXV): arXiv 2210.02747, with the shift towards noise of arXiv 2403.03206.
v-prediction (CogVideoX): arXiv 2202.00512 on the table of engine/sampling/alpha_space.py; One-Minute Video Generation
with Test-Time Training (arXiv 2504.05298) writes its loss in the form of the clean latent,

    x0_hat = alpha x_t - sqrt(1 - alpha^2) v_hat        loss = mean((x0_hat - x0)^2) / (1 - alpha^2)

which is mean((v_hat - v)^2), and stays finite where alpha is 1. The weight of every level is 1 in both. What network
predicts, and on what text, is not known here.
"""

from dataclasses import dataclass

import torch


def _per_video(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return [B] as [B, 1, 1, ...] with the dtype and device of `like` [B, ...]."""
    return values.to(like).view(-1, *(1,) * (like.dim() - 1))


@dataclass(frozen=True)
class FlowMatching:
    """Train on flow matching, whose levels are sigmas, the share of noise, in (0, 1). shift: above 0; how far levels
    are pushed towards noise, 1 for not at all. uniform_share: 0..1; of the levels that are drawn evenly, the others are
    logit-normal.

    Raises ValueError for numbers out of range.
    """

    shift: float = 1.0
    uniform_share: float = 0.3

    def __post_init__(self) -> None:
        if not self.shift > 0:
            raise ValueError(f"shift is {self.shift:g}, not above 0; use the model's own, 1 for none")
        if not 0 <= self.uniform_share <= 1:
            raise ValueError(f"uniform_share is {self.uniform_share:g}, not 0 to 1; use 0.3")

    def draw_levels(self, generator: torch.Generator, batch: int) -> torch.Tensor:
        """Return [batch] float32 sigmas, spread evenly over the batch's quantiles (stratified), in random order."""
        normal = torch.sigmoid(torch.special.ndtri(_strata(generator, batch)))
        even = _strata(generator, batch)
        pick = torch.rand(batch, generator=generator) < self.uniform_share
        u = torch.where(pick, even, normal)
        return (self.shift * u / (1 + (self.shift - 1) * u)).clamp(1e-3, 1 - 1e-4)

    def noise(self, clean: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        """Return what the network sees, like clean: clean, noise [B, C, F, H, W], levels [B]."""
        sigma = _per_video(levels, clean)
        return sigma * noise + (1 - sigma) * clean

    def target(self, clean: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        """Return the velocity from video to noise, the same at every level."""
        return noise - clean

    def descent(self, steps: int) -> list[float]:
        """Return `steps` + 1 levels from noise to video."""
        return [self.shift * u / (1 + (self.shift - 1) * u) for u in (1 - step / steps for step in range(steps + 1))]

    def step(self, noised: torch.Tensor, said: torch.Tensor, level: float, to: float) -> torch.Tensor:
        """Take a step of Euler's method: what is noised at `level`, with what the network said of it, at the level
        `to`.
        """
        return noised + (to - level) * said


@dataclass(frozen=True)
class VPrediction:
    """Train on v-prediction, whose levels are training timesteps, 0 to len(alphas) - 1. alphas [T]: of
    engine/published/zero_snr.AlphaSchedule.table, descending, in [0, 1].

    Raises ValueError where the table does not descend within 0..1.
    """

    alphas: torch.Tensor

    def __post_init__(self) -> None:
        ends = float(self.alphas[0]), float(self.alphas[-1])
        if not (1 >= ends[0] > ends[1] >= 0 and bool((self.alphas.diff() <= 0).all())):
            raise ValueError(
                f"alphas run from {ends[0]:g} to {ends[1]:g}; they must descend within 1 to 0, from video to noise"
            )

    def draw_levels(self, generator: torch.Generator, batch: int) -> torch.Tensor:
        """Return [batch] float32 whole timesteps, spread evenly over the table (stratified), in random order."""
        return (_strata(generator, batch) * len(self.alphas)).floor().clamp(max=len(self.alphas) - 1)

    def noise(self, clean: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        """Return what the network sees, like clean: clean, noise [B, C, F, H, W], levels [B]."""
        alpha, sigma = self._scales(clean, levels)
        return alpha * clean + sigma * noise

    def target(self, clean: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        """Return v, like clean."""
        alpha, sigma = self._scales(clean, levels)
        return alpha * noise - sigma * clean

    def descent(self, steps: int) -> list[float]:
        """Return `steps` + 1 levels from noise to video; the last one, -1, is the video itself."""
        last = len(self.alphas) - 1
        return [float(round(last * (1 - step / steps))) for step in range(steps)] + [-1.0]

    def step(self, noised: torch.Tensor, said: torch.Tensor, level: float, to: float) -> torch.Tensor:
        """Take a step of DDIM without noise (arXiv 2010.02502): from `level` to the level `to`."""
        alpha, then = (1.0 if one < 0 else float(self.alphas[int(one)]) for one in (level, to))
        sigma = (1 - alpha**2) ** 0.5
        clean, noise = alpha * noised - sigma * said, sigma * noised + alpha * said
        return then * clean + (1 - then**2) ** 0.5 * noise

    def _scales(self, clean: torch.Tensor, levels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        alpha = self.alphas.to(levels.device)[levels.long()].double()
        return _per_video(alpha, clean), _per_video((1 - alpha**2).sqrt(), clean)


def loss_per_video(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the mean squared error of each video, in float32: [B, C, F, H, W] twice -> [B]."""
    return (prediction.float() - target.float()).square().flatten(1).mean(1)


def _strata(generator: torch.Generator, batch: int) -> torch.Tensor:
    """Return [batch] in (0, 1), one in each of `batch` equal parts, in random order."""
    order = torch.randperm(batch, generator=generator)
    return ((order + torch.rand(batch, generator=generator)) / batch).clamp(1e-6, 1 - 1e-6)
