"""HunyuanVideo: facts. Layout in comfy/ldm/hunyuan_video/model.py."""

import comfy.model_base

from ..engine.facts import ModelFacts

NAME = "HunyuanVideo"


def facts(model: comfy.model_base.BaseModel) -> ModelFacts | None:
    if not isinstance(model, comfy.model_base.HunyuanVideo):
        return None
    latent = model.latent_format
    return ModelFacts(family="HunyuanVideo", latent_channels=latent.latent_channels, temporal_stride=4,
                      spatial_stride=latent.spacial_downscale_ratio, size_multiple=2 * latent.spacial_downscale_ratio,
                      native_latent_frames=33, native_fps=24.0)
