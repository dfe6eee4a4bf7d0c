"""Latents of the demo's VAEs as its transformers read them: of unit scale in every channel, as ComfyUI hands them over.

The VAE's statistics are folded into its convolutions (encode_clips.fold_statistics), so that the fixed mean and
deviation of ComfyUI's Wan 2.1 latent format give that scale.
"""

import torch

from . import vae_net

# Wan 2.1's published latent statistics, as in comfy.latent_formats.Wan21
WAN_MEAN = torch.tensor(
    [
        -0.7571,
        -0.7089,
        -0.9113,
        0.1075,
        -0.1745,
        0.9653,
        -0.1517,
        1.5508,
        0.4134,
        -0.0715,
        0.5517,
        -0.3632,
        -0.1922,
        -0.9497,
        0.2503,
        -0.2921,
    ]
)
WAN_STD = torch.tensor(
    [
        2.8184,
        1.4541,
        2.3275,
        2.6558,
        1.2196,
        1.7708,
        2.6052,
        2.0743,
        3.2687,
        2.1526,
        2.8652,
        1.5579,
        1.6382,
        1.1253,
        2.8251,
        1.9160,
    ]
)


def per_channel(values: torch.Tensor) -> torch.Tensor:
    """One value for each channel [C] as [1, C, 1, 1, 1], beside a latent."""
    return values.view(1, -1, 1, 1, 1)


@torch.no_grad()
def encode(vae: vae_net.VAE, video: torch.Tensor) -> torch.Tensor:
    """[B, 3, F, H, W] in -1..1 -> latents of unit scale, as ComfyUI's `process_latent_in` gives them, float32."""
    mean, _ = vae.moments(video.bfloat16().contiguous(memory_format=torch.channels_last_3d))
    device = video.device
    return (mean.float() - per_channel(WAN_MEAN.to(device))) / per_channel(WAN_STD.to(device))


@torch.no_grad()
def decode(vae: vae_net.VAE, latents: torch.Tensor) -> torch.Tensor:
    """Latents of unit scale [B, 16, F, h, w] -> [B, 3, 1 + 4 (F - 1), 8 h, 8 w] in -1..1."""
    device = latents.device
    return vae.decode(latents * per_channel(WAN_STD.to(device)) + per_channel(WAN_MEAN.to(device))).clamp(-1, 1)
