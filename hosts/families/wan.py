"""Wan 2.1 and 2.2 (1.3B, 14B with its two experts, 5B): facts and taps. Layout in comfy/ldm/wan/model.py."""

from dataclasses import replace

import torch

import comfy.model_base
from comfy.ldm.wan.model import CameraWanModel, SCAILWanModel, WanModel
from comfy.ldm.wan.model_animate import AnimateWanModel

from ...engine.attention.rotary import rotate_pairs, time_frequencies
from ...engine.plan.facts import ModelFacts
from ..types import Network
from .picture_channels import PictureChannels
from .sites import CROSS, SELF, Site, TextPlace, argument

NAME = "Wan 2.1/2.2"
NETWORK = WanModel
TEXT_TOKENS = 512
OVERWRITES_INPUTS = False
TAKES_FRAME_TIMES = True
MASK_CHANNELS = 4  # one for each pixel frame of a latent frame
GREY = (  # mid-grey as Wan 2.1's VAE encodes it some frames after the first; zero_vae of HuMo, as core carries it
    *(0.8642, -1.8583, 0.1577, 0.1350, -0.3641, 2.5863, -1.9670, 1.6065),
    *(-1.0475, -0.8678, 1.1734, -1.8138, -1.5933, -0.7721, -0.3289, -1.3745),
)
TESTED = frozenset(
    {
        comfy.model_base.WAN21,  # text, pictures, Fun-Control, Phantom, SkyReels V2
        comfy.model_base.WAN22,
        comfy.model_base.WAN21_Vace,
        comfy.model_base.WAN21_Camera,
        comfy.model_base.WAN21_HuMo,
        comfy.model_base.WAN22_S2V,
        comfy.model_base.WAN22_Animate,
        comfy.model_base.WAN21_SCAIL,
        comfy.model_base.WAN21_SCAIL2,
    }
)


USUAL = ModelFacts(
    family="Wan",
    latent_channels=16,
    temporal_stride=4,
    spatial_stride=8,
    size_multiple=16,
    native_latent_frames=21,
    native_fps=16.0,
)
SMALL = ModelFacts(  # its own VAE compresses more
    family="Wan 2.2 5B",
    latent_channels=48,
    temporal_stride=4,
    spatial_stride=16,
    size_multiple=32,
    native_latent_frames=31,
    native_fps=24.0,
    knows_frame_times=True,
)
FACTS = (USUAL, SMALL)


def facts(model: comfy.model_base.BaseModel) -> ModelFacts | None:
    """Return what planning must know of a Wan model, 2.1 or 2.2; None for a model of another family. Raises
    ValueError for WAN21_CausalAR.
    """
    if not isinstance(model, comfy.model_base.WAN21):
        return None
    if isinstance(model, comfy.model_base.WAN21_CausalAR):
        raise ValueError(
            "WAN21_CausalAR generates frame block by frame block and passes every attention hook by; "
            "Longreel needs an ordinary Wan 2.1 or 2.2 checkpoint"
        )
    latent = model.latent_format
    small = latent.latent_channels == SMALL.latent_channels
    return replace(
        SMALL if small else USUAL,
        latent_channels=latent.latent_channels,
        spatial_stride=latent.spacial_downscale_ratio,
        size_multiple=2 * latent.spacial_downscale_ratio,
        knows_frame_times=isinstance(model, comfy.model_base.WAN22),
    )


def picture_channels(model: comfy.model_base.BaseModel) -> PictureChannels | None:
    """Return the channels of image-to-video, first-last-frame, inpaint, camera and control models.

    All but those with a camera or a control video were trained with grey in the place of unknown frames. How Wan 2.2's
    own VAE encodes grey is not known here: with it they are zero, as core has them where no picture is wired. Animate's
    pictures come from its node, which always makes them. What is built on Wan in other ways (HuMo, SCAIL, ...) lays its
    channels out by itself.
    """
    network, channels = model.diffusion_model, model.latent_format.latent_channels
    beside = network.patch_embedding.weight.shape[1] - channels
    has_mask, pictures = beside % channels == MASK_CHANNELS, beside // channels
    if type(network) is AnimateWanModel:
        return PictureChannels(has_mask, only_beside_picture=True, led=True)
    if type(network) is CameraWanModel:
        return PictureChannels(has_mask) if pictures == 1 else None
    if type(network) is not NETWORK or pictures not in (1, 2) or (pictures == 1 and not has_mask):
        return None
    grey = pictures == 1 and channels == len(GREY)
    return PictureChannels(has_mask, GREY if grey else (), control=channels * (pictures - 1))


