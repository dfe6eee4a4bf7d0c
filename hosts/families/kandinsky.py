"""Kandinsky 5 Video (lite and pro): facts and taps. Layout in comfy/ldm/kandinsky5/model.py.

Blocks are those of a self attention over the video, a cross attention to the text, and no more: text has blocks of its
own in front, which are left alone. Beside the latent the network reads as many empty channels and one that is 1 in the
frames that are given to it clean, as its image-to-video training showed them; ComfyUI hands it the sampler's noise mask
there, see hosts/families/clone.py. The image model has one frame and another VAE, and is refused.
"""

from dataclasses import replace

import torch

import comfy.model_base
from comfy.ldm.kandinsky5.model import Kandinsky5

from ...engine.attention.rotary import rotate_pairs, time_frequencies
from ...engine.plan.facts import ModelFacts
from ..types import Network
from .picture_channels import PictureChannels
from .sites import CROSS, SELF, Site, TextPlace, argument

NAME = "Kandinsky 5"
NETWORK = Kandinsky5
TESTED = frozenset({comfy.model_base.Kandinsky5})
TEXT_TOKENS = 256
OVERWRITES_INPUTS = False
TAKES_FRAME_TIMES = False


USUAL = ModelFacts(
    family="Kandinsky 5",
    latent_channels=16,
    temporal_stride=4,
    spatial_stride=8,
    size_multiple=16,
    native_latent_frames=31,
    native_fps=24.0,
)
FACTS = (USUAL,)


def facts(model: comfy.model_base.BaseModel) -> ModelFacts | None:
    """Return what planning must know of a Kandinsky 5 Video model; None for a model of another family. Raises
    ValueError for the image model.
    """
    if isinstance(model, comfy.model_base.Kandinsky5Image):
        raise ValueError("Kandinsky5Image makes pictures; load a Kandinsky 5 video model")
    if not isinstance(model, comfy.model_base.Kandinsky5):
        return None
    latent = model.latent_format
    return replace(
        USUAL,
        latent_channels=latent.latent_channels,
        spatial_stride=latent.spacial_downscale_ratio,
        size_multiple=latent.spacial_downscale_ratio * model.diffusion_model.patch_size[-1],
    )


def picture_channels(model: comfy.model_base.BaseModel) -> PictureChannels | None:
    """Return None: given frames are clean in the latent itself, see `mask_of_clean_frames`."""


def reads_noise_mask_amiss(model: comfy.model_base.BaseModel) -> bool:
    """Return True: the channel behind the empty ones is of given frames."""
    return True


def mask_of_clean_frames(network: Network) -> int:
    """Return the channel behind the latent's and the empty ones."""
    return 2 * network.in_visual_dim


def sites(network: Network) -> list[Site]:
    """Return self and cross attention of every block of the video."""
    found = []
    for number, block in enumerate(network.visual_transformer_blocks):
        found += [Site(block.self_attention, SELF, number), Site(block.cross_attention, CROSS, number)]
    return found


def patch_size(network: Network) -> tuple[int, int, int]:
    """Return the latent frames, rows and columns of one token."""
    return tuple(network.patch_size)


def width(network: Network) -> int:
    """Return the channels of a token's key, all heads together."""
    return network.model_dim


def heads(network: Network) -> int:
    """Return the heads that a token's key is cut into."""
    return network.visual_transformer_blocks[0].self_attention.num_heads


def text_width(network: Network) -> int:
    """Return the channels of the text that the network reads."""
    return network.text_embeddings.in_layer.in_features


def time_shift(network: Network, args: tuple, kwargs: dict):
    """Return how keys are moved in time (hosts/families/sites.Forward).

    Positions are token frames over the network's own scale; core's rope options replace that by `scale_t`.
    """
    rotary = network.rope_embedder_3d
    frequencies = time_frequencies(rotary.axes_dim[0], rotary.theta)
    rope = (argument(type(network)._forward, args, kwargs, "transformer_options") or {}).get("rope_options")
    positions_per_frame = 1 / network.rope_scale_factor[0] if rope is None else rope.get("scale_t", 1.0)
    return lambda k, frames: rotate_pairs(k, frames * positions_per_frame * frequencies)


def prompt_start(network: Network, args: tuple, kwargs: dict) -> int:
    """Return 0: no text token stands in front of the prompt's first one."""
    return 0


def blocks(network: Network) -> list[torch.nn.Module]:
    """Return the video's blocks, all of one kind, which returns video alone, frames row by row."""
    return [*network.visual_transformer_blocks]


def replaceable_blocks(network: Network) -> dict[tuple[str, int], int]:
    """Return Site.block by core's name of the block."""
    return {("double_block", number): number for number in range(len(network.visual_transformer_blocks))}


def entrance(network: Network) -> torch.nn.Module:
    """Return the projection that makes the first tokens, as [B, F, H, W, C]."""
    return network.visual_embeddings


def text_place(block: torch.nn.Module) -> TextPlace:
    """Return where the cross attention is given its text, the same in every block."""
    return TextPlace(block.cross_attention, "context")


def text_in_front(block: torch.nn.Module, args: tuple, kwargs: dict) -> int:
    """Return 0: blocks return video alone."""
    return 0
