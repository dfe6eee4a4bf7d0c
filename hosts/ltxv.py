"""LTX-Video: facts. Layout in comfy/ldm/lightricks/model.py."""

import comfy.model_base

from ..engine.facts import ModelFacts
from .sites import CROSS, SELF, Site

NAME = "LTXV"


def facts(model: comfy.model_base.BaseModel) -> ModelFacts | None:
    if isinstance(model, comfy.model_base.LTXAV):
        raise ValueError("LTXAV makes audio and video in one packed latent; Longreel samples video-only LTXV checkpoints")
    if not isinstance(model, comfy.model_base.LTXV):
        return None
    return ModelFacts(family="LTXV", latent_channels=128, temporal_stride=8, spatial_stride=32, size_multiple=32,
                      native_latent_frames=13, native_fps=25.0)


def sites(network) -> list[Site]:
    """Self and cross attention of every block."""
    found = []
    for number, block in enumerate(network.transformer_blocks):
        found += [Site(block.attn1, SELF, number), Site(block.attn2, CROSS, number)]
    return found


def patch_size(network) -> tuple[int, int, int]:
    return (1, 1, 1)


def time_turn(network, args: tuple, kwargs: dict):
    return None


def words_at(network, args: tuple, kwargs: dict) -> int:
    return 0
