"""What every model family says of itself. A file of this folder is a family when it has all of these names.

Nothing outside this folder asks which family a model is: where families differ, they differ in a fact or a flag here.
What a method needs beyond facts lies beside the method, one file for each family, and is looked up by NAME:
hosts/anchor/ (a time for every frame) and hosts/ttt/ (blocks segment by segment).
"""

from typing import Protocol

import torch

import comfy.model_base

from ...engine.plan.facts import ModelFacts
from .picture_channels import PictureChannels
from .sites import Shift, Site, TextPlace


class Family(Protocol):
    """Facts, flags and places of one model family; `network` is its diffusion model, args and kwargs a forward's."""

    NAME: str
    """As people read it."""
    NETWORK: type[torch.nn.Module]
    """Core's class of the plain network. What is built on it (VACE, Animate, ...) attends in further places."""
    TEXT_TOKENS: int
    """Of a prompt of usual length."""
    OVERWRITES_INPUTS: bool
    """Whether the blocks write into tensors that they are given, which gradients may need."""
    TESTED: frozenset[type[comfy.model_base.BaseModel]]
    """Core's classes of its MODELs that this pack's tests run; what else is built on them is named in the log."""
    TAKES_FRAME_TIMES: bool
    """Whether the plain network takes a time for every latent frame, [B, F], where ComfyUI gives it one for all."""

    FACTS: tuple[ModelFacts, ...]
    """Facts of its usual checkpoints, each under a name of its own, for plans before a model is loaded."""

    def facts(self, model: comfy.model_base.BaseModel) -> ModelFacts | None:
        """Return what planning must know; None for a model of another family. Raises ValueError for one refused by
        name.
        """

    def picture_channels(self, model: comfy.model_base.BaseModel) -> PictureChannels | None:
        """Return the channels in which an image-to-video model is shown known frames; None where it has none."""

    def reads_noise_mask_amiss(self, model: comfy.model_base.BaseModel) -> bool:
        """Return whether core hands a sampler's noise mask to the network where it reads of which frames a picture is
        given, and with as many channels as the latent has (clone.py).
        """

    def mask_of_clean_frames(self, network: torch.nn.Module) -> int | None:
        """Return the channel of the network's input that is 1 in frames that stand clean among the latent's channels;
        None where no channel says so.
        """

    def sites(self, network: torch.nn.Module) -> list[Site]:
        """Return every attention that features work in, block by block."""

    def patch_size(self, network: torch.nn.Module) -> tuple[int, int, int]:
        """Return the latent frames, rows and columns of one token."""

    def width(self, network: torch.nn.Module) -> int:
        """Return the channels of a token's key, all heads together."""

    def heads(self, network: torch.nn.Module) -> int:
        """Return the heads that a token's key is cut into, all equally wide."""

    def text_width(self, network: torch.nn.Module) -> int | None:
        """Return the channels of the text that the network reads; None where its modules do not say."""

    def time_shift(self, network: torch.nn.Module, args: tuple, kwargs: dict) -> Shift | None:
        """Return how keys are moved in time (sites.Forward); None where positions are not rotary."""

    def prompt_start(self, network: torch.nn.Module, args: tuple, kwargs: dict) -> int:
        """Return how many text tokens stand in front of the prompt's first one."""

    def blocks(self, network: torch.nn.Module) -> list[torch.nn.Module]:
        """Return the transformer blocks, in the order of Site.block."""

    def replaceable_blocks(self, network: torch.nn.Module) -> dict[tuple[str, int], int]:
        """Return Site.block by core's name of the block, (kind, number), where nodes may put another in its place."""

    def entrance(self, network: torch.nn.Module) -> torch.nn.Module:
        """Return the module that makes the first tokens of a latent."""

    def text_place(self, block: torch.nn.Module) -> TextPlace:
        """Return where a block's text comes in."""

    def text_in_front(self, block: torch.nn.Module, args: tuple, kwargs: dict) -> int:
        """Return how many text tokens precede the video's in the one sequence that this block returns.

        It is 0 where video stands alone.
        """
