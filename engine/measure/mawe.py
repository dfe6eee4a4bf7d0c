"""Measure how much of a video's change its movement does not explain: MAWE, the motion-aware warp error of StreamingT2V
(arXiv 2403.14773, section 5.1 and its appendix), in both definitions that its authors published.

Frames are stretched to 720 x 720 pixels; each frame is moved along the optical flow to the next one, every pixel to the
nearest place; where two meet, the one that comes later row by row counts, and places that none reaches are left out.
The warp error is the mean squared difference from the real next frame there, on the scale 0..255. MAWE divides it by
how much moves, so that standing still earns nothing. What their text and their code make of that differs:

- code: the mean over pairs of error / (9.5 x mean length of the flow);
- paper: mean error / mean squared length of the flow.

So figures compare within one definition alone, and within one source of flow: theirs is RAFT, which is not known here.
A pair whose flow is below STILL has no figure of its own (0 / 0 in their code) and is left out of both. Lower is
better; grain and a codec's noise raise it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 720  # pixels: the published code stretches every video to 720 x 720
COEFFICIENT = 9.5  # of the published code
STILL = 0.01  # pixels of mean flow below which a pair stands still


def stretched(frames: Tensor, side: int = SIDE) -> Tensor:
    """Return [F, 3, H, W], 0..255, as [F, 3, side, side] in whole numbers, as the published code resizes frames:
    bilinear, not antialiased.
    """
    return F.interpolate(frames.float(), size=(side, side), mode="bilinear", align_corners=False).round()


def warp_error(one: Tensor, two: Tensor, flow: Tensor) -> float:
    """Return the mean squared difference of `two` from `one` moved along `flow`; NaN where everything left the picture.

    Args:
        one, two: neighbouring frames [3, H, W], 0..255.
        flow: [2, H, W], x and y in pixels, from `one` to `two`.
    """
    _, height, width = one.shape
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    x, y = (columns + flow[0]).round().long(), (rows + flow[1]).round().long()
    inside = ((x >= 0) & (x < width) & (y >= 0) & (y < height)).flatten()
    target = (y * width + x).flatten()[inside]
    source = torch.arange(height * width)[inside]
    last = torch.full((height * width,), -1).scatter_reduce_(0, target, source, "amax")  # who came last, row by row
    known = last >= 0
    moved = one.flatten(1)[:, last[known]]  # [3, known]; levels are whole numbers, so their squares are exact
    return float((moved - two.flatten(1)[:, known]).square().mean(dtype=torch.float64))


def flow_lengths(flow: Tensor) -> tuple[float, float]:
    """Return the mean length in pixels, and the mean squared length, of [2, H, W]."""
    square = flow.square().sum(0)
    return float(square.sqrt().mean(dtype=torch.float64)), float(square.mean(dtype=torch.float64))


def mawe_of_the_code(errors: Tensor, lengths: Tensor) -> float | None:
    """Return MAWE as published in code, of the pairs' warp errors and mean flows, each [P]; None where nothing
    moves.
    """
    moves = (lengths >= STILL) & errors.isfinite()
    return float((errors[moves] / (COEFFICIENT * lengths[moves])).mean()) if bool(moves.any()) else None


def mawe_of_the_paper(errors: Tensor, squares: Tensor, lengths: Tensor) -> float | None:
    """Return MAWE as the paper's text defines it, of the pairs' warp errors and mean squared flows, each [P]; pairs
    whose mean flow is below STILL are left out. None where nothing moves.
    """
    moves = (lengths >= STILL) & errors.isfinite()
    return float(errors[moves].mean() / squares[moves].mean()) if bool(moves.any()) else None
