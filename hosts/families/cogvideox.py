"""CogVideoX 1.0 and 1.5: facts and taps. Layout in comfy/ldm/cogvideo/model.py.

CogVideoX-2B was trained with positions that are added to the tokens. Its files do not have them, and ComfyUI takes what
has none for rotary: 2B is refused by its heads. A file that has positions is added them, as it was trained.

The network expects latents in alpha space; sample it with Longreel Alpha Space Sampler (hosts/sampling/alpha_space.py).
"""

from dataclasses import replace

import torch

import comfy.model_base
from comfy.ldm.cogvideo.model import CogVideoXTransformer3DModel

from ...engine.attention.rotary import rotate_pairs, time_frequencies
from ...engine.plan.facts import ModelFacts
from ..types import Network
from .picture_channels import PictureChannels
from .sites import JOINT, Site, TextPlace, argument

NAME = "CogVideoX"
NETWORK = CogVideoXTransformer3DModel
TEXT_TOKENS = 226
OVERWRITES_INPUTS = False
TAKES_FRAME_TIMES = False
TESTED = frozenset({comfy.model_base.CogVideoX})
HEADS_OF_2B = 30


FIRST = ModelFacts(
    family="CogVideoX",
    latent_channels=16,
    temporal_stride=4,
    spatial_stride=8,
    size_multiple=16,
    native_latent_frames=13,
    native_fps=8.0,
)
NEWER = replace(FIRST, family="CogVideoX 1.5", native_latent_frames=21, native_fps=16.0, patch_frames=2)
FACTS = (FIRST, NEWER)


def facts(model: comfy.model_base.BaseModel) -> ModelFacts | None:
    """Return what planning must know of a CogVideoX model, 1.0 or 1.5; None for a model of another family. Raises
    ValueError for CogVideoX-2B.
    """
    if not isinstance(model, comfy.model_base.CogVideoX):
        return None
    network = model.diffusion_model
    if network.num_attention_heads == HEADS_OF_2B and network.use_rotary_positional_embeddings:
        raise ValueError(
            f"this CogVideoX has {HEADS_OF_2B} heads, as CogVideoX-2B has, and ComfyUI loads 2B with rotary positions, "
            f"which it was not trained with; use CogVideoX 5B or 1.5"
        )
    patched = network.patch_size_t  # 1.5 also patches time
    return FIRST if patched is None else replace(NEWER, patch_frames=patched or 1)


def picture_channels(model: comfy.model_base.BaseModel) -> PictureChannels | None:
    """Return the channels of an image-to-video model: a picture, and zeros behind it; no mask."""
    channels = model.latent_format.latent_channels
    return PictureChannels(has_mask=False) if model.diffusion_model.in_channels == 2 * channels else None


def reads_noise_mask_amiss(model: comfy.model_base.BaseModel) -> bool:
    """Return False: no mask is read."""
    return False


def mask_of_clean_frames(network: Network) -> None:
    """Return None: no channel says so."""


def sites(network: Network) -> list[Site]:
    """Return one joint attention per block, text in front."""
    return [Site(block, JOINT, number, _text_tokens) for number, block in enumerate(network.blocks)]


def _text_tokens(block: torch.nn.Module, args: tuple, kwargs: dict) -> int:
    return argument(type(block).forward, args, kwargs, "encoder_hidden_states").shape[1]


def patch_size(network: Network) -> tuple[int, int, int]:
    """Return the latent frames, rows and columns of one token."""
    return (network.patch_size_t or 1, network.patch_size, network.patch_size)


def width(network: Network) -> int:
    """Return the channels of a token's key, all heads together."""
    return network.dim


def heads(network: Network) -> int:
    """Return the heads that a token's key is cut into."""
    return network.num_attention_heads


def text_width(network: Network) -> int:
    """Return the channels of the text that the network reads."""
    return network.patch_embed.text_proj.in_features


def time_shift(network: Network, args: tuple, kwargs: dict):
    """Return how keys are moved in time (hosts/families/sites.Forward), or None where positions are not rotary.

    Time is the first quarter of a head's channels. A network whose file has positions adds them to the tokens instead,
    where no key can be moved.
    """
    if not network.use_rotary_positional_embeddings:
        return None
    frequencies = time_frequencies(network.attention_head_dim // 4, 10000)
    return lambda k, frames: rotate_pairs(k, frames * frequencies)


def prompt_start(network: Network, args: tuple, kwargs: dict) -> int:
    """Return 0: no text token stands in front of the prompt's first one."""
    return 0


def blocks(network: Network) -> list[torch.nn.Module]:
    """Return the blocks, all of one kind, which reads and returns (video, text)."""
    return [*network.blocks]


def replaceable_blocks(network: Network) -> dict[tuple[str, int], int]:
    """Return nothing: core lets no node put another block in the place of one."""
    return {}


def entrance(network: Network) -> torch.nn.Module:
    """Return the module that makes the first tokens, text and video in one sequence."""
    return network.patch_embed


def text_place(block: torch.nn.Module) -> TextPlace:
    """Return where a block is given its text, as the block before left it."""
    return TextPlace(block, "encoder_hidden_states")


def text_in_front(block: torch.nn.Module, args: tuple, kwargs: dict) -> int:
    """Return 0: video and text are returned apart."""
    return 0
