"""Decoding a Wan latent a few latent frames at a time, with the causal cache carried from chunk to chunk.

Wan's VAEs (2.1: comfy/ldm/wan/vae.py, 2.2: comfy/ldm/wan/vae2_2.py; arXiv 2503.20314, section 4.1) see only the past:
every temporal convolution keeps its last two inputs in a cache. Core's `decode` walks through the video with that
cache and then joins all pixel frames in memory; this file walks the same way and hands each chunk out at once.
It does not know where the frames go, nor any VAE but these two.
"""

import logging
from collections.abc import Iterator

import torch
from torch import Tensor, nn

import comfy.ldm.wan.vae as wan21
import comfy.ldm.wan.vae2_2 as wan22
from comfy import model_management

from ..types import VAE

PIXEL_FRAMES_PER_LATENT = 4
logger = logging.getLogger(__name__)


def is_wan_vae(vae: VAE) -> bool:
    """Return whether `vae` holds Wan's 2.1 or 2.2 network itself; a subclass may decode in its own way."""
    return type(vae.first_stage_model) in (wan21.WanVAE, wan22.WanVAE)


def core_chunk(vae: VAE) -> int:
    """Return the latent frames that core's own decode passes through the network at once: 2 for Wan 2.1, 1 for 2.2."""
    return 1 if isinstance(vae.first_stage_model, wan22.WanVAE) else 2


def pixel_frames(latent_frames: int) -> int:
    """Return the pixel frames of a Wan latent: one for the first latent frame, four for every other one."""
    return (latent_frames - 1) * PIXEL_FRAMES_PER_LATENT + 1


def wan_frames(vae: VAE, latent: Tensor, chunk_latent_frames: int) -> Iterator[Tensor]:
    """Yield the pixel frames of `latent` in order, chunk by chunk.

    A chunk that does not fit into memory halves the chunk and decodes again from the start (the cache needs the whole
    past), without yielding a frame twice. Returns the pixel frames yielded: fewer than all of them only when even one
    latent frame at a time does not fit.

    Args:
        vae: comfy.sd.VAE with `is_wan_vae`.
        latent: [1, C, F, H, W].
        chunk_latent_frames: latent frames per pass through the network, 1 or more. The first pass takes one frame.
    Yields:
        [f, 8H, 8W, c] (Wan 2.2: 16H, 16W), 0..1, on the VAE's output device.
    """
    yielded = 0
    while True:
        position = 0
        out_of_memory = False
        try:
            for pixels in _one_walk(vae, latent, chunk_latent_frames):
                known = max(0, yielded - position)
                position += pixels.shape[0]
                if known < pixels.shape[0]:
                    yielded = position
                    yield pixels[known:]
        except RuntimeError as error:
            model_management.raise_non_oom(error)
            # Only a flag: while the error lives, its traceback keeps the tensors that filled the memory.
            out_of_memory = True
        if not out_of_memory:
            return yielded
        model_management.soft_empty_cache()
        if chunk_latent_frames == 1:
            return yielded
        smaller = chunk_latent_frames // 2
        logger.warning(
            "Out of memory decoding %d latent frames at a time; going on with %d.", chunk_latent_frames, smaller
        )
        chunk_latent_frames = smaller


def _one_walk(vae: VAE, latent: Tensor, chunk_latent_frames: int) -> Iterator[Tensor]:
    """Decode from the first frame to the last. Same arguments and results as `wan_frames`."""
    network = vae.first_stage_model
    total = latent.shape[2]
    # An upper bound of the slots that the decoder numbers off while it runs; unused ones stay None.
    cache: list = [None] * sum(1 for _ in network.decoder.modules())
    start = 0
    while start < total:
        model_management.throw_exception_if_processing_interrupted()
        # The first frame goes alone: temporal upsampling marks it, and skips it, by that.
        stop = 1 if start == 0 else min(start + chunk_latent_frames, total)
        with torch.no_grad(), model_management.cuda_device_context(vae.device):
            # Asked anew for every chunk, because whoever takes the frames may have loaded something else meanwhile.
            model_management.load_models_gpu(
                [vae.patcher],
                memory_required=_memory_bytes(vae, latent, stop - start),
                force_full_load=vae.disable_offload,
            )
            chunk = latent[:, :, start:stop].to(device=vae.device, dtype=vae.vae_dtype)  # [1, C, f, H, W]
            pixels = _decode_chunk(network, chunk, cache, first=start == 0)  # [1, c, f', H', W']
            pixels = pixels.to(device=vae.output_device, dtype=vae.vae_output_dtype(), copy=True)
            pixels = vae.process_output(pixels)
        yield pixels[0].movedim(0, -1)
        start = stop


def _memory_bytes(vae: VAE, latent: Tensor, chunk_latent_frames: int) -> int:
    """Bytes for one chunk. Core's estimate is for its own chunk; Wan 2.2's network grows with the chunk, 2.1's does
    not, because it cuts the chunk up again behind its first upsampling."""
    estimate = vae.memory_used_decode(latent.shape, vae.vae_dtype)
    if isinstance(vae.first_stage_model, wan22.WanVAE):
        estimate *= chunk_latent_frames
    stride = vae.spacial_compression_decode()
    values = 3 * PIXEL_FRAMES_PER_LATENT * chunk_latent_frames * latent.shape[3] * latent.shape[4] * stride**2
    return int(estimate + values * model_management.dtype_size(vae.vae_dtype))


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
