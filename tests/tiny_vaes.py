"""Core's own video VAEs with seeded random weights, through comfy.sd.VAE, narrow for tests or as wide as they are.

comfy.sd.VAE knows most networks by the names of their weights and builds each with the one width that its files have.
Narrow ones are the same classes: while core builds, their constructors are given other widths. Nothing is known of
video: the weights keep the signal alive through every layer, no more.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
import torch


class Kind(NamedTuple):
    """How one VAE is built, the channels of its latent, pixels of a latent cell, and pixel frames of a latent frame."""

    build: Callable[[bool], Any]
    channels: int
    stride: int
    frames: int


def fill(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Draw seeded weights for the network and return its state dict."""
    generator = torch.Generator().manual_seed(5)
    state = {}
    for name, like in network.state_dict().items():
        noise = torch.randn(like.shape, generator=generator)
        if name.endswith(("num_batches_tracked",)) or not like.is_floating_point():
            state[name] = like
        elif "per_channel_scale" in name or "scale_shift_table" in name or name.endswith("bias"):
            state[name] = 0.1 * noise
        elif name.endswith("timestep_scale_multiplier"):
            state[name] = torch.tensor(1000.0)
        elif like.ndim > 1 and like[0].numel() > 1:
            state[name] = noise * like[0].numel() ** -0.5
        else:
            state[name] = 1 + 0.1 * noise
    return state


@contextmanager
def widths(*changes: tuple[type, dict[str, Any]]) -> Iterator[None]:
    """Build networks of these classes with other arguments than core gives them."""
    with pytest.MonkeyPatch.context() as patch:
        for built, other in changes:
            patch.setattr(built, "__init__", _with(built.__init__, other))
        yield


def _with(constructor: Callable[..., None], other: dict[str, Any]) -> Callable[..., None]:
    def construct(self: Any, *given: Any, **named: Any) -> None:
        constructor(self, *given, **{**named, **other})

    return construct


def loaded(network: torch.nn.Module, config: dict | None = None) -> Any:
    """Return the comfy.sd.VAE that core makes of the network's weights and its file's metadata."""
    import comfy.sd

    metadata = None if config is None else {"config": json.dumps({"vae": config})}
    return comfy.sd.VAE(sd=fill(network), metadata=metadata)


def wan22(narrow: bool) -> Any:
    from comfy.ldm.wan.vae2_2 import WanVAE

    with widths(*[(WanVAE, {"dim": 8, "dec_dim": 8})] if narrow else []):
        return loaded(WanVAE(z_dim=48, temperal_downsample=[False, True, True]))


def wan21(narrow: bool) -> Any:
    from comfy.ldm.wan.vae import WanVAE

    return loaded(
        WanVAE(dim=8 if narrow else 96, z_dim=16, dim_mult=[1, 2, 4, 4], temperal_downsample=[False, True, True])
    )


def hunyuan_video(narrow: bool) -> Any:
    from comfy.ldm.models.autoencoder import AutoencoderKL

    config = {
        "double_z": True,
        "z_channels": 16,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32 if narrow else 128,
        "ch_mult": [1, 2, 4, 4],
        "num_res_blocks": 2,
        "attn_resolutions": [],
        "dropout": 0.0,
        "conv3d": True,
        "time_compress": 4,
    }
    with widths((AutoencoderKL, {"ddconfig": config})):
        return loaded(AutoencoderKL(ddconfig=config, embed_dim=16))


def hunyuan_video15(narrow: bool) -> Any:
    from comfy.ldm.hunyuan_video.vae_refiner import Decoder, Encoder
    from comfy.ldm.models.autoencoder import AutoencodingEngine

    config = {
        "block_out_channels": [32, 32, 32, 32, 32] if narrow else [128, 256, 512, 1024, 1024],
        "in_channels": 3,
        "out_channels": 3,
        "num_res_blocks": 2,
        "ffactor_spatial": 16,
        "ffactor_temporal": 4,
        "z_channels": 32,
    }
    place = "comfy.ldm.hunyuan_video.vae_refiner"
    with widths((Decoder, config), (Encoder, config)):
        return loaded(
            AutoencodingEngine(
                regularizer_config={"target": "comfy.ldm.models.autoencoder.EmptyRegularizer"},
                encoder_config={"target": f"{place}.Encoder", "params": config},
                decoder_config={"target": f"{place}.Decoder", "params": config},
            )
        )


def cogvideox(narrow: bool) -> Any:
    from comfy.ldm.cogvideo.vae import AutoencoderKLCogVideoX

    with widths(*[(AutoencoderKLCogVideoX, {"block_out_channels": (32, 32, 32, 32)})] if narrow else []):
        return loaded(AutoencoderKLCogVideoX())


def ltxv(version: int) -> Callable[[bool], Any]:
    """Return how the VAE of core's version 0 (0.9.0), 1 (0.9.1) or 2 (0.9.5 and later) is built."""

    def build(narrow: bool) -> Any:
        from comfy.ldm.lightricks.vae.causal_video_autoencoder import VideoVAE

        config = VideoVAE.get_default_config(None, version)
        if narrow:
            config = {**config, "encoder_base_channels": 8, "decoder_base_channels": 8}
        return loaded(VideoVAE(version=version, config=config), config)

    return build


def taehv(channels: int) -> Callable[[bool], Any]:
    def build(narrow: bool) -> Any:
        from comfy.taesd.taehv import TAEHV

        return loaded(TAEHV(latent_channels=channels))

    return build


KINDS: dict[str, Kind] = {
    "Wan 2.1": Kind(wan21, 16, 8, 4),
    "Wan 2.2": Kind(wan22, 48, 16, 4),
    "HunyuanVideo": Kind(hunyuan_video, 16, 8, 4),
    "HunyuanVideo 1.5": Kind(hunyuan_video15, 32, 16, 4),
    "LTXV 0.9.0": Kind(ltxv(0), 128, 32, 8),
    "LTXV 0.9.1": Kind(ltxv(1), 128, 32, 8),
    "LTXV 0.9.5": Kind(ltxv(2), 128, 32, 8),
    "CogVideoX": Kind(cogvideox, 16, 8, 4),
    "TAEHV": Kind(taehv(16), 16, 8, 4),
    "TAEHV, 48 channels": Kind(taehv(48), 48, 16, 4),
    "TAEHV, 32 channels": Kind(taehv(32), 32, 16, 4),
}


def build(name: str, narrow: bool = True) -> Any:
    """Return a comfy.sd.VAE of one of KINDS, as wide as its files are or narrow; ComfyUI is imported already."""
    return KINDS[name].build(narrow)


def latent(name: str, frames: int, size: int = 2, seed: int = 0) -> torch.Tensor:
    """[1, C, frames, size, size] of noise."""
    generator = torch.Generator().manual_seed(seed or frames)
    return torch.randn(1, KINDS[name].channels, frames, size, size, generator=generator)
