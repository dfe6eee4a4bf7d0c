"""Where a network's blocks hold the video's tokens, and where text comes into them: what trained memories work on.

Facts of core's networks, by class; what is built on them (VACE, Animate, audio, ...) attends in further places and is
refused by name.

    Wan           blocks return video alone, frames row by row. The first tokens come from a convolution as
                  [B, C, F, H, W]. Each block's cross attention reads the same projected text; in image-to-video
                  networks the tokens of a picture stand in front of it, and are left alone.
    CogVideoX     blocks return (video, text) and read text as well: what a block is given is the text as the block
                  before left it. The first tokens come as text and video in one.
    HunyuanVideo  double blocks return (video, text), single blocks one sequence, text first. As in CogVideoX, text is
                  carried on. Its blocks overwrite what they are given.
    LTXV          as Wan, with tokens [B, N, C] from the start. Its blocks overwrite what they are given.

Reference pictures and guides that stand among the video's tokens belong to no frame: `frames_of` refuses them.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from comfy.ldm.cogvideo.model import CogVideoXTransformer3DModel
from comfy.ldm.flux.layers import SingleStreamBlock
from comfy.ldm.hunyuan_video.model import HunyuanVideo
from comfy.ldm.lightricks.model import LTXVModel
from comfy.ldm.wan.model import WanModel

from . import cogvideox, family_of, hunyuan_video, ltxv, wan
from .sites import argument

Change = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class TextPlace:
    """`module` is given text as the argument `name` [B, L, C]; words(args, kwargs) is the prompt's part of it."""

    module: torch.nn.Module
    name: str
    words: Callable[[tuple, dict], slice] = lambda args, kwargs: slice(None)

    def change(self, args: tuple, kwargs: dict, change: Change) -> tuple[tuple, dict]:
        """The module's arguments with another text, of the same length."""
        method = type(self.module).forward
        given = argument(method, args, kwargs, self.name)
        start, stop, _ = self.words(args, kwargs).indices(given.shape[1])
        changed = torch.cat([given[:, :start], change(given[:, start:stop]), given[:, stop:]], dim=1)
        if self.name in kwargs:
            return args, {**kwargs, self.name: changed}
        place = list(inspect.signature(method).parameters).index(self.name) - 1  # behind self
        return (*args[:place], changed, *args[place + 1 :]), kwargs


@dataclass(frozen=True)
class VideoTokens:
    """`family`: module of hosts/. blocks(network): in the order of hosts/families/sites.Site.block. entrance(network): the module
    that makes the first tokens. text(block): where the block's text comes in."""

    family: Any
    blocks: Callable[[torch.nn.Module], list[torch.nn.Module]]
    entrance: Callable[[torch.nn.Module], torch.nn.Module]
    text: Callable[[torch.nn.Module], TextPlace]


def _words_of_wan(attention) -> Callable[[tuple, dict], slice]:
    def words(args: tuple, kwargs: dict) -> slice:
        if not hasattr(attention, "k_img"):
            return slice(None)
        return slice(argument(type(attention).forward, args, kwargs, "context_img_len"), None)

    return words


def _text_of_hunyuan(block) -> TextPlace:
    if isinstance(block, SingleStreamBlock):
        return TextPlace(block, "x", lambda args, kwargs: slice(0, _words_in_front(block, args, kwargs)))
    return TextPlace(block, "txt")


def _words_in_front(block, args: tuple, kwargs: dict) -> int:
    """Text tokens in front of the video's in the sequence that a single block returns."""
    if not isinstance(block, SingleStreamBlock):
        return 0
    return argument(type(block).forward, args, kwargs, "transformer_options")["img_slice"][0]


NETWORKS = {
    WanModel: VideoTokens(
        wan,
        lambda network: [*network.blocks],
        lambda network: network.patch_embedding,
        lambda block: TextPlace(block.cross_attn, "context", _words_of_wan(block.cross_attn)),
    ),
    CogVideoXTransformer3DModel: VideoTokens(
        cogvideox,
        lambda network: [*network.blocks],
        lambda network: network.patch_embed,
        lambda block: TextPlace(block, "encoder_hidden_states"),
    ),
    HunyuanVideo: VideoTokens(
        hunyuan_video,
        lambda network: [*network.double_blocks, *network.single_blocks],
        lambda network: network.img_in,
        _text_of_hunyuan,
    ),
    LTXVModel: VideoTokens(
        ltxv,
        lambda network: [*network.transformer_blocks],
        lambda network: network.patchify_proj,
        lambda block: TextPlace(block.attn2, "context"),
    ),
}


def tokens_of(model) -> VideoTokens:
    """Of a ModelPatcher's network. Raises ValueError, naming the network, where it is unknown."""
    family, network = family_of(model), model.model.diffusion_model
    if type(network) not in NETWORKS:
        raise ValueError(
            f"{type(network).__name__} is built on {family.NAME} but attends in 1 or more further places, "
            f"which trained memories do not reach; use the plain text- or image-to-video model"
        )
    return NETWORKS[type(network)]


def change_video(block, args: tuple, kwargs: dict, output, change: Change):
    """What a block returned, with its video tokens [B, N, C] changed."""
    if isinstance(output, tuple):
        return change(output[0]), *output[1:]
    words = _words_in_front(block, args, kwargs)
    if not words:
        return change(output)
    return torch.cat([output[:, :words], change(output[:, words:])], dim=1)


def add_at_entrance(output: torch.Tensor, added: torch.Tensor, grid: tuple[int, int, int]) -> torch.Tensor:
    """What the entrance returned, with `added` [B, F * P, C] on the video's tokens."""
    added = added.to(output)
    if output.ndim == 5:
        return output + added.transpose(1, 2).unflatten(2, grid)
    words = output.shape[1] - math.prod(grid)
    return torch.cat([output[:, :words], output[:, words:] + added], dim=1)


def frames_of(video: torch.Tensor, grid: tuple[int, int, int]) -> torch.Tensor:
    """[B, N, C] -> [B, F, P, C]. Raises ValueError where there are tokens of no frame."""
    if video.shape[1] != math.prod(grid):
        raise ValueError(
            f"the network's blocks read {video.shape[1]} video tokens and the window has {math.prod(grid)}; "
            f"reference pictures and guides belong to no frame that a memory knows: remove the node that "
            f"adds them"
        )
    return video.unflatten(1, (grid[0], -1))
