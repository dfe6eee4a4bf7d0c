"""Mix long-term memory into the text as picture tokens: APM, the appearance preservation module.

Source: StreamingT2V (arXiv 2403.14773, section 4.2) and its public code. Two trained parts:

    PictureTokens  one vector of each anchor frame, their mean, an MLP -> 16 tokens of the text's width
    TextMixer      one for each layer that reads text: with the text's and the picture's tokens as channels of a
                   convolution that runs along their features,

                       m = LayerNorm(Conv1d(concat(text, picture)))        out = text + SiLU(alpha) m

                   alpha starts at 0: a new mixer gives back the text, to the bit. SiLU is no share of 1, and dips below
                   0 (-0.278 at most), as published.

The public code's names are kept: a published weight fits behind its prefix. There the vector is CLIP's. `APM` is the
module for a diffusion transformer, as this pack trains it, and its vector is a pooled encoding of the anchor latent
(`AnchorEncoder`): a finished latent is at hand when a chunk begins, no second network is loaded, nothing passes through
pixels, so a resumed run sees the very same anchor. What CLIP would have known about pictures has to be learnt instead.

A mixer knows one length of text. A shorter text is filled with zeros, as the paper's text encoder is not but several of
today's are; a longer one cannot be mixed. Which text goes into which layer is not known here (hosts/memory/apm.py).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from ..factory_arguments import FactoryArguments

PICTURE_TOKENS = 16
VECTOR_WIDTH, INNER_WIDTH = 1024, 1280
KERNEL = 3
ENCODER_CHANNELS = 256


@dataclass(frozen=True)
class APMConfig:
    """These are the sizes of an APM. in_channels: of a latent frame. width: of the text that is mixed. text_tokens: the
    longest text. vector, inner: of the MLP that makes `picture_tokens` tokens.
    """

    in_channels: int
    width: int
    text_tokens: int
    picture_tokens: int = PICTURE_TOKENS
    vector: int = VECTOR_WIDTH
    inner: int = INNER_WIDTH


class PictureTokens(nn.Module):
    """Turn vectors of anchors into picture tokens. `operations` has the layers (torch.nn, or ComfyUI's that cast and
    offload).
    """

    def __init__(
        self,
        vector: int,
        inner: int,
        tokens: int,
        width: int,
        operations=nn,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        made = FactoryArguments(device=device, dtype=dtype)
        self.width = width
        self.context_embedding = nn.Sequential(
            operations.Linear(vector, inner, **made), nn.SiLU(), operations.Linear(inner, tokens * width, **made)
        )

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return picture tokens [B, tokens, width] for `vectors` [B, anchors, vector]."""
        return self.context_embedding(vectors.mean(dim=1)).unflatten(-1, (-1, self.width))


class TextMixer(nn.Module):
    """Mix picture tokens into the text of one block, as the module's docstring says."""

    def __init__(
        self,
        text_tokens: int,
        picture_tokens: int,
        width: int,
        operations=nn,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        made = FactoryArguments(device=device, dtype=dtype)
        self.text_tokens = text_tokens
        self.alpha = nn.Parameter(torch.zeros((), **made))
        self.conv = operations.Conv1d(text_tokens + picture_tokens, text_tokens, KERNEL, padding=KERNEL // 2, **made)
        self.conv_ln = operations.LayerNorm(width, **made)

    def mixture(self, text: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
        """Return what is added for each token of the text, before its weight. text [B, L, C], picture [B, tokens, C] ->
        like text. Raises ValueError for a text that is too long.
        """
        tokens = text.shape[1]
        if tokens > self.text_tokens:
            raise ValueError(
                f"this text has {tokens} tokens and APM was made for {self.text_tokens}; use shorter "
                f"prompts, or an APM that was made for longer ones"
            )
        filled = nn.functional.pad(text, (0, 0, 0, self.text_tokens - tokens))
        return self.conv_ln(self.conv(torch.cat([filled, picture], dim=1)))[:, :tokens]

    def forward(self, text: torch.Tensor, picture: torch.Tensor, strength: float = 1.0) -> torch.Tensor:
        """Return the text with the picture mixed in. text [B, L, C], picture [B, tokens, C] -> like text. strength
        scales what is added: 0 nothing, 1 as trained.
        """
        weight = strength * nn.functional.silu(self.alpha.to(text))
        return text + weight * self.mixture(text, picture)


class AnchorEncoder(nn.Module):
    """Encode a latent frame as one vector: two convolutions that halve it, then the mean over its places."""

    def __init__(
        self,
        in_channels: int,
        vector: int,
        operations=nn,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        made = FactoryArguments(device=device, dtype=dtype)
        self.conv_in = operations.Conv2d(in_channels, ENCODER_CHANNELS, 3, padding=1, stride=2, **made)
        self.conv_out = operations.Conv2d(ENCODER_CHANNELS, vector, 3, padding=1, stride=2, **made)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Return a vector for each frame: [B, in_channels, F, H, W], as the network sees latents, -> [B, F, vector]."""
        x = frames.transpose(1, 2).flatten(0, 1)
        x = self.conv_out(nn.functional.silu(self.conv_in(x)))
        return x.mean(dim=(2, 3)).unflatten(0, (frames.shape[0], -1))


class APM(nn.Module):
    """This is the whole module: `encoder`, `tokens`, and `mixers` under the numbers of the blocks whose text they mix
    into.
    """

    def __init__(
        self,
        config: APMConfig,
        layers: Iterable[int],
        operations=nn,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        made = FactoryArguments(device=device, dtype=dtype)
        self.config = config
        self.encoder = AnchorEncoder(config.in_channels, config.vector, operations, **made)
        self.tokens = PictureTokens(
            config.vector, config.inner, config.picture_tokens, config.width, operations, **made
        )
        self.mixers = nn.ModuleDict(
            {
                str(number): TextMixer(config.text_tokens, config.picture_tokens, config.width, operations, **made)
                for number in layers
            }
        )

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(int(number) for number in self.mixers)

    def start(self) -> None:
        """Set start values for training, which are neutral."""
        for part in self.modules():
            if isinstance(part, TextMixer):
                nn.init.zeros_(part.alpha)

    def picture(self, frames: torch.Tensor) -> torch.Tensor:
        """Return the picture tokens [B, tokens, width] of anchor frames [B, in_channels, F, H, W]. Frames that are all
        0 are the null anchor, which negative prompts are given.
        """
        return self.tokens(self.encoder(frames))
