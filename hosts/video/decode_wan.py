"""Wan's VAEs, a few latent frames at a time, with the causal cache carried from piece to piece.

Wan's VAEs (2.1: comfy/ldm/wan/vae.py, 2.2: comfy/ldm/wan/vae2_2.py; arXiv 2503.20314, section 4.1) see only the past:
every temporal convolution keeps its last two inputs in a cache. Core's `decode` walks through the video with that
cache and then joins all pixel frames in memory; this file walks the same way and hands each piece out at once.
It does not know where the frames go, nor any VAE but these two.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

import comfy.ldm.wan.vae as wan21
import comfy.ldm.wan.vae2_2 as wan22
from comfy import model_management

from ..types import VAE
from .stream import Decoder, Stream, cut

PIXEL_FRAMES_PER_LATENT = 4


class WanDecoder(Decoder):
    """Wan 2.1 and 2.2; see the module."""

    def __init__(self, vae: VAE):
        """Hold `vae`, one that `fits`, and take core's own number of latent frames at once."""
        super().__init__(vae)
        self.chunk = 1 if isinstance(self.network, wan22.WanVAE) else 2

    @staticmethod
    def fits(vae: VAE) -> bool:
        """Return whether `vae` holds Wan's 2.1 or 2.2 network itself; a subclass may decode in its own way."""
        return type(vae.first_stage_model) in (wan21.WanVAE, wan22.WanVAE)

    def stream(self, chunk: int) -> "WanStream":
        """Return a stream at its beginning."""
        return WanStream(self.network)

    def told(self, latent_frames: int, chunk: int) -> str:
        """Return that this VAE is causal."""
        return "causal: each frame is that of core's VAE Decode"

    def pieces(self, latent_frames: int, chunk: int) -> list[int]:
        """Return the lengths of the pieces. The first frame goes alone: temporal upsampling marks it by that."""
        return cut(latent_frames, 1, chunk)

    def memory_bytes(self, shape: torch.Size) -> int:
        """Return the bytes for one piece. Core's estimate is for its own piece; Wan 2.2's network grows with it, 2.1's
        does not, because it cuts the piece up again behind its first upsampling."""
        vae, frames = self.vae, shape[2]
        estimate = vae.memory_used_decode(shape, vae.vae_dtype)
        if isinstance(self.network, wan22.WanVAE):
            estimate *= frames
        stride = vae.spacial_compression_decode()
        values = 3 * PIXEL_FRAMES_PER_LATENT * frames * shape[3] * shape[4] * stride**2
        return int(estimate + values * model_management.dtype_size(vae.vae_dtype))


class WanStream(Stream):
    """One video or tile in Wan's decoder; the state is core's cache, a slot for each temporal convolution."""

    def __init__(self, network: nn.Module):
        """Begin in front of the first frame."""
        self.network, self.first = network, True
        # An upper bound of the slots that the decoder numbers off while it runs; unused ones stay None.
        self.state: list = [None] * sum(1 for _ in network.decoder.modules())

    def push(self, latent: Tensor, last: bool) -> Iterator[Tensor]:
        """Yield 4 pixel frames for each latent frame, 1 for the first."""
        first, self.first = self.first, False
        yield _decode_chunk(self.network, latent, self.state, first)


def _decode_chunk(network: nn.Module, chunk: Tensor, cache: list, first: bool) -> Tensor:
    """One pass: [1, C, f, H, W] -> [1, c, 4f (1 if first), H', W'], values as the network leaves them (-1..1)."""
    x = network.conv2(chunk)
    if isinstance(network, wan22.WanVAE):
        x = network.decoder(x, feat_cache=cache, feat_idx=[0], first_chunk=first)
        return wan22.unpatchify(x, patch_size=2)
    before = []
    if x.shape[2] == 1 and not first:
        before = cache[: _slots_at_latent_rate(network.decoder)]
    parts = network.decoder(x, feat_cache=cache, feat_idx=[0])
    for slot, past in enumerate(before):
        # From one new frame core remembers one, and two are needed: put the one before it back in front.
        if isinstance(past, Tensor) and cache[slot].shape[2] == 1:
            cache[slot] = torch.cat([past[:, :, -1:], cache[slot]], dim=2)
    return torch.cat(parts, dim=2)


def _slots_at_latent_rate(decoder: nn.Module) -> int:
    """Cache slots that Wan 2.1's decoder fills before it has doubled the frames: there one latent frame is one."""
    slots = 1
    for layer in (*decoder.middle, *decoder.upsamples):
        if isinstance(layer, wan21.ResidualBlock):
            slots += 2
        elif isinstance(layer, wan21.Resample) and layer.mode == "upsample3d":
            return slots + 1
    return slots
