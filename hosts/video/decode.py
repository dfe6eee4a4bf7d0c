"""From a latent to pixel frames, a few at a time: what one piece needs of memory is what the whole video needs.

The VAEs of DECODERS stream, each in its own file (stream.py has what they share). Image VAEs see every latent frame
alone, so they stream as well. Every other video VAE goes through core's tiled decode, which joins the whole video in
memory before the first frame comes out; the log says so. It does not know what is done with the frames.
"""

import logging
from collections.abc import Iterator

import torch
from torch import Tensor

from comfy import model_management
from comfy.utils import ProgressBar

from ..types import VAE
from .decode_cogvideox import CogVideoXDecoder
from .decode_hunyuan_video import HunyuanVideoDecoder
from .decode_ltxv import LtxvDecoder
from .decode_taehv import TaehvDecoder
from .decode_wan import WanDecoder
from .stream import Decoder, streamed_frames

DECODERS: tuple[type[Decoder], ...] = (WanDecoder, HunyuanVideoDecoder, LtxvDecoder, CogVideoXDecoder, TaehvDecoder)
IMAGES_PER_CHUNK = 8
# Core's VAE Decode (Tiled), in pixels and pixel frames.
TILE_PIXELS, TILE_OVERLAP_PIXELS = 512, 64
TILE_PIXEL_FRAMES, TILE_OVERLAP_PIXEL_FRAMES = 64, 8
logger = logging.getLogger(__name__)


def decoder_of(vae: VAE) -> Decoder | None:
    """Return how `vae` is streamed, None where nobody knows."""
    return next((kind(vae) for kind in DECODERS if kind.fits(vae)), None)


def pixel_size(vae: VAE, samples: Tensor) -> tuple[int, int]:
    """Return width and height in pixels of the decoded video; `samples` is [..., H, W]."""
    stride = vae.spacial_compression_decode()
    return samples.shape[-1] * stride, samples.shape[-2] * stride


def decode_frames(
    vae: VAE, samples: Tensor, chunk_latent_frames: int = 0, said: list[str] | None = None
) -> Iterator[Tensor]:
    """Yield the frames of a latent video in order. Checks are made here, decoding starts with the first `next`.

    Args:
        vae: comfy.sd.VAE.
        samples: [1, C, F, H, W], or [F, C, H, W] for an image VAE (each batch entry is a frame).
        chunk_latent_frames: latent frames decoded at once. 0 takes the decoder's own number (`chunk` of each in
            DECODERS), 8 for image VAEs and core's tile of 64 pixel frames elsewhere.
        said: gets a line on how the video is decoded, and more when memory runs out on the way.
    Yields:
        [f, height, width, 3], 0..1: 1 pixel frame for the first latent frame of a video VAE, then 4 for each (LTXV 8).
    Raises:
        ValueError: a latent or a VAE that is no video; the message names both and the remedy.
    """
    _refuse_what_is_no_video(vae, samples, chunk_latent_frames)
    said = [] if said is None else said
    decoder = decoder_of(vae)
    if decoder is not None:
        chunk = chunk_latent_frames or decoder.chunk
        said.append(f"{_class_name(vae)}: {decoder.told(samples.shape[2], chunk)}.")
        frames = _counted(vae, samples, streamed_frames(decoder, samples, chunk, said))
    elif vae.latent_dim == 2:
        said.append(f"The VAE {_class_name(vae)} decodes images: every latent frame becomes one frame.")
        logger.info("%s", said[-1])
        frames = _image_by_image(vae, samples, chunk_latent_frames or IMAGES_PER_CHUNK)
    else:
        said.append(
            f"Longreel does not know how to stream the VAE {_class_name(vae)}: core's tiled decode takes over, and the "
            "memory it needs grows with the length of the video."
        )
        logger.warning("%s", said[-1])
        frames = _tiled(vae, samples, chunk_latent_frames)
    return _only_colour(vae, frames)


def decode_takes(
    vae: VAE, samples: Tensor, takes: list[int], chunk_latent_frames: int = 0, said: list[str] | None = None
) -> Iterator[Tensor]:
    """As `decode_frames`, but nothing of what was before a cut shows behind it: the VAE starts afresh with every one of
    `takes`, their latent frames in order.

    A causal VAE makes its first latent frame from a single picture, so behind a cut the take's own first frame goes in
    front of it, and its picture is left out again; the number of pixel frames stays that of an uncut video.
    """
    _refuse_what_is_no_video(vae, samples, chunk_latent_frames)
    if vae.latent_dim == 2:  # every latent frame is a picture of its own
        return decode_frames(vae, samples, chunk_latent_frames, said)
    if sum(takes) != samples.shape[2]:
        raise ValueError(
            f"the timeline has {sum(takes)} latent frames and samples {samples.shape[2]}; "
            "wire the timeline that the latent was sampled with"
        )
    decoded = []
    for number, take in enumerate(samples.split(takes, dim=2)):
        led = torch.cat([take[:, :, :1], take], 2) if number else take
        decoded.append(decode_frames(vae, led, chunk_latent_frames, said))
    return _joined(decoded)


