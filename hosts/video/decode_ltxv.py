"""LTXV's VAE, a few latent frames at a time, with the caches of its convolutions kept from piece to piece.

The VAE (arXiv 2501.00103, section 2.1; comfy/ldm/lightricks/vae/causal_video_autoencoder.py) decodes without causality:
each convolution sees a frame ahead, so that a pixel frame depends on the latent frames up to some 20 or 30 before and
behind it (docs/decode.md), and on no others. Core's modules already keep what they need between the pieces that core
cuts inside; here the pieces come from outside as well, and a frame comes out as soon as all that it depends on has come
in. That gives core's frames, whatever the pieces.

From 0.9.1 on the decoder adds noise to the latent; it is drawn for the whole latent at once, as core draws it. What the
0.9.1 decoder adds inside is drawn for each piece, in core as well, so there two decodes never have the same frames.
"""

import threading
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from comfy.ldm.lightricks.vae.causal_video_autoencoder import (
    ResnetBlock3D,
    UNetMidBlock3D,
    VideoVAE,
    get_max_chunk_size,
    mark_conv3d_ended,
    unpatchify,
)

from ..types import VAE
from .stream import Decoder, Stream


class LtxvDecoder(Decoder):
    """LTXV of any version, and LTX-2's pictures; see the module."""

    chunk = smallest_chunk = 4

    @staticmethod
    def fits(vae: VAE) -> bool:
        """Return whether `vae` holds Lightricks' network itself."""
        return type(vae.first_stage_model) is VideoVAE

    def stream(self, chunk: int) -> "LtxvStream":
        """Return a stream at its beginning."""
        return LtxvStream(self.network)

    def told(self, latent_frames: int, chunk: int) -> str:
        """Return whether two decodes can be equal at all."""
        if any(module.inject_noise for module in self.network.decoder.modules() if isinstance(module, ResnetBlock3D)):
            return "the decoder adds noise of its own to every piece, here as in core's VAE Decode"
        return "not causal, but it looks a fixed way ahead and waits for it: each frame is that of core's VAE Decode"

    def prepared(self, latent: Tensor) -> Tensor:
        """Return the latent with the noise that core adds to it, where the VAE is made for that."""
        network, vae = self.network, self.vae
        if not network.timestep_conditioning:
            return latent
        x = latent.to(device=vae.device, dtype=vae.vae_dtype)
        noisy = torch.randn_like(x) * network.decode_noise_scale + (1.0 - network.decode_noise_scale) * x
        return noisy.to(latent.device)


class LtxvStream(Stream):
    """One video or tile in the decoder; the state is what core's modules keep, in the order of the modules.

    While no piece is on its way, the modules themselves keep nothing, so that others can decode with them.
    """

    def __init__(self, network: VideoVAE):
        """Begin in front of the first frame."""
        self.network = network
        self.caching = [module for module in network.decoder.modules() if hasattr(module, "temporal_cache_state")]
        self.state: list = [None] * len(self.caching)

    def push(self, latent: Tensor, last: bool) -> Iterator[Tensor]:
        """Yield the pixel frames that are ready: none for the first pieces, and many after the last."""
        decoder = self.network.decoder
        self._put()
        try:
            if last:
                mark_conv3d_ended(decoder.conv_in)
            x = decoder.conv_in(self.network.per_channel_statistics.un_normalize(latent), causal=decoder.causal)
            if x.shape[2]:
                for pixels in self._up(0, [x], last, self._timestep(x)):
                    self._take()
                    yield pixels
                    self._put()
        finally:
            self._take()
        # A cache is a part of its piece; on its own it takes no more memory than it has.
        self.state = tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, self.state)

    def _up(self, index: int, held: list[Tensor], ended: bool, timestep: Tensor | None) -> Iterator[Tensor]:
        """Go on with block `index`, cutting what grows too large; core's Decoder.run_up, frame by frame."""
        decoder, sample = self.network.decoder, held.pop()
        if index == len(decoder.up_blocks):
            sample = self._out(sample, ended, timestep)
            if sample.shape[2]:
                yield sample
            return
        block = decoder.up_blocks[index]
        if ended:
            mark_conv3d_ended(block)
        if decoder.timestep_conditioning and isinstance(block, UNetMidBlock3D):
            sample = block(sample, causal=decoder.causal, timestep=timestep)
        else:
            sample = block(sample, causal=decoder.causal)
        if sample is None or sample.shape[2] == 0:
            return
        parts = -(-sample.numel() * sample.element_size() // get_max_chunk_size(sample.device))
        held.extend(reversed(sample.chunk(parts, dim=2)))
        del sample
        while held:
            part = held.pop()
            yield from self._up(index + 1, [part], ended and not held, timestep)

    def _out(self, sample: Tensor, ended: bool, timestep: Tensor | None) -> Tensor:
        """Return pixel frames [1, 3, f, H', W'], f may be 0."""
        decoder = self.network.decoder
        sample = decoder.conv_norm_out(sample)
        if timestep is not None:
            shift, scale = self._last_shift_and_scale(sample, timestep)
            sample = sample * (1 + scale) + shift
        if ended:
            mark_conv3d_ended(decoder.conv_out)
        sample = decoder.conv_out(decoder.conv_act(sample), causal=decoder.causal)
        return unpatchify(sample, patch_size_hw=decoder.patch_size, patch_size_t=1) if sample.shape[2] else sample

    def _timestep(self, x: Tensor) -> Tensor | None:
        decoder = self.network.decoder
        if not decoder.timestep_conditioning:
            return None
        return self.network.decode_timestep * decoder.timestep_scale_multiplier.to(x)

    def _last_shift_and_scale(self, x: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """Return both as [1, width, 1, 1, 1]."""
        decoder = self.network.decoder
        embedded = decoder.last_time_embedder(
            timestep=timestep.flatten(), resolution=None, aspect_ratio=None, batch_size=1, hidden_dtype=x.dtype
        )
        both = decoder.last_scale_shift_table.to(x) + embedded.reshape(2, -1)
        shift, scale = both[..., None, None, None].unbind(0)
        return shift[None], scale[None]

    def _put(self) -> None:
        """Give the modules what they keep."""
        for module, kept in zip(self.caching, self.state, strict=True):
            if kept is not None:
                module.temporal_cache_state[threading.get_ident()] = kept

    def _take(self) -> None:
        """Take from the modules what they keep."""
        self.state = [module.temporal_cache_state.pop(threading.get_ident(), None) for module in self.caching]
