"""LTX-Video: facts. Layout in comfy/ldm/lightricks/model.py."""

import comfy.model_base

from ..engine.facts import ModelFacts

NAME = "LTXV"


def facts(model: comfy.model_base.BaseModel) -> ModelFacts | None:
    if isinstance(model, comfy.model_base.LTXAV):
        raise ValueError("LTXAV makes audio and video in one packed latent; Longreel samples video-only LTXV checkpoints")
    if not isinstance(model, comfy.model_base.LTXV):
        return None
    return ModelFacts(family="LTXV", latent_channels=128, temporal_stride=8, spatial_stride=32, size_multiple=32,
                      native_latent_frames=13, native_fps=25.0)
