"""Sample one schedule with two models, as Wan 2.2 14B does: which of them takes which steps, what the first one hands
to the second, and whether the second would refuse, asked before the first begins.

Core's templates do it with two samplers: the first adds noise and returns what is left of it, the second adds none. The
numbers here are the same where nothing is kept. Where a mask or an anchor keeps something, the second sampler of such a
pair finds the first one's noise in its place; here it finds the clean latent.
"""

from dataclasses import dataclass
from typing import Any

import torch

import comfy.model_sampling
import comfy.patcher_extension as extension
import comfy.samplers

from .. import keys
from ..anchor import frame as anchor_frame
from ..types import Executor, ModelPatcher
from .settings import Sampling

WAN_22_EXPERTS_MEET = 0.875  # noise level; Wan 2.2 T2V's own
HIGH_NOISE, LOW_NOISE = "high-noise expert", "low-noise expert"
MAY_REFUSE = (keys.ANCHORS, keys.TAP, keys.LATENT_BLEND)  # but not Prompt Edit's, which samples an original


@dataclass(frozen=True)
class Experts:
    """These are the models of one schedule.

    low: takes the steps that begin below noise level `meet`, 0..1; None where there is one model.
    """

    high: Any
    low: Any
    meet: float

    def parts(self, sigmas: torch.Tensor) -> list[tuple[Any, torch.Tensor]]:
        """Return (model, its sigmas) for each that has steps; neighbours share the level at which they meet."""
        if self.low is None:
            return [(self.high, sigmas)]
        first_low = int((sigmas[:-1] >= self.meet).sum())
        parts = [(self.high, sigmas[: first_low + 1]), (self.low, sigmas[first_low:])]
        return [(model, part) for model, part in parts if len(part) > 1]

    def name_of(self, model: ModelPatcher) -> str:
        """Return as what people know one of the two; nothing where there is one."""
        return "" if self.low is None else LOW_NOISE if model is self.low else HIGH_NOISE

    def check(self) -> None:
        """Raise ValueError for two that cannot share a schedule, or of which one lacks the other's anchors."""
        if self.low is None:
            return
        if not isinstance(self.low.get_model_object("model_sampling"), comfy.model_sampling.CONST):
            raise ValueError(
                f"{type(self.low.model).__name__} is no flow model, and only flow models share a schedule between two "
                f"experts (Wan 2.2 14B); leave low_noise_model unwired"
            )
        anchor_frame.check_experts(self.high, self.low)


def noise_within(
    out: torch.Tensor,
    latent: torch.Tensor,
    noise: torch.Tensor,
    mask: torch.Tensor | None,
    sigma: float,
    model: ModelPatcher,
) -> torch.Tensor:
    """Return the noise with which `latent` is what the first expert left at `sigma`, all [B, C, F, H, W].

    So the second expert goes on from there while the mask still finds the clean latent beside it. What a mask between 0
    and 1 keeps by half is held against this noise from here on, where one model would hold it against its own.
    """
    inner = model.model
    clean = inner.process_latent_in(latent) if latent.count_nonzero() else latent
    left = (1 - sigma) * inner.process_latent_in(out.to(latent)) - (1 - sigma) * clean
    within = left / (sigma * getattr(inner.model_sampling, "noise_scale", 1.0))
    return within if mask is None else torch.where(mask > 0, within, noise)


def ask(
    model: ModelPatcher,
    conds: tuple[list, list],
    sampling: Sampling,
    sigmas: torch.Tensor,
    inputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None],
) -> None:
    """Raise what a run of `model` would be refused with, by its features or for its memory; nothing is loaded.

    conds: (positive, negative). inputs: (noise, latent, mask) of the sampler, [B, C, F, H, W] each.
    """
    noise, latent, mask = inputs
    asked = model.clone()
    around = asked.wrappers.get(extension.WrappersMP.OUTER_SAMPLE, {})
    own = {key: wrappers for key, wrappers in around.items() if key in MAY_REFUSE}
    asked.wrappers[extension.WrappersMP.OUTER_SAMPLE] = {**own, keys.ASKED: [_stop]}
    guider = comfy.samplers.CFGGuider(asked)
    guider.set_conds(*conds)
    guider.set_cfg(sampling.cfg)
    guider.sample(noise, latent, sampling.sampler, sigmas.clone(), denoise_mask=mask, seed=sampling.seed)


def _stop(executor: Executor, noise: torch.Tensor, latent_image: torch.Tensor, *args, **kwargs) -> torch.Tensor:
    """Wrap OUTER_SAMPLE, inside all others: nobody refused, and nothing is sampled."""
    return latent_image
