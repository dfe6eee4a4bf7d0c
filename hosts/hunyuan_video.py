"""HunyuanVideo: facts. Layout in comfy/ldm/hunyuan_video/model.py."""

import comfy.model_base

from ..engine.facts import ModelFacts
from .sites import JOINT, Site

NAME = "HunyuanVideo"


def facts(model: comfy.model_base.BaseModel) -> ModelFacts | None:
    if not isinstance(model, comfy.model_base.HunyuanVideo):
        return None
    latent = model.latent_format
    return ModelFacts(family="HunyuanVideo", latent_channels=latent.latent_channels, temporal_stride=4,
                      spatial_stride=latent.spacial_downscale_ratio, size_multiple=2 * latent.spacial_downscale_ratio,
                      native_latent_frames=33, native_fps=24.0)


def sites(network) -> list[Site]:
    """One joint attention per double and then per single block, text in front. The text refiner is left alone."""
    double = [Site(block, JOINT, number, _text_of_double) for number, block in enumerate(network.double_blocks)]
    return double + [Site(block, JOINT, len(double) + number, _text_of_single)
                     for number, block in enumerate(network.single_blocks)]


def _text_of_double(args: tuple, kwargs: dict) -> int:
    return kwargs["txt"].shape[1]


def _text_of_single(args: tuple, kwargs: dict) -> int:
    return kwargs["transformer_options"]["img_slice"][0]


def patch_size(network) -> tuple[int, int, int]:
    return tuple(network.patch_size)


def time_turn(network, args: tuple, kwargs: dict):
    return None


def words_at(network, args: tuple, kwargs: dict) -> int:
    return 0
