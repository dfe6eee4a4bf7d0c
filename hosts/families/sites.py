"""Where the networks attend: one `Site` per attention module of a family, and one `Call` per time that it runs.

Families (hosts/families/<family>.py) list their sites; hosts/attention/patching.py watches them; features
(hosts/features/kv_share.py, ...) act on calls. Every family's tensors have the same form here: [B, H, S, D], text
tokens (if any) in front of the video's.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

SELF, CROSS, JOINT = "self", "cross", "joint"
FRAME_AXIS = 2  # of a latent [B, C, F, H, W]

Shift = Callable[[torch.Tensor, float], torch.Tensor]
"""(keys [B, H, S, D], token frames) -> the keys so much later in time."""
Change = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Site:
    """A site is one attention module of a network.

    `module` is entered once in every forward, with transformer_options; `block` counts from 0 over all blocks of the
    network. `text_tokens(module, args, kwargs)` is the number of text tokens in front of the keys (JOINT). The module's
    first `calls_before` attention calls read other tokens (a picture's) and are none of the features' business.
    """

    module: torch.nn.Module
    kind: str
    block: int
    text_tokens: Callable[[torch.nn.Module, tuple, dict], int] = lambda module, args, kwargs: 0
    calls_before: int = 0


@dataclass
class Visit:
    """One forward of one site, from entering its module to leaving it."""

    site: Site
    text_tokens: int
    calls: int = 0  # attention calls so far


@dataclass(frozen=True)
class Forward:
    """This describes one forward of the network.

    `grid` counts video tokens: frames, rows, columns; a token frame is `patch_frames` latent frames. `time_shift(k,
    frames)` moves rotated video keys [B, H, S, D] later in time by so many token frames, which may be negative or a
    fraction; None where positions are not rotary. `prompt_start` is the place of the prompt's first token among the
    text tokens that are attended to. `leading` tokens of references stand in front of the video's in one sequence with
    it; others may stand behind.
    """

    grid: tuple[int, int, int]
    patch_frames: int
    time_shift: Shift | None
    prompt_start: int = 0
    leading: int = 0

    @property
    def video_tokens(self) -> int:
        """Return how many tokens the grid has."""
        frames, rows, columns = self.grid
        return frames * rows * columns


@dataclass(frozen=True)
class Call:
    """This is one attention call of a site.

    `rows` names the prompt (its number in core's cond_or_uncond) of each equal part of the batch, `entries` the place
    of that part's entry in the prompt's list of conditioning. `text_tokens` counts the text tokens in front of q and k
    (0 for SELF and CROSS).
    """

    kind: str
    block: int
    text_tokens: int
    rows: tuple[int, ...]
    entries: tuple[int, ...]
    q: torch.Tensor  # [B, H, Sq, D]
    k: torch.Tensor  # [B, H, Sk, D], rotated
    v: torch.Tensor
    mask: torch.Tensor | None  # additive, four axes, broadcast to [B, H, Sq, Sk]
    forward: Forward
    evaluation: Any = field(repr=False, default=None)  # hosts/attention/feature.Evaluation

    @property
    def video(self) -> slice:
        """Return where the tokens of the video's frames stand, among text, references and poses."""
        start = self.text_tokens + self.forward.leading
        return slice(start, start + self.forward.video_tokens)

    @property
    def prompts(self) -> tuple[tuple[int, int], ...]:
        """Return (number of the prompt, place of the entry in it) of each equal part of the batch."""
        return tuple(zip(self.rows, self.entries, strict=True))


@dataclass(frozen=True)
class TextPlace:
    """`module` is given text as the argument `name` [B, L, C]; prompt(args, kwargs) is the prompt's part of it."""

    module: torch.nn.Module
    name: str
    prompt: Callable[[tuple, dict], slice] = lambda args, kwargs: slice(None)

    def change(self, args: tuple, kwargs: dict, change: Change) -> tuple[tuple, dict]:
        """Return the module's arguments with another text, of the same length."""
        method = type(self.module).forward
        given = argument(method, args, kwargs, self.name)
        start, stop, _ = self.prompt(args, kwargs).indices(given.shape[1])
        changed = torch.cat([given[:, :start], change(given[:, start:stop]), given[:, stop:]], dim=1)
        if self.name in kwargs:
            return args, {**kwargs, self.name: changed}
        place = list(inspect.signature(method).parameters).index(self.name) - 1  # behind self
        return (*args[:place], changed, *args[place + 1 :]), kwargs


def argument(method: Callable, args: tuple, kwargs: dict, name: str) -> Any:
    """Return what an unbound method was given as `name` behind self, by place or by name, or else its default."""
    _, *parameters = inspect.signature(method).parameters.values()
    place = [parameter.name for parameter in parameters].index(name)
    return args[place] if place < len(args) else kwargs.get(name, parameters[place].default)


def token_grid(latent_shape: Sequence[int], patch: Sequence[int]) -> tuple[int, ...]:
    """Return how many tokens cover a latent along each axis.

    They are the sizes (frames, rows, columns) over those of a patch, rounded up.
    """
    return tuple(-(-size // side) for size, side in zip(latent_shape, patch, strict=True))
