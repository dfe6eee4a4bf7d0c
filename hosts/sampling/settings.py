"""Hand what every way of sampling is given along by name, so that no two numbers can change places without a
sound.
"""

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, kw_only=True, eq=False)
class Sampling:
    """These are prompts, solver and numbers of one sampling.

    positive, negative: CONDITIONING. sampler: SAMPLER. sigmas: [N + 1] noise levels, descending. cfg: guidance scale; 1
    leaves the negative prompts out. seed: 0 to 2^64 - 1, of the noise of shots that have no seed of their own, and of
    the cuts of randomized blending. add_noise: False where the latent comes noisy from an earlier sampler.
    """

    positive: list
    negative: list
    sampler: Any
    sigmas: torch.Tensor
    cfg: float
    seed: int
    add_noise: bool = True

    def own_sigmas(self) -> torch.Tensor:
        """Return the sigmas to hand to a sampler: some of core's (uni_pc) write into them, and ComfyUI caches ours."""
        return self.sigmas.clone()
