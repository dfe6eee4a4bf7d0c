"""Prompt -> latent -> frames by core's own nodes in this process, under inference_mode as ComfyUI's server does it.

Works on any MODEL, CLIP and VAE, patched or not; made for the tiny models. It knows nothing about the pack.
"""

from typing import Any

import torch

from tests.comfy_inprocess import import_comfyui

Conditioning = list[list[Any]]


def encode(clip: Any, text: str) -> Conditioning:
    """CONDITIONING of one prompt by core's CLIP Text Encode."""
    with torch.inference_mode():
        return import_comfyui().CLIPTextEncode().encode(clip, text)[0]


def sample(
    model: Any,
    positive: Conditioning,
    negative: Conditioning,
    latent: torch.Tensor | dict[str, Any],
    *,
    seed: int = 0,
    steps: int = 2,
    cfg: float = 3.0,
    sampler: str = "euler",
    scheduler: str = "simple",
    denoise: float = 1.0,
) -> torch.Tensor:
    """Core's KSampler. `latent` is [1, C, F, H, W] or a LATENT with "samples"; the result has its shape."""
    if isinstance(latent, torch.Tensor):
        latent = {"samples": latent}
    with torch.inference_mode():
        result = (
            import_comfyui()
            .KSampler()
            .sample(model, seed, steps, cfg, sampler, scheduler, positive, negative, latent, denoise)
        )
    return result[0]["samples"]


def decode(vae: Any, samples: torch.Tensor) -> torch.Tensor:
    """[1, C, F, H, W] -> [frames, height, width, 3] in 0 .. 1 by core's VAE Decode."""
    with torch.inference_mode():
        return import_comfyui().VAEDecode().decode(vae, {"samples": samples})[0]
