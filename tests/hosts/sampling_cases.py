"""Sampling settings for the tests of everything that samples."""

import torch

import comfy.samplers

from longreel.hosts.sampling.settings import Sampling


def sampling_of(
    conds: tuple[list, list],
    sigmas: torch.Tensor,
    sampler=None,
    cfg: float = 3.0,
    seed: int = 7,
    add_noise: bool = True,
) -> Sampling:
    """Settings with (positive, negative) CONDITIONING; `sampler` None is core's euler."""
    positive, negative = conds
    return Sampling(
        positive=positive,
        negative=negative,
        sampler=comfy.samplers.sampler_object("euler") if sampler is None else sampler,
        sigmas=sigmas,
        cfg=cfg,
        seed=seed,
        add_noise=add_noise,
    )
