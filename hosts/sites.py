"""Where the networks attend: one `Site` per attention module of a family, and one `Call` per time that it runs.

Families (hosts/<family>.py) list their sites; hosts/patching.py watches them; features (hosts/kv_share.py, ...) act on
calls. Every family's tensors have the same form here: [B, H, S, D], text tokens (if any) in front of the video's.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

SELF, CROSS, JOINT = "self", "cross", "joint"


@dataclass(frozen=True)
class Site:
    """`module` is called once per evaluation with transformer_options as a keyword; `block` counts from 0 over all
    blocks of the network. `text(args, kwargs)` is the number of text tokens in front of the keys (JOINT), or of image
    tokens that are attended apart, before the text (CROSS)."""

    module: torch.nn.Module
    kind: str
    block: int
    text: Callable[[tuple, dict], int] = lambda args, kwargs: 0


@dataclass
class Visit:
    """One evaluation of one site, from entering its module to leaving it."""

    site: Site
    in_front: int  # what site.text said
    calls: int = 0  # attention calls so far


@dataclass(frozen=True)
class Forward:
    """One forward of the network. `grid` counts video tokens: frames, rows, columns; a token frame is `patch_frames`
    latent frames. `turn(k, frames)` moves rotated video keys [B, H, S, D] by so many token frames in time; None where
    positions are not rotary. `words_at` is the place of the prompt's first token among the text tokens that are
    attended to."""

    grid: tuple[int, int, int]
    patch_frames: int
    turn: Callable[[torch.Tensor, float], torch.Tensor] | None
    words_at: int = 0

    @property
    def video_tokens(self) -> int:
        frames, rows, columns = self.grid
        return frames * rows * columns


@dataclass(frozen=True)
class Call:
    """One attention call of a site. `rows` names the prompt (its number in core's cond_or_uncond) of each equal part of
    the batch. `text` counts the text tokens in front of q and k (0 for SELF and CROSS)."""

    kind: str
    block: int
    text: int
    rows: tuple[int, ...]
    q: torch.Tensor  # [B, H, Sq, D]
    k: torch.Tensor  # [B, H, Sk, D], rotated
    v: torch.Tensor
    mask: torch.Tensor | None  # additive, broadcast to [B, H, Sq, Sk]
    forward: Forward
    evaluation: Any = field(repr=False, default=None)  # hosts/patching.Evaluation
