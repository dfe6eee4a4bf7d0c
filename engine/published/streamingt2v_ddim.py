"""Refine a stream as the second published model does it: chunks take DDIM steps of their own and are joined.

Source: StreamingT2V (arXiv 2403.14773, section 4.3, whose text has x_{t-1} blended) and the public StreamingSVD
enhancer (I2VGen-XL). What is blended is a chunk's noised video after its step, where engine/sampling/refine.py blends
clean predictions before the step of the whole. DDIM has no history and, at eta 0, no fresh noise, so here a chunk's
step is its own; for solvers with a history the two are not the same. How a network is called, and where cuts come from,
is not known here.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch

from ..sampling.alpha_space import SolverState, add_noise, noise_of, step_ddim
from ..sampling.latent_blend import randomized_blend
from ..sampling.refine import chunk_starts


def refine_ddim(
    video: torch.Tensor,
    noise: torch.Tensor,
    alphas: Sequence[float],
    chunk: int,
    overlap: int,
    predict: Callable[[torch.Tensor, int, int], torch.Tensor],
    cuts: Callable[[int], Sequence[int]],
    dim: int = 2,
) -> torch.Tensor:
    """Noise a latent video to alphas[0] and take it to alphas[-1] in overlapping chunks.

    video: clean latent, frames on axis `dim`, n * (chunk - overlap) + overlap of them. noise: unit Gaussian like video,
    drawn once for the whole of it. alphas: signal shares, one more than steps, all above 0 and below 1.
    predict(x_chunk, step, index) -> the noise in chunk `index`, after guidance. cuts(step) -> one number per boundary.
    """
    starts = chunk_starts(video.shape[dim], chunk, overlap)
    x = add_noise(video, noise, alphas[0])
    for step, (alpha, alpha_next) in enumerate(pairwise(alphas)):
        moved = []
        for index, start in enumerate(starts):
            x_chunk = x.narrow(dim, start, chunk)
            clean = (x_chunk - noise_of(alpha) * predict(x_chunk, step, index)) / alpha
            moved.append(step_ddim(x_chunk, clean, None, alpha, alpha_next, SolverState())[0])
        x = randomized_blend(moved, starts, list(cuts(step)), dim)
    return x
