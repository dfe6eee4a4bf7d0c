"""The latent that an anchor's picture has in its place.

A causal video VAE makes its first latent frame of a single picture, so an anchor there is the picture encoded alone.
Every later latent frame is several pixel frames that continue earlier ones: there the picture is encoded as a still
clip, and its last latent frames are taken. The paper (arXiv 2512.16371) is not known to say how it encodes a later
anchor.
"""

import logging
from pathlib import Path

import av
import torch

import comfy.utils
import nodes

from ...engine.plan.anchor import Anchor
from ...engine.plan.facts import ModelFacts
from ...engine.storyboard.rules import show
from ..types import VAE
from .picture_file import REMEDY, picture_fault

NAME = "Longreel Anchor Frame"
MAX_PIXELS = 2**62  # a picture that is needed is decoded whatever its size


def load_picture(path: Path, field: str = "image") -> torch.Tensor:
    """[1, H, W, 3] in 0..1, as core's Load Image reads the file.

    field: what a message names, as "shot 2, anchor 1: image". Raises ValueError for a file that is not one whole
    picture.
    """
    name = f"{field} is {show(path.name)}"
    fault, _ = picture_fault(path, MAX_PIXELS)
    if fault:
        raise ValueError(f"{name}, {fault}")
    try:
        image = nodes.LoadImage().load_image(str(path))[0]
    except (OSError, ValueError, RuntimeError, av.FFmpegError) as error:
        raise ValueError(f"{name}, which ComfyUI cannot read as a picture; {REMEDY}") from error
    return _one(image, f"{name}, which")


def encode_picture(
    vae: VAE, image: torch.Tensor, anchor: Anchor, facts: ModelFacts, width: int, height: int
) -> torch.Tensor:
    """Return what a picture is in its anchor's place, [1, C, anchor.frames, height / stride, width / stride].

    image [1, H, W, C] in 0..1; the result is as a LATENT holds it. The picture is cut and scaled to width x height
    pixels as core's image-to-video nodes do; alpha is left out. Both are logged. Raises ValueError for several
    pictures, for a size that the family cannot make, and for another family's VAE.
    """
    facts.check_size(width, height)
    pixels = _fitted(_one(image, "the image"), width, height)
    before = int(anchor.frame > 0)  # a latent frame of the still clip that the anchor's continue
    clip = pixels.expand(facts.pixel_frames(anchor.frames + before), -1, -1, -1)
    samples = vae.encode(clip)
    wanted = (
        1,
        facts.latent_channels,
        anchor.frames + before,
        height // facts.spatial_stride,
        width // facts.spatial_stride,
    )
    if tuple(samples.shape) != wanted:
        raise ValueError(
            f"this VAE made a latent of {list(samples.shape)} and {facts.family} takes {list(wanted)}; "
            f"wire the model's own VAE"
        )
    return samples[:, :, before:]


def _one(image: torch.Tensor, name: str) -> torch.Tensor:
    if image.shape[0] != 1:
        raise ValueError(
            f"{name} holds {image.shape[0]} pictures and an anchor shows 1; pick one with Image From "
            f"Batch, or wire a clip as a latent"
        )
    return image


def _fitted(image: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """[1, H, W, C] -> [1, height, width, 3]"""
    if image.shape[-1] > 3:
        logging.info("%s: the picture's alpha is left out", NAME)
    image = image[..., :3]
    if (image.shape[2], image.shape[1]) == (width, height):
        return image
    logging.info(
        "%s: the picture of %d x %d pixels is cut and scaled to %d x %d",
        NAME,
        image.shape[2],
        image.shape[1],
        width,
        height,
    )
    return comfy.utils.common_upscale(image.movedim(-1, 1), width, height, "bilinear", "center").movedim(1, -1)
