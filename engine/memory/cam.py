"""Attend to the last frames of the chunk before as short-term memory: CAM, the conditional attention module.

Source: StreamingT2V (arXiv 2403.14773, section 4.1) and its public code. Two trained parts:

    FrameEncoder   brings the conditioning frames to the network's own grid, where they are added to its first tokens.
                   Its last convolution starts at 0, so at first the network sees its own tokens alone.
    FrameInjector  for every place, the tokens of all frames attend to that place's features in the conditioning frames:

                       n = GroupNorm(x), over space and time        q = W_in n + b_in
                       out = x + W_out (W_o attention(q, y) + b_o) + b_out

                   W_out and b_out start at 0: a new injector gives back what it is given, to the bit.

Features are read as they are: no norm before K and V, no positions, so the order of the conditioning frames does not
matter. The public code's names are kept: a published weight fits behind its prefix. The first model of the paper has no
norms in its encoder; the paper and its second model have (`normalised`).

`CAM` is both for a diffusion transformer, as this pack trains it: the frames are latents, which the network's patches
divide by 1 or 2, so its encoder has one halving where the published one, which reads pixels, has three. Which network
makes the features, and where injectors stand in it, is not known here (hosts/memory/cam.py).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from ..factory_arguments import FactoryArguments

HEAD_WIDTH = 64
NORM_GROUPS, NORM_EPS = 32, 1e-6
PUBLISHED_CHANNELS = (32, 96, 256, 512)  # of an encoder of pixels
CHANNELS = PUBLISHED_CHANNELS[2:]  # of an encoder of latents; the last alone where a token is one latent cell


@dataclass(frozen=True)
class CAMConfig:
    """These are the sizes of a CAM. in_channels: of a latent frame, times the latent frames that a token holds.
    channels: of the encoder, one halving between neighbours. width, heads: of the network's tokens.
    """

    in_channels: int
    channels: tuple[int, ...]
    width: int
    heads: int

    def __post_init__(self):
        if self.width % NORM_GROUPS or self.width % self.heads:
            raise ValueError(
                f"{self.width} channels do not divide by the {NORM_GROUPS} groups of CAM's norm and by its "
                f"{self.heads} heads; use a multiple of both"
            )


class FrameEncoder(nn.Module):
    """Encode frames as features at the places of the network's tokens. `operations` has the layers (torch.nn, or
    ComfyUI's that cast and offload).
    """

    def __init__(
        self,
        in_channels: int,
        channels: tuple[int, ...],
        width: int,
        normalised: bool,
        operations=nn,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        made = FactoryArguments(device=device, dtype=dtype)
        self.conv_in = operations.Conv2d(in_channels, channels[0], 3, padding=1, **made)
        self.blocks, self.norms = nn.ModuleList(), nn.ModuleList()
        for narrow, wide in pairwise(channels):
            for after, stride in ((narrow, 1), (wide, 2)):
                self.blocks.append(operations.Conv2d(narrow, after, 3, padding=1, stride=stride, **made))
                if normalised:
                    self.norms.append(operations.LayerNorm(after, **made))
        self.conv_out = operations.Conv2d(channels[-1], width, 3, padding=1, **made)

    def start(self) -> None:
        """Set start values for training, which are neutral."""
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Return features of `frames` [B, in_channels, H, W] (published: RGB, -1..1) -> [B, width, H / 2^n, W / 2^n],
        rounded up, for n halvings. Frames do not see each other.
        """
        x = nn.functional.silu(self.conv_in(frames))
        for number, block in enumerate(self.blocks):
            x = block(x)
            if self.norms:
                x = self.norms[number](x.movedim(1, -1)).movedim(-1, 1)  # over the channels of each pixel
            x = nn.functional.silu(x)
        return self.conv_out(x)


class FrameAttention(nn.Module):
    """Let queries [N, F, C] attend to features [N, Fc, C]."""

    def __init__(
        self,
        width: int,
        heads: int,
        operations=nn,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        made = FactoryArguments(device=device, dtype=dtype)
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (operations.Linear(width, width, bias=False, **made) for _ in range(3))
        self.to_out = nn.ModuleList([operations.Linear(width, width, **made)])

    def forward(self, queries: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [N, h, F or Fc, d]
            for part in (self.to_q(queries), self.to_k(features), self.to_v(features))
        )
        out = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.to_out[0](out.transpose(1, 2).flatten(2))


class FrameInjector(nn.Module):
    """Add the attention's answer to a block's tokens, as the module's docstring says. Frames come as tokens, P places
    each.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        operations=nn,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        made = FactoryArguments(device=device, dtype=dtype)
        self.norm = operations.GroupNorm(NORM_GROUPS, width, eps=NORM_EPS, **made)
        self.proj_in = operations.Linear(width, width, **made)
        self.attention = FrameAttention(width, heads, operations, **made)
        self.proj_out = operations.Linear(width, width, **made)

    def start(self) -> None:
        """Set start values for training, which are neutral."""
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)

    def forward(self, frames: torch.Tensor, features: torch.Tensor, strength: float = 1.0) -> torch.Tensor:
        """Return the frames' tokens with memory added: frames [B, F, P, C], features [B, Fc, P, C] of the same places
        -> like frames. strength scales what is added: 0 nothing, 1 as trained.
        """
        if features.shape[2] != frames.shape[2]:
            raise ValueError(
                f"the conditioning frames have {features.shape[2]} places and the video's {frames.shape[2]}; "
                f"use frames of the same size"
            )
        count, places = frames.shape[1:3]
        norm = self.norm(frames.flatten(1, 2).transpose(1, 2))  # [B, C, F * P]
        queries = norm.transpose(1, 2).unflatten(1, (count, places)).transpose(1, 2).flatten(0, 1)  # [B * P, F, C]
        added = self.proj_out(self.attention(self.proj_in(queries), features.transpose(1, 2).flatten(0, 1)))
        return frames + strength * added.unflatten(0, (-1, places)).transpose(1, 2)


class CAM(nn.Module):
    """This is the whole module: `encoder`, and `injectors` under the numbers of the blocks that they stand behind."""

    def __init__(
        self,
        config: CAMConfig,
        layers: Iterable[int],
        operations=nn,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        made = FactoryArguments(device=device, dtype=dtype)
        self.config = config
        self.encoder = FrameEncoder(config.in_channels, config.channels, config.width, True, operations, **made)
        self.injectors = nn.ModuleDict(
            {str(number): FrameInjector(config.width, config.heads, operations, **made) for number in layers}
        )

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(int(number) for number in self.injectors)

    def start(self) -> None:
        """Set start values for training, which are neutral."""
        for part in self.modules():
            if isinstance(part, (FrameEncoder, FrameInjector)):
                part.start()
