"""What trained memories do where a network's blocks hold the video's tokens (hosts/families/family.py says where).

Only plain networks are served: what is built on them (VACE, Animate, audio, ...) attends in further places and is
refused by name. Reference pictures and guides that stand among the video's tokens belong to no frame: `frames_of`
refuses them.
"""

import math
from collections.abc import Mapping, Sequence

import torch

from ..types import BaseModel, ModelPatcher
from . import family_of, plain_family_of
from .family import Family
from .sites import Change


def plain_family(model: ModelPatcher) -> Family:
    """Return the family of a ModelPatcher's network.

    Raises ValueError, naming the network, where it is built on the family's plain one.
    """
    family, network = family_of(model), model.model.diffusion_model
    if plain_family_of(network) is None:
        raise ValueError(
            f"{type(network).__name__} is built on {family.NAME} but attends in further places, which trained memories "
            f"do not reach; use the plain text- or image-to-video model"
        )
    return family


def check_alone(model: BaseModel, conds: Mapping[str, Sequence[Mapping]], name: str) -> None:
    """Raise ValueError where a conditioning, by name and before core processes it, puts references among the video's
    tokens: `name` knows the video's alone.
    """
    names = ["time_dim_concat", "context_latents"]
    if getattr(model.diffusion_model, "ref_conv", None) is not None:
        names.append("reference_latents")
    for entry in (entry for entries in conds.values() for entry in entries or ()):
        found = next((key for key in names if entry.get(key) is not None), None)
        if found is not None:
            raise ValueError(
                f"the conditioning has {found}, which the network reads among the video's tokens, and {name} knows the "
                f"video's alone; remove the node that adds it, or this memory"
            )


def change_video(
    family: Family,
    block: torch.nn.Module,
    args: tuple,
    kwargs: dict,
    output: torch.Tensor | tuple[torch.Tensor, torch.Tensor],
    change: Change,
):
    """Return what a block of a family returned, with its video tokens [B, N, C] changed."""
    if isinstance(output, tuple):
        return change(output[0]), *output[1:]
    text = family.text_in_front(block, args, kwargs)
    if not text:
        return change(output)
    return torch.cat([output[:, :text], change(output[:, text:])], dim=1)


def add_at_entrance(output: torch.Tensor, added: torch.Tensor, grid: tuple[int, int, int]) -> torch.Tensor:
    """Return what the entrance returned, with `added` [B, F * P, C] on the video's tokens."""
    added = added.to(output)
    if output.shape[1:-1] == grid:  # [B, F, H, W, C]
        return output + added.unflatten(1, grid)
    if output.ndim == 5:  # [B, C, F, H, W]
        return output + added.transpose(1, 2).unflatten(2, grid)
    text = output.shape[1] - math.prod(grid)
    return torch.cat([output[:, :text], output[:, text:] + added], dim=1)


def frames_of(video: torch.Tensor, grid: tuple[int, int, int]) -> torch.Tensor:
    """Return the tokens [B, N, C] frame by frame, [B, F, P, C]. Raises ValueError where there are tokens of no
    frame.
    """
    if video.shape[1] != math.prod(grid):
        raise ValueError(
            f"the network's blocks read {video.shape[1]} video tokens and the window has {math.prod(grid)}; "
            f"reference pictures and guides belong to no frame that a memory knows: remove the node that "
            f"adds them"
        )
    return video.unflatten(1, (grid[0], -1))
