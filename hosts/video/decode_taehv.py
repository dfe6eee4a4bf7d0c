"""TAEHV, the tiny autoencoders for previews, frame after frame: each of its blocks remembers one frame.

Source: https://github.com/madebyollin/taehv, in core comfy/taesd/taehv.py. Core walks frame by frame, too, and then
joins the whole video; here the blocks' memories stay in the stream.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle

from comfy.taesd.taehv import TAEHV, MemBlock

from ..types import VAE
from .stream import Decoder, Stream


class TaehvDecoder(Decoder):
    """TAEHV for any model; see the module."""

    @staticmethod
    def fits(vae: VAE) -> bool:
        """Return whether `vae` holds the tiny network itself."""
        return type(vae.first_stage_model) is TAEHV

    def stream(self, chunk: int) -> "TaehvStream":
        """Return a stream at its beginning."""
        return TaehvStream(self.network)

    def told(self, latent_frames: int, chunk: int) -> str:
        """Return that this VAE is causal."""
        return "causal: each frame is that of core's VAE Decode"


class TaehvStream(Stream):
    """One video or tile; the state is the last frame that each MemBlock has seen."""

    def __init__(self, network: TAEHV):
        """Begin in front of the first frame."""
        self.network, self.first = network, True
        self.state: list[Tensor | None] = [None] * len(network.decoder)

    def push(self, latent: Tensor, last: bool) -> Iterator[Tensor]:
        """Yield as many pixel frames for each latent frame as the network makes of it, 1 for the first."""
        x = self.network.process_in(latent)[0].movedim(1, 0)  # [f, C, H, W]
        for number, block in enumerate(self.network.decoder):
            x = self._remembering(number, block, x) if isinstance(block, MemBlock) else block(x)
        if self.network.patch_size > 1:
            x = pixel_shuffle(x, self.network.patch_size)
        if self.first:
            x = x[self.network.frames_to_trim :]
        self.first = False
        yield x.movedim(0, 1)[None]

    def _remembering(self, number: int, block: nn.Module, x: Tensor) -> Tensor:
        before = self.state[number]
        past = torch.cat([torch.zeros_like(x[:1]) if before is None else before, x[:-1]])
        self.state[number] = x[-1:].clone()
        return block(x, past)
