"""LTX-Video: facts and taps. Layout in comfy/ldm/lightricks/model.py."""

import torch

import comfy.model_base
from comfy.ldm.lightricks.model import LTXVModel

from ...engine.attention.rotary import rotate_pairs
from ...engine.plan.facts import ModelFacts
from ..types import Network
from .picture_channels import PictureChannels
from .sites import CROSS, SELF, Site, TextPlace, argument

NAME = "LTXV"
NETWORK = LTXVModel
TEXT_TOKENS = 128
OVERWRITES_INPUTS = True
TAKES_FRAME_TIMES = False  # of frames; ComfyUI gives it a time for every token
TESTED = frozenset({comfy.model_base.LTXV})


USUAL = ModelFacts(
    family="LTXV",
    latent_channels=128,
    temporal_stride=8,
    spatial_stride=32,
    size_multiple=32,
    native_latent_frames=13,
    native_fps=25.0,
    knows_frame_times=True,
    unsaid_frame_rate=25.0,  # comfy/model_base.py, LTXV.extra_conds
)
FACTS = (USUAL,)


def facts(model: comfy.model_base.BaseModel) -> ModelFacts | None:
    """Return what planning must know of an LTXV model; None for a model of another family."""
    if not isinstance(model, comfy.model_base.LTXV):
        return None
    return USUAL


def picture_channels(model: comfy.model_base.BaseModel) -> PictureChannels | None:
    """Return None: known frames are clean in the latent itself, under core's noise mask."""


def reads_noise_mask_amiss(model: comfy.model_base.BaseModel) -> bool:
    """Return False: ComfyUI makes each token's time of it."""
    return False


def mask_of_clean_frames(network: Network) -> None:
    """Return None: each token has a time."""


def sites(network: Network) -> list[Site]:
    """Return self and cross attention of every block."""
    found = []
    for number, block in enumerate(network.transformer_blocks):
        found += [Site(block.attn1, SELF, number), Site(block.attn2, CROSS, number)]
    return found


def patch_size(network: Network) -> tuple[int, int, int]:
    """Return the latent frames, rows and columns of one token."""
    return (1, 1, 1)


def width(network: Network) -> int:
    """Return the channels of a token's key, all heads together."""
    return network.inner_dim


def heads(network: Network) -> int:
    """Return the heads that a token's key is cut into."""
    return network.num_attention_heads


def text_width(network: Network) -> int | None:
    """Return the channels of the text that the network reads; None where a checkpoint projects it elsewhere."""
    return getattr(getattr(network.caption_projection, "linear_1", None), "in_features", None)


def time_shift(network: Network, args: tuple, kwargs: dict):
    """Return how keys are moved in time (hosts/families/sites.Forward).

    Positions are seconds, so a token frame's length depends on the frame rate; guide pictures move along. With causal
    positions the first token frame is one pixel frame, and every later one begins 7 pixel frames sooner than at 8 a
    frame. All keys move by the same time here: later frames stand exactly where the network would put them n frames on,
    and the first, a single picture, stands at the last pixel frame of token frame n.
    """
    frame_rate = argument(type(network)._forward, args, kwargs, "frame_rate")
    frame_seconds = network.vae_scale_factors[0] / float(frame_rate)
    angles = frame_seconds * _angles_per_second(network)  # [H, 1, D / 2]
    halves = network.split_positional_embedding == "split"  # comfy.ldm.lightricks.model.LTXRopeType
    return lambda k, frames: rotate_pairs(k, frames * angles, halves)


def _angles_per_second(network: Network) -> torch.Tensor:
    """Return [H, 1, D / 2] radians.

    Frequencies run over all heads together, (t, x, y) for each, behind the padding that makes their number even; x and
    y do not turn.
    """
    pairs = network.inner_dim // 2
    frequencies = network.freq_grid_generator(
        network.positional_embedding_theta, 3, network.inner_dim, torch.device("cpu")
    ).double()
    of_axes = torch.zeros(len(frequencies), 3, dtype=torch.float64)
    of_axes[:, 0] = 2 * frequencies / network.positional_embedding_max_pos[0]  # positions are stretched to -1 .. 1
    angles = torch.nn.functional.pad(of_axes.flatten(), (pairs - of_axes.numel(), 0))
    return angles.unflatten(0, (network.num_attention_heads, 1, -1))


def prompt_start(network: Network, args: tuple, kwargs: dict) -> int:
    """Return 0: no text token stands in front of the prompt's first one."""
    return 0


def blocks(network: Network) -> list[torch.nn.Module]:
    """Return the blocks, all of one kind, which returns video alone."""
    return [*network.transformer_blocks]


def replaceable_blocks(network: Network) -> dict[tuple[str, int], int]:
    """Return Site.block by core's name of the block."""
    return {("double_block", number): number for number in range(len(network.transformer_blocks))}


def entrance(network: Network) -> torch.nn.Module:
    """Return the projection that makes the first tokens, as [B, N, C]."""
    return network.patchify_proj


def text_place(block: torch.nn.Module) -> TextPlace:
    """Return where the cross attention is given its text, the same in every block."""
    return TextPlace(block.attn2, "context")


def text_in_front(block: torch.nn.Module, args: tuple, kwargs: dict) -> int:
    """Return 0: blocks return video alone."""
    return 0