def leads_with_reference(model: comfy.model_base.BaseModel) -> bool:
    """Return whether a reference picture takes a latent frame of its own in front of the video's."""
    return isinstance(model, (comfy.model_base.WAN21_Vace, comfy.model_base.WAN22_Animate))


def motion_frames(model: comfy.model_base.BaseModel) -> int:
    """Return how many finished latent frames in front of a window the network reads as such, beside its latent."""
    if not isinstance(model, comfy.model_base.WAN22_S2V):
        return 0
    return sum(model.diffusion_model.frame_packer.zip_frame_buckets)


def hears(model: comfy.model_base.BaseModel) -> str:
    """Return the encoder whose features of a sound the network hears; "" where it hears nothing."""
    kinds = {comfy.model_base.WAN22_S2V: "wav2vec2 large", comfy.model_base.WAN21_HuMo: "whisper large v3"}
    return next((encoder for kind, encoder in kinds.items() if isinstance(model, kind)), "")


def reads_noise_mask_amiss(model: comfy.model_base.BaseModel) -> bool:
    """Return False: ComfyUI makes one channel of it, as the image-to-video networks read it."""
    return False


def mask_of_clean_frames(network: Network) -> None:
    """Return None: no channel says so without a picture."""


def leading_tokens(network: Network, args: tuple, kwargs: dict) -> int:
    """Return how many tokens of reference pictures stand in front of the video's.

    They are SCAIL's, and those of networks with a convolution for them (Wan 2.2 Fun-Control). HuMo's, S2V's and
    Phantom's stand behind, and so do SCAIL's poses.
    """
    reference = kwargs.get("reference_latent")
    if reference is None:
        return 0
    _, height, width = network.patch_size
    rows, columns = (-(-size // patch) for size, patch in zip(args[0].shape[3:], (height, width), strict=True))
    if isinstance(network, SCAILWanModel):
        return reference.shape[2] * rows * columns
    return rows * columns if network.ref_conv is not None else 0


def sites(network: Network) -> list[Site]:
    """Return self and cross attention of every block.

    The cross attention of an image-to-video block attends to the picture's tokens first, with keys of their own,
    whether or not there is a picture.
    """
    found = []
    for number, block in enumerate(network.blocks):
        found += [
            Site(block.self_attn, SELF, number),
            Site(block.cross_attn, CROSS, number, calls_before=int(hasattr(block.cross_attn, "k_img"))),
        ]
    return found


def patch_size(network: Network) -> tuple[int, int, int]:
    """Return the latent frames, rows and columns of one token."""
    return tuple(network.patch_size)


def width(network: Network) -> int:
    """Return the channels of a token's key, all heads together."""
    return network.dim


def heads(network: Network) -> int:
    """Return the heads that a token's key is cut into."""
    return network.num_heads


def text_width(network: Network) -> int:
    """Return the channels of the text that the network reads."""
    return network.text_dim


def time_shift(network: Network, args: tuple, kwargs: dict):
    """Return how keys are moved in time (hosts/families/sites.Forward).

    Positions are token frames, times `scale_t` of core's rope options. Reference pictures in the sequence have times
    too and move along.
    """
    rotary = network.rope_embedder
    frequencies = time_frequencies(rotary.axes_dim[0], rotary.theta)
    options = argument(type(network)._forward, args, kwargs, "transformer_options") or {}
    positions_per_frame = (options.get("rope_options") or {}).get("scale_t", 1.0)
    return lambda k, frames: rotate_pairs(k, frames * positions_per_frame * frequencies)


def prompt_start(network: Network, args: tuple, kwargs: dict) -> int:
    """Return 0: no text token stands in front of the prompt's first one."""
    return 0


def blocks(network: Network) -> list[torch.nn.Module]:
    """Return the blocks, all of one kind, which returns video alone, frames row by row."""
    return [*network.blocks]


def replaceable_blocks(network: Network) -> dict[tuple[str, int], int]:
    """Return Site.block by core's name of the block."""
    return {("double_block", number): number for number in range(len(network.blocks))}


def entrance(network: Network) -> torch.nn.Module:
    """Return the convolution that makes the first tokens, as [B, C, F, H, W]."""
    return network.patch_embedding


def text_place(block: torch.nn.Module) -> TextPlace:
    """Return where the cross attention is given its text; a picture's tokens in front of it are left alone."""

    def prompt(args: tuple, kwargs: dict) -> slice:
        if not hasattr(block.cross_attn, "k_img"):
            return slice(None)
        return slice(argument(type(block.cross_attn).forward, args, kwargs, "context_img_len"), None)

    return TextPlace(block.cross_attn, "context", prompt)


def text_in_front(block: torch.nn.Module, args: tuple, kwargs: dict) -> int:
    """Return 0: blocks return video alone."""
    return 0
