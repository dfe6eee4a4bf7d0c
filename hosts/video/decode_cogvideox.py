"""CogVideoX's VAE, a few latent frames at a time, with the cache of its causal convolutions carried on.

The VAE (arXiv 2408.06072, section 2.1; comfy/ldm/cogvideo/vae.py) has causal convolutions, but its group norms take
their statistics from all frames that they see. The public decoder sees two latent frames at a time, and so the VAE was
used since it was published; core's sees the whole video in its lower half, whose memory grows with it, and four pixel
frames at a time in the upper half. Here the lower half sees `chunk` latent frames, with the caches carried on, and the
upper half walks as in core: what differs from core's decode is the statistics of the lower half's norms, and nothing
at all where the take is one chunk. The default of two is the authors' own.

Core takes a first latent frame for one pixel frame only where the number of latent frames is odd, and makes four of it
otherwise; here it is always one, as the encoder made it, so that n latent frames are 4n - 3 pixel frames.
It does not know what the statistics of trained weights do; docs/decode.md has the differences of random ones.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from comfy.ldm.cogvideo.vae import AutoencoderKLCogVideoX

from ..types import VAE
from .stream import Decoder, Stream, cut

PIXEL_FRAMES_PER_STEP = 4  # core's step through the upper half


class CogVideoXDecoder(Decoder):
    """CogVideoX 1.0 and 1.5; see the module."""

    chunk = 2  # the authors' own

    @staticmethod
    def fits(vae: VAE) -> bool:
        """Return whether `vae` holds CogVideoX's network itself."""
        return type(vae.first_stage_model) is AutoencoderKLCogVideoX

    def stream(self, chunk: int) -> "CogVideoXStream":
        """Return a stream at its beginning."""
        return CogVideoXStream(self.network)

    def told(self, latent_frames: int, chunk: int) -> str:
        """Return whether the take fits into one chunk."""
        if latent_frames <= max(2, chunk):
            return "a take of one chunk: each frame is that of core's VAE Decode"
        return (
            f"causal but for norms, whose statistics see {chunk} latent frames at a time, in the model's own code 2 "
            "and in core's VAE Decode all of them, so frames differ somewhat from it"
        )

    def pieces(self, latent_frames: int, chunk: int) -> list[int]:
        """Return the lengths of the pieces; the first has two frames or more, as one alone leaves no cache behind."""
        return cut(latent_frames, max(2, chunk), chunk)


class CogVideoXStream(Stream):
    """One video or tile in the decoder.

    The state holds the caches of all convolutions by the names of their blocks ("caches"), and what the lower half has
    made and the upper one not yet taken, with the latent beside it ("waiting").
    """

    def __init__(self, network: AutoencoderKLCogVideoX):
        """Begin in front of the first frame."""
        self.decoder, self.first = network.decoder, True
        self.doublings = network.temporal_compression_ratio.bit_length() - 1
        self.state: dict = {"caches": {}, "waiting": None}

    def push(self, latent: Tensor, last: bool) -> Iterator[Tensor]:
        """Yield four pixel frames after the other."""
        made, beside = self._lower(latent)
        if self.state["waiting"] is not None:
            made, beside = (torch.cat(pair, 2) for pair in zip(self.state["waiting"], (made, beside), strict=True))
        frames = made.shape[2]
        ready = frames if last else frames // PIXEL_FRAMES_PER_STEP * PIXEL_FRAMES_PER_STEP
        self.state["waiting"] = made[:, :, ready:].clone(), beside[:, :, ready:].clone()
        for start in range(0, ready, PIXEL_FRAMES_PER_STEP):
            step = slice(start, min(start + PIXEL_FRAMES_PER_STEP, ready))
            yield self._upper(made[:, :, step], beside[:, :, step])

    def _lower(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """[1, C, f, h, w] -> what the blocks make of it up to the last doubling of time, and the latent as often."""
        first, self.first = self.first, False
        x = self._cached("conv_in", self.decoder.conv_in, latent)
        x = self._cached("mid_block", self.decoder.mid_block, x, None, latent)
        for number, block in enumerate(self.decoder.up_blocks[: self.doublings]):
            beside = _repeated(latent, 2**number, first)
            for place, resnet in enumerate(block.resnets):
                x = self._cached(f"up_{number}_{place}", resnet, x, None, beside)
            for upsampler in block.upsamplers or ():
                x = _upsampled(upsampler.conv, x, first)
        return x, _repeated(latent, 2**self.doublings, first)

    def _upper(self, x: Tensor, beside: Tensor) -> Tensor:
        """[1, width, f, h', w'] and the latent [1, C, f, h, w] -> pixel frames [1, 3, f, H', W']."""
        decoder = self.decoder
        for number, block in enumerate(decoder.up_blocks[self.doublings :]):
            x = self._cached(f"upper_{number}", block, x, None, interpolate(beside, x.shape[2:]))
        x = self._cached("norm_out", decoder.norm_out, x, interpolate(beside, x.shape[2:]))
        return self._cached("conv_out", decoder.conv_out, decoder.conv_act(x))

    def _cached(self, name: str, module: nn.Module, *given: Tensor | None) -> Tensor:
        result, self.state["caches"][name] = module(*given, conv_cache=self.state["caches"].get(name))
        return result


def _repeated(latent: Tensor, times: int, first: bool) -> Tensor:
    """Show each frame `times` times, the video's first one once: [1, C, f, h, w] in and out."""
    if not first:
        return latent.repeat_interleave(times, dim=2)
    return torch.cat([latent[:, :, :1], latent[:, :, 1:].repeat_interleave(times, dim=2)], 2)


def _upsampled(conv: nn.Module, x: Tensor, first: bool) -> Tensor:
    """Double time and space as core's Upsample3D does, but the video's first frame in space alone."""
    x = interpolate(_repeated(x, 2, first), scale_factor=(1.0, 2.0, 2.0))
    frames = conv(x[0].movedim(1, 0))  # [f, width, H, W]
    return frames.movedim(0, 1)[None]
