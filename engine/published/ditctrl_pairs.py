"""Take DiTCtrl's joint step: neighbouring segments go through the network in pairs, and all their predictions are
blended.

Source: DiTCtrl (arXiv 2412.18597) and its public multi-prompt sampler. Pair k holds segment k as source and k + 1 as
target; an inner segment is therefore predicted twice, once in each role, and both predictions count alike. What the
pair shares inside the network (K/V, masks) is not known here.
"""

import itertools
from collections.abc import Callable, Sequence

import torch

from ..sampling.latent_blend import blend_predictions, triangle_weights


def pair_starts(starts: Sequence[int]) -> list[int]:
    """Return the first frame of every prediction, in the order source 0, target 0, source 1, ...: 2 * (segments - 1) of
    them.
    """
    if len(starts) < 2:
        raise ValueError(f"{len(starts)} segment has no neighbour to pair with; use at least 2")
    return [start for pair in itertools.pairwise(starts) for start in pair]


def blend_pairs(predictions: Sequence[torch.Tensor], starts: Sequence[int], total: int, dim: int) -> torch.Tensor:
    """Blend the predictions of all pairs, in the order of `pair_starts`, by DiTCtrl's triangle.

    predictions: clean videos of one length, frames on axis `dim`. starts: first frame of every *segment*. total: frames
    of the result.
    """
    weight = triangle_weights(predictions[0].shape[dim])
    return blend_predictions(list(predictions), pair_starts(starts), [weight] * len(predictions), total, dim)


def denoise_in_pairs(
    x: torch.Tensor,
    starts: Sequence[int],
    length: int,
    predict: Callable[[torch.Tensor, torch.Tensor, int], tuple[torch.Tensor, torch.Tensor]],
    dim: int,
) -> torch.Tensor:
    """Return one step's clean video from pairs of segments of one shared latent.

    x: the whole noised latent, frames on axis `dim`. length: frames of a segment. predict(source, target, pair) -> the
    two clean segments, after guidance. Returns the clean video, like x.
    """
    predictions: list[torch.Tensor] = []
    for pair, (source, target) in enumerate(itertools.pairwise(starts)):
        predictions += predict(x.narrow(dim, source, length), x.narrow(dim, target, length), pair)
    return blend_pairs(predictions, starts, x.shape[dim], dim)
