"""HunyuanVideo's and HunyuanVideo 1.5's VAEs: the middle of the decoder in windows, the rest with carried convolutions.

In core both decoders (comfy/ldm/modules/diffusionmodules/model.py, comfy/ldm/hunyuan_video/vae_refiner.py; HunyuanVideo
is arXiv 2412.03603, section 4.1) have two halves. The middle, at the latent's own size, attends over all tokens of all
frames, and HunyuanVideo's norms there take their statistics from all frames: no frame is independent of any other, so
it is not causal. The upper half, which takes nearly all time and memory, walks through the frames two by two, and each
of its causal convolutions carries its last two inputs on.

Here the middle sees windows of `chunk` latent frames, the upper half walks as in core. Windows overlap: of each, the
first frames are left out, as many as its convolutions reach back, and the next ones are mixed with the window before.
A video of one window is core's decode to the bit; a longer one differs by what attention (and norms) see of the rest.
It does not know how much a trained VAE makes of that: docs/decode.md has the differences of random weights.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from comfy.ldm.hunyuan_video import vae_refiner
from comfy.ldm.models.autoencoder import AutoencoderKL, AutoencodingEngine
from comfy.ldm.modules.diffusionmodules import model
from comfy.ldm.modules.diffusionmodules.model import conv_carry_causal_3d

from ..types import VAE
from .stream import Decoder, Stream, cut

NATIVE_LATENT_FRAMES = 33  # 129 pixel frames, HunyuanVideo's own length; 1.5 makes 121
REACH = 10  # latent frames that the middle's five convolutions look back: conv_in and two in each of two blocks
BLENDED = 6  # latent frames in which two windows are mixed
LATENT_FRAMES_PER_STEP = 2  # core's step through the upper half; HunyuanVideo's norms see one step


class HunyuanVideoDecoder(Decoder):
    """HunyuanVideo and 1.5; see the module. `chunk` is the length of a window of the middle."""

    chunk = NATIVE_LATENT_FRAMES
    smallest_chunk = 8

    @staticmethod
    def fits(vae: VAE) -> bool:
        """Return whether `vae` holds one of the two networks, in the form that carries its convolutions."""
        network = vae.first_stage_model
        if type(network) is AutoencoderKL:
            return type(network.decoder) is model.Decoder and network.decoder.carried
        if type(network) is AutoencodingEngine:
            return type(network.decoder) is vae_refiner.Decoder and network.decoder.refiner_vae
        return False

    def stream(self, chunk: int) -> "HunyuanVideoStream":
        """Return a stream at its beginning."""
        return HunyuanVideoStream(self.network, *overlap(chunk))

    def told(self, latent_frames: int, chunk: int) -> str:
        """Return whether the take fits into one window."""
        if latent_frames <= chunk:
            return "not causal, but a take of one window: each frame is that of core's VAE Decode"
        return (
            f"not causal: what sees all latent frames in core's VAE Decode sees windows of {chunk} of them here, "
            "so frames differ somewhat from it"
        )

    def pieces(self, latent_frames: int, chunk: int) -> list[int]:
        """Return the new latent frames of each window."""
        return cut(latent_frames, chunk, chunk - sum(overlap(chunk)))

    def memory_bytes(self, shape: torch.Size) -> int:
        """Return core's estimate, which is for a step of the upper half, for a whole window."""
        return super().memory_bytes(torch.Size([*shape[:2], max(2, shape[2]), *shape[3:]]))


def overlap(window: int) -> tuple[int, int]:
    """Return the latent frames of a window that are left out, and those that are mixed with the window before."""
    blended = min(BLENDED, window // 4)
    return min(REACH, window // 2 - blended), blended


class HunyuanVideoStream(Stream):
    """One video or tile in the decoder.

    The state holds the latent frames that the next window sees again ("seen"), the middle's output in the frames that
    it will mix ("fading"), an odd frame that waits for its pair ("waiting"), and the convolutions' inputs ("carry").
    """

    def __init__(self, network: nn.Module, left_out: int, blended: int):
        """Begin in front of the first frame."""
        self.network, self.left_out, self.blended = network, left_out, blended
        self.state: dict = {"seen": None, "fading": None, "waiting": None, "carry": None}

    def push(self, latent: Tensor, last: bool) -> Iterator[Tensor]:
        """Yield the pixel frames of two latent frames after the other."""
        state = self.state
        window = _after(state["seen"], latent)
        middle = self._middle(window)
        if state["seen"] is not None:
            middle = middle[:, :, self.left_out :]
            if self.blended:
                middle = _mixed(state["fading"], middle)
        if not last:
            again = self.left_out + self.blended
            state["seen"] = window[:, :, window.shape[2] - again :].clone() if again else window[:, :, :0]
            ready = middle.shape[2] - self.blended
            state["fading"], middle = middle[:, :, ready:].clone(), middle[:, :, :ready]
        middle = _after(state["waiting"], middle)
        whole = middle.shape[2] if last else middle.shape[2] // LATENT_FRAMES_PER_STEP * LATENT_FRAMES_PER_STEP
        state["waiting"] = middle[:, :, whole:].clone()
        steps = middle[:, :, :whole].split(LATENT_FRAMES_PER_STEP, dim=2) if whole else ()
        for number, step in enumerate(steps):
            carry: list | None = None if last and number + 1 == len(steps) else []
            pixels = self._upper(step, state["carry"], carry)
            state["carry"] = carry
            yield pixels

    def _middle(self, latent: Tensor) -> Tensor:
        """[1, C, F, H, W] -> [1, width, F, H, W]."""
        decoder = self.network.decoder
        if isinstance(self.network, AutoencoderKL):
            latent = self.network.post_quant_conv(latent)
        x = conv_carry_causal_3d([latent], decoder.conv_in)
        if isinstance(decoder, vae_refiner.Decoder):
            x = x + latent.repeat_interleave(decoder.block_out_channels[0] // decoder.z_channels, 1)
        return decoder.mid.block_2(decoder.mid.attn_1(decoder.mid.block_1(x)))

    def _upper(self, x: Tensor, carry_in: list | None, carry_out: list | None) -> Tensor:
        """[1, width, 1 or 2, H, W] -> [1, c, pixel frames, H', W']; takes `carry_in` apart and fills `carry_out`."""
        decoder = self.network.decoder
        levels = decoder.up if isinstance(decoder, vae_refiner.Decoder) else reversed(decoder.up)
        for level in levels:
            for block in level.block:
                x = block(x, None, carry_in, carry_out)
            if hasattr(level, "upsample"):
                x = level.upsample(x, carry_in, carry_out)
        x = nn.functional.silu(decoder.norm_out(x))
        return conv_carry_causal_3d([x], decoder.conv_out, carry_in, carry_out)


def _after(kept: Tensor | None, new: Tensor) -> Tensor:
    return new if kept is None or kept.shape[2] == 0 else torch.cat([kept, new], 2)


def _mixed(fading: Tensor, coming: Tensor) -> Tensor:
    """Go over from `fading` [1, C, f, H, W] to `coming`, f frames or more, within those f frames."""
    frames = fading.shape[2]
    share = torch.arange(1, frames + 1, device=coming.device, dtype=coming.dtype) / (frames + 1)
    mixed = torch.lerp(fading, coming[:, :, :frames], share[:, None, None])
    return torch.cat([mixed, coming[:, :, frames:]], 2)
