"""HunyuanVideo and HunyuanVideo 1.5 (its super-resolution network too): facts and taps. Layout in
comfy/ldm/hunyuan_video/model.py.

1.5 is the same network with a patch of one latent cell, double blocks alone, and quoted text (byt5) and a picture (CLIP
vision) in front of the prompt. Beside the video it reads a picture's latent and a mask of the frames that the picture
is given for; ComfyUI hands it the sampler's noise mask there, see hosts/families/clone.py.
"""

import math
from dataclasses import replace

import torch

import comfy.model_base
from comfy.ldm.flux.layers import SingleStreamBlock
from comfy.ldm.hunyuan_video.model import HunyuanVideo

from ...engine.attention.rotary import rotate_pairs, time_frequencies
from ...engine.plan.facts import ModelFacts
from ..types import Network
from .picture_channels import PictureChannels
from .sites import JOINT, Site, TextPlace, argument, token_grid

NAME = "HunyuanVideo"
NETWORK = HunyuanVideo
TEXT_TOKENS = 256
OVERWRITES_INPUTS = True
TAKES_FRAME_TIMES = False
TESTED = frozenset(
    {
        comfy.model_base.HunyuanVideo,
        comfy.model_base.HunyuanVideoI2V,
        comfy.model_base.HunyuanVideoSkyreelsI2V,
        comfy.model_base.HunyuanVideo15,
        comfy.model_base.HunyuanVideo15_SR_Distilled,
    }
)


FIRST = ModelFacts(
    family="HunyuanVideo",
    latent_channels=16,
    temporal_stride=4,
    spatial_stride=8,
    size_multiple=16,
    native_latent_frames=33,
    native_fps=24.0,
)
NEWER = replace(
    FIRST, family="HunyuanVideo 1.5", latent_channels=32, spatial_stride=16, size_multiple=16, native_latent_frames=31
)
FACTS = (FIRST, NEWER)


def facts(model: comfy.model_base.BaseModel) -> ModelFacts | None:
    """Return what planning must know of a HunyuanVideo model; None for a model of another family."""
    if not isinstance(model, comfy.model_base.HunyuanVideo):
        return None
    latent, newer = model.latent_format, isinstance(model, comfy.model_base.HunyuanVideo15)
    return replace(
        NEWER if newer else FIRST,
        latent_channels=latent.latent_channels,
        spatial_stride=latent.spacial_downscale_ratio,
        size_multiple=latent.spacial_downscale_ratio * model.diffusion_model.patch_size[-1],
    )


def picture_channels(model: comfy.model_base.BaseModel) -> PictureChannels | None:
    """Return the channels of HunyuanVideo I2V v1 and HunyuanVideo 1.5, with a mask, and of SkyReels I2V, without.

    Those of 1.5's super-resolution network are the low video's, which is not known frame by frame.
    """
    if isinstance(model, comfy.model_base.HunyuanVideo15):
        low = isinstance(model, comfy.model_base.HunyuanVideo15_SR_Distilled)
        return None if low else PictureChannels(has_mask=True, only_beside_picture=True)
    if isinstance(model, comfy.model_base.HunyuanVideoI2V):
        return PictureChannels(has_mask=True)
    return PictureChannels(has_mask=False) if isinstance(model, comfy.model_base.HunyuanVideoSkyreelsI2V) else None


def reads_noise_mask_amiss(model: comfy.model_base.BaseModel) -> bool:
    """Return whether this is HunyuanVideo 1.5."""
    return isinstance(model, comfy.model_base.HunyuanVideo15)


def mask_of_clean_frames(network: Network) -> None:
    """Return None: what 1.5 has beside the latent is of pictures."""


def leading_tokens(network: Network, args: tuple, kwargs: dict) -> int:
    """Return how many tokens of a reference picture stand in front of the video's."""
    reference = argument(type(network)._forward, args, kwargs, "ref_latent")
    return 0 if reference is None else math.prod(token_grid(reference.shape[2:], network.patch_size))


def sites(network: Network) -> list[Site]:
    """Return one joint attention per double and then per single block, text in front.

    The text refiner is left alone.
    """
    double = [Site(block, JOINT, number, _text_of_double) for number, block in enumerate(network.double_blocks)]
    return double + [
        Site(block, JOINT, len(double) + number, _text_of_single) for number, block in enumerate(network.single_blocks)
    ]


def _text_of_double(block: torch.nn.Module, args: tuple, kwargs: dict) -> int:
    return argument(type(block).forward, args, kwargs, "txt").shape[1]


def _text_of_single(block: torch.nn.Module, args: tuple, kwargs: dict) -> int:
    return argument(type(block).forward, args, kwargs, "transformer_options")["img_slice"][0]


def patch_size(network: Network) -> tuple[int, int, int]:
    """Return the latent frames, rows and columns of one token."""
    return tuple(network.patch_size)


def width(network: Network) -> int:
    """Return the channels of a token's key, all heads together."""
    return network.hidden_size


def heads(network: Network) -> int:
    """Return the heads that a token's key is cut into."""
    return network.num_heads


def text_width(network: Network) -> int:
    """Return the channels of the text that the network reads."""
    return network.txt_in.input_embedder.in_features


def time_shift(network: Network, args: tuple, kwargs: dict):
    """Return how keys are moved in time (hosts/families/sites.Forward).

    A reference picture, one position before the video, moves along.
    """
    rotary = network.pe_embedder
    frequencies = time_frequencies(rotary.axes_dim[0], rotary.theta)
    return lambda k, frames: rotate_pairs(k, frames * frequencies)


def prompt_start(network: Network, args: tuple, kwargs: dict) -> int:
    """Return how many text tokens stand in front of the prompt's first one.

    They are those of a picture (CLIP vision) and, in HunyuanVideo 1.5, those of quoted text (byt5).
    """
    picture, quoted = (argument(type(network)._forward, args, kwargs, name) for name in ("clip_fea", "txt_byt5"))
    tokens = 0 if picture is None else picture.shape[1]
    if quoted is not None and network.byt5_in is not None and network.cond_type_embedding is not None:
        tokens += quoted.shape[1]
    return tokens


def blocks(network: Network) -> list[torch.nn.Module]:
    """Double blocks, which return (video, text), then single blocks, which return one sequence, text first."""
    return [*network.double_blocks, *network.single_blocks]


def replaceable_blocks(network: Network) -> dict[tuple[str, int], int]:
    """Return Site.block by core's name of the block."""
    names = [("double_block", number) for number in range(len(network.double_blocks))]
    names += [("single_block", number) for number in range(len(network.single_blocks))]
    return {name: block for block, name in enumerate(names)}


def entrance(network: Network) -> torch.nn.Module:
    """A convolution and a projection: tokens come as [B, N, C]."""
    return network.img_in


def text_place(block: torch.nn.Module) -> TextPlace:
    """What a block is given is the text as the block before left it."""
    if isinstance(block, SingleStreamBlock):
        return TextPlace(block, "x", lambda args, kwargs: slice(0, text_in_front(block, args, kwargs)))
    return TextPlace(block, "txt")


def text_in_front(block: torch.nn.Module, args: tuple, kwargs: dict) -> int:
    """All text of a single block."""
    return _text_of_single(block, args, kwargs) if isinstance(block, SingleStreamBlock) else 0
