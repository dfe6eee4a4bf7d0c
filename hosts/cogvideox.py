"""CogVideoX 1.0 and 1.5: facts. Layout in comfy/ldm/cogvideo/model.py.

Its network expects latents in alpha space; sample it with Longreel's Alpha-Space Sampler (hosts/alpha_space.py).
"""

import comfy.model_base

from ..engine.facts import ModelFacts

NAME = "CogVideoX"


def facts(model: comfy.model_base.BaseModel) -> ModelFacts | None:
    if not isinstance(model, comfy.model_base.CogVideoX):
        return None
    newer = model.diffusion_model.patch_size_t is not None  # 1.5 also patches time
    return ModelFacts(family="CogVideoX 1.5" if newer else "CogVideoX", latent_channels=16, temporal_stride=4,
                      spatial_stride=8, size_multiple=16, native_latent_frames=21 if newer else 13,
                      native_fps=16.0 if newer else 8.0)
