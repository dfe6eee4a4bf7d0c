"""Clone a MODEL so that its network is never shown the sampler's noise mask as a mask of given pictures.

HunyuanVideo 1.5 and Kandinsky 5 read one channel that is 1 in the frames whose picture the network is given. Core puts
there what a conditioning says (`concat_mask`), and where it says nothing the sampler's noise mask: of all latent
channels, which the network's first layer refuses, and of frames that are noised in every step, whose picture nobody
gives. So where the conditioning says nothing, nothing is given, as in a clip without a mask. Whoever does show a frame
clean says so in the conditioning, or in the channel itself.
"""

import weakref
from functools import partial
from typing import Any

import torch

import comfy.model_base

from ..types import ModelPatcher
from . import family_of

PICTURES = "concat_cond"  # core's name of what makes the channels beside the latent


def clone(model: ModelPatcher) -> ModelPatcher:
    """Return a clone of a ModelPatcher of any family whose network takes noise masks. Raises ValueError as `family_of`
    does.
    """
    cloned = model.clone()
    if family_of(model).reads_noise_mask_amiss(model.model) and PICTURES not in model.object_patches:
        # Held weakly: core puts the patch into the model itself, which would otherwise hold itself.
        cloned.add_object_patch(PICTURES, partial(_without_noise_mask, weakref.ref(model.model)))
    return cloned


def _without_noise_mask(
    model: "weakref.ref[comfy.model_base.BaseModel]", *, denoise_mask: torch.Tensor | None = None, **options: Any
) -> torch.Tensor | None:
    """Return the channels [B, C, F, H, W] beside the latent, as core makes them where there is no noise mask."""
    made_by = model()
    return type(made_by).concat_cond(made_by, **options)
