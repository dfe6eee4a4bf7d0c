"""Wan 2.1 and 2.2 (1.3B, 14B with its two experts, 5B): facts. Layout in comfy/ldm/wan/model.py."""

import comfy.model_base

from ..engine.facts import ModelFacts
from .sites import CROSS, SELF, Site

NAME = "Wan 2.1/2.2"


def facts(model: comfy.model_base.BaseModel) -> ModelFacts | None:
    if not isinstance(model, comfy.model_base.WAN21):
        return None
    if isinstance(model, comfy.model_base.WAN21_CausalAR):
        raise ValueError("WAN21_CausalAR generates frame block by frame block and passes every attention hook by; "
                         "Longreel needs an ordinary Wan 2.1 or 2.2 checkpoint")
    latent = model.latent_format
    small = latent.latent_channels == 48  # Wan 2.2 5B has its own, stronger compressing VAE
    return ModelFacts(family="Wan 2.2 5B" if small else "Wan", latent_channels=latent.latent_channels, temporal_stride=4,
                      spatial_stride=latent.spacial_downscale_ratio, size_multiple=2 * latent.spacial_downscale_ratio,
                      native_latent_frames=31 if small else 21, native_fps=24.0 if small else 16.0)


def sites(network) -> list[Site]:
    """Self and cross attention of every block. An image-to-video block attends first to the picture's tokens, which
    stand in front of the text in `context`."""
    found = []
    for number, block in enumerate(network.blocks):
        found += [Site(block.self_attn, SELF, number), Site(block.cross_attn, CROSS, number, _image_tokens)]
    return found


def _image_tokens(args: tuple, kwargs: dict) -> int:
    return kwargs.get("context_img_len") or 0


def patch_size(network) -> tuple[int, int, int]:
    return tuple(network.patch_size)



def time_turn(network, args: tuple, kwargs: dict):
    return None


def words_at(network, args: tuple, kwargs: dict) -> int:
    return 0