def _joined(takes: list[Iterator[Tensor]]) -> Iterator[Tensor]:
    for number, frames in enumerate(takes):
        skip = 1 if number else 0
        for pixels in frames:
            if pixels.shape[0] > skip:
                yield pixels[skip:]
            skip = max(0, skip - pixels.shape[0])


def _refuse_what_is_no_video(vae: VAE, samples: Tensor, chunk_latent_frames: int) -> None:
    vae.throw_exception_if_invalid()
    name = _class_name(vae)
    if samples.is_nested:
        raise ValueError(
            f"samples holds {len(samples.unbind())} latents in one (video and sound), {name} decodes 1; "
            "take the video out first, for LTX with core's LTXVSeparateAVLatent"
        )
    if vae.latent_dim == 1 or vae.extra_1d_channel is not None or vae.output_channels == 2:
        raise ValueError(f"the VAE {name} does not decode to pictures; load the video model's own VAE")
    dimensions = (4, 5) if vae.latent_dim == 2 else (5,)
    if samples.ndim not in dimensions:
        raise ValueError(
            f"samples has {samples.ndim} dimensions and {name} decodes videos of 5, "
            "[1, channels, frames, height, width]; use the empty latent node of the video model"
        )
    if samples.numel() == 0:
        raise ValueError(f"samples is empty, {list(samples.shape)}; a video has at least 1 latent frame")
    if samples.ndim == 5 and samples.shape[0] != 1:
        raise ValueError(
            f"samples holds {samples.shape[0]} videos and 1 fits into one file; pick one with core's LatentFromBatch"
        )
    if decoder_of(vae) is not None and samples.shape[1] != vae.latent_channels:
        raise ValueError(
            f"samples has {samples.shape[1]} channels and {name} decodes {vae.latent_channels}; "
            "load the VAE that belongs to the model that sampled it"
        )
    if chunk_latent_frames < 0:
        raise ValueError(f"chunk_latent_frames is {chunk_latent_frames}; use 0 (automatic) or 1 and more")


def _class_name(vae: VAE) -> str:
    network = type(vae.first_stage_model)
    return f"{network.__module__}.{network.__qualname__}"


def _counted(vae: VAE, samples: Tensor, frames: Iterator[Tensor]) -> Iterator[Tensor]:
    """Show how far decoding is."""
    progress = ProgressBar(vae.upscale_ratio[0](samples.shape[2]))
    for pixels in frames:
        progress.update(pixels.shape[0])
        yield pixels


def _image_by_image(vae: VAE, samples: Tensor, images_per_chunk: int) -> Iterator[Tensor]:
    if samples.ndim == 5:
        samples = samples[0].movedim(1, 0)  # [1, C, F, H, W] -> [F, C, H, W]
    progress = ProgressBar(samples.shape[0])
    for images in samples.split(images_per_chunk):
        model_management.throw_exception_if_processing_interrupted()
        with torch.inference_mode():
            pixels = vae.decode(images)  # [f, H, W, 3]
        progress.update(images.shape[0])
        yield pixels


def _tiled(vae: VAE, samples: Tensor, chunk_latent_frames: int) -> Iterator[Tensor]:
    """Core's VAE Decode (Tiled) with its default sizes."""
    model_management.throw_exception_if_processing_interrupted()
    stride = vae.spacial_compression_decode()
    temporal_stride = vae.temporal_compression_decode() or 1
    frames = chunk_latent_frames or max(2, TILE_PIXEL_FRAMES // temporal_stride)
    overlap = max(1, min(frames // 2, TILE_OVERLAP_PIXEL_FRAMES // temporal_stride))
    # As ComfyUI runs every node: some VAEs make inference tensors, which core then changes in place.
    with torch.inference_mode():
        pixels = vae.decode_tiled(
            samples,
            tile_x=TILE_PIXELS // stride,
            tile_y=TILE_PIXELS // stride,
            overlap=TILE_OVERLAP_PIXELS // stride,
            tile_t=frames,
            overlap_t=overlap,
        )
    pixels = pixels.reshape(-1, *pixels.shape[-3:])  # [f, H, W, c]
    yield from pixels.split(TILE_PIXEL_FRAMES)


def _only_colour(vae: VAE, frames: Iterator[Tensor]) -> Iterator[Tensor]:
    """Leave the three colours of RGBA and refuse what is no colour; frames are [f, H, W, c]."""
    warned = False
    for pixels in frames:
        if pixels.shape[-1] not in (3, 4):
            raise ValueError(
                f"the VAE {_class_name(vae)} puts out {pixels.shape[-1]} channels and a video has 3; "
                "decode with the node that this VAE was made for"
            )
        if pixels.shape[-1] == 4 and not warned:
            logger.warning("The VAE puts out transparency, which an h264 video does not hold; it is left out.")
            warned = True
        yield pixels[..., :3]
