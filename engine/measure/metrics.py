"""Measure how good a long video is: the seam score is a number for the joint between two shots, CSCV one for all its
frames.

CSCV (clip similarity coefficient of variation) is the metric of DiTCtrl (arXiv 2412.18597, section 4; its public code):
how evenly a video changes from frame to frame, seen through an image encoder that is not known here. A video that
stands still has the best score: it does not see that motion is missing. Golden tensors of the paper's code pin it.

The seam score is an own definition, built for one question: is something at the joint that motion cannot explain? It
knows frames only.

For a pair of frames, `unexplained` says how badly one follows from the other when every neighbourhood may move a
little: frames are reduced to 64 pixels on the short side; for each displacement within `reach` the difference per
pixel (worst channel) is taken with half a pixel of tolerance (Birchfield and Tomasi 1998, "A pixel dissimilarity
measure that is insensitive to image sampling", in two dimensions) and averaged over 9 x 9 pixels; the best
displacement counts per neighbourhood, and the worst neighbourhood counts for the frame; forwards and backwards, the
larger of the two. 0 is a perfect match, 1 is black against white.

`reach` is the fastest motion seen in the shots themselves (pairs that do not touch the joint), at least 3 pixels
between neighbouring frames, at most 10: a new direction is explained, a jump is not. Neighbourhoods centred closer
than that to the picture's edge do not count, because things come and go there.

The joint is compared with the shots: (worst pair across the joint) / (floor + worst pair within the shots), once for
neighbouring frames (floor 0.01) and once at half size for frames four apart (floor 0.1), which sees slow dissolves
and ghosts. The score is the larger of the two. At 1 the joint is no worse than the shots themselves plus one percent
of the picture's range.

It does not know whether the object is still the same one after it was hidden, and it cannot see a jump that is
smaller than the motion around it.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

SHORT_SIDE = 64  # pixels
NEIGHBOURHOOD = 9  # pixels, odd
FAR = 4  # frames between the second kind of pair: one latent frame of most video models
FLOOR = {1: 0.01, FAR: 0.1}  # of the range 0..1, by frames apart
FASTEST = 5  # pixels at half size between neighbouring frames; faster motion is taken for a jump
SLOWEST = {1: 3, FAR: 5}  # pixels that count as motion at any joint: a bounce may be slow all around it
GAIN = 0.02  # how much better a displacement must explain a neighbourhood to count as motion

CSCV_WEIGHT = 10  # the paper's lambda


def cscv(features: torch.Tensor) -> float:
    """Return how evenly a video changes (CSCV), for features [frames, dim] of its frames, in order (the paper's: CLIP
    ViT-B/32, pooled, 768 of them) -> above 0 to 1, 1 where every frame is as like its successor as the next is; the
    paper reports it times 100. Computed in the features' precision.

    Raises:
        ValueError: fewer than 2 frames, or neighbours are on average not alike at all, so nothing can vary around that.
    """
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(
            f"CSCV compares neighbours among features [frames, dim], got {list(features.shape)}; it needs "
            f"at least 2 frames"
        )
    unit = features / features.norm(dim=1, keepdim=True)
    return cscv_of((unit[:-1] * unit[1:]).sum(1))


def cscv_of(likeness: torch.Tensor) -> float:
    """Return CSCV of the likeness of each frame to the next one, [frames - 1], -1..1.

    Raises ValueError where the mean likeness is not above 0.
    """
    mean = float(likeness.mean())
    if mean <= 0:
        raise ValueError(
            f"neighbouring frames have a mean likeness of {mean:.3f}, and CSCV is defined above 0; use "
            f"features of an image encoder, one row per frame"
        )
    return 1 / (1 + CSCV_WEIGHT * float(likeness.std(correction=0)) / mean)


@dataclass(frozen=True)
class Seam:
    """This is a joint's `score` as defined above; `joint` and `shots` are the worst unexplained differences, 0..1, of
    the kind of pair (`frames_apart`) that decided.
    """

    score: float
    joint: float
    shots: float
    frames_apart: int


def seam(video: torch.Tensor, boundary: int, spread_frames: int = 0, around_frames: int = 8) -> Seam:
    """Compare the joint before frame `boundary` of video [F, H, W, C], values 0..1, with the shots around it.

    Args:
        boundary: first pixel frame of the later shot, 1..F-1.
        spread_frames: how many frames before and after the boundary also belong to the joint (half the length of a
            cross-fade), 0 for a hard joint.
        around_frames: how many frames of each shot, next to the joint, it is compared with; at least 5.

    Raises:
        ValueError: the video has too few frames on a side of the joint.
    """
    if video.ndim != 4:
        raise ValueError(f"seam needs a video of 4 dimensions [F, H, W, C], got {video.ndim}: {list(video.shape)}")
    first, last = boundary - 1 - spread_frames, boundary + spread_frames  # last frame before, first frame after
    before, after = first + 1, video.shape[0] - last
    if min(before, after, around_frames) < FAR + 1:
        raise ValueError(
            f"the joint at frame {boundary} leaves {before} frames before and {after} after, compared with "
            f"{around_frames}; each must be at least {FAR + 1}: use longer shots or a smaller spread_frames"
        )
    start = max(0, first - around_frames + 1)
    clip = reduced(video[start : last + around_frames], SHORT_SIDE)
    first, last = first - start, last - start
    half = F.avg_pool2d(clip, 2)
    _, moved = unexplained(*_ends(half, _pairs(first, last, len(clip), 1)[0]), FASTEST)
    near = _compare(clip, first, last, 1, 2 * moved + 1, SLOWEST[1])
    far = _compare(half, first, last, FAR, FAR * moved + 1, SLOWEST[FAR])
    return max(near, far, key=lambda s: s.score)


def seam_score(video: torch.Tensor, boundary: int, spread_frames: int = 0, around_frames: int = 8) -> float:
    """Return `seam(...).score`: about 0 to 1 when nothing happens at the joint but motion, several and up to 100 for a
    jump or a change of colour, shape or background. Same arguments, same errors.
    """
    return seam(video, boundary, spread_frames, around_frames).score


def reduced(video: torch.Tensor, short_side: int) -> torch.Tensor:
    """Return [F, H, W, C] as [F, C, h, w] float32 with the short side at most `short_side`, both even."""
    frames = video.permute(0, 3, 1, 2).float()
    height, width = frames.shape[-2:]
    scale = min(1.0, short_side / min(height, width))
    size = tuple(max(2, 2 * round(edge * scale / 2)) for edge in (height, width))
    return frames if size == (height, width) else F.interpolate(frames, size=size, mode="area")


def _pairs(first: int, last: int, frames: int, apart: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return pairs `apart` frames from each other: those that lie within one shot, and those that do not."""
    pairs = [(t, t + apart) for t in range(frames - apart)]
    within = [p for p in pairs if p[1] <= first or p[0] >= last]
    return within, [p for p in pairs if p not in within]


def _ends(frames: torch.Tensor, pairs: list[tuple[int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    return frames[[a for a, _ in pairs]], frames[[b for _, b in pairs]]


def _compare(frames: torch.Tensor, first: int, last: int, apart: int, search: int, least: int) -> Seam:
    """Compare frames: the shots are searched up to `search` pixels, the joint up to what the shots needed, but at least
    `least`.
    """
    within, across = _pairs(first, last, len(frames), apart)
    rest, moved = unexplained(*_ends(frames, within), max(search, least))
    reach = max(moved, least)
    edge = min(reach, min(frames.shape[-2:]) // 4)  # things come and go there
    shots = float(_inner(rest, edge).max())
    joint = float(_inner(unexplained(*_ends(frames, across), reach)[0], edge).max())
    return Seam(joint / (FLOOR[apart] + shots), joint, shots, apart)


def _inner(x: torch.Tensor, edge: int) -> torch.Tensor:
    return x[:, edge : x.shape[1] - edge, edge : x.shape[2] - edge]


def unexplained(
    one: torch.Tensor, two: torch.Tensor, reach: int, neighbourhood: int = NEIGHBOURHOOD
) -> tuple[torch.Tensor, int]:
    """Return, for pairs of frames, each [P, C, h, w], (difference 0..1 of every neighbourhood [P, h, w], by its centre;
    the largest displacement in pixels that explained something). Displacements go up to `reach` pixels; a
    neighbourhood is so many pixels wide, an odd number.
    """
    rest, moved = unexplained_and_moved(one, two, reach, neighbourhood)
    return rest, int(moved.max()) if len(moved) else 0


def unexplained_and_moved(
    one: torch.Tensor, two: torch.Tensor, reach: int, neighbourhood: int = NEIGHBOURHOOD
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what `unexplained` does, with the largest displacement of each pair, [P] whole pixels."""
    pairs = one.shape[0]
    rest, moved = _follow(torch.cat([one, two]), torch.cat([two, one]), reach, neighbourhood)
    return torch.maximum(rest[:pairs], rest[pairs:]), torch.maximum(moved[:pairs], moved[pairs:])


def _follow(
    source: torch.Tensor, target: torch.Tensor, reach: int, neighbourhood: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return how `target` follows from `source`, and how far each pair moved; pixels that would come from outside the
    picture are left out.
    """
    low, high = (F.pad(x, (reach,) * 4) for x in _half_pixel_range(source))
    pairs, _, height, width = target.shape
    known = F.pad(torch.ones(1, 1, height, width), (reach,) * 4)
    best = torch.full((pairs, height, width), torch.inf)
    inside = _inside(height, neighbourhood)[:, None], _inside(width, neighbourhood)
    moved = torch.zeros(pairs, dtype=torch.long)
    for ring in range(reach + 1):
        nearer = best
        for dy, dx in _ring(ring):
            rows, columns = slice(reach + dy, reach + dy + height), slice(reach + dx, reach + dx + width)
            off = torch.maximum(low[:, :, rows, columns] - target, target - high[:, :, rows, columns]).amax(1)
            seen = known[:, 0, rows, columns]  # [1, h, w]
            means = _neighbourhood_mean(torch.cat([off.clamp_(min=0) * seen, seen]), inside, neighbourhood)
            cost, share = means[:-1] / means[-1:].clamp(min=1e-6), means[-1:]
            best = torch.where(share >= 0.5, torch.minimum(best, cost), best)
        if ring > 0:
            moved[(nearer - best > GAIN).flatten(1).any(1)] = ring
    return best, moved


def _ring(radius: int) -> list[tuple[int, int]]:
    """Return all (dy, dx) whose length rounds to `radius`."""
    edge = range(-radius, radius + 1)
    return [(dy, dx) for dy in edge for dx in edge if round(math.hypot(dy, dx)) == radius]


def _neighbourhood_mean(x: torch.Tensor, inside: tuple[torch.Tensor, torch.Tensor], wide: int) -> torch.Tensor:
    """Return the mean of [P, h, w] over the part of `wide` x `wide` pixels that lies inside, `inside` being how many
    rows of it [h, 1] and columns [w] do.
    """
    half = wide // 2
    for dim, margins, count in ((1, (0, 0, half, half), inside[0]), (2, (half, half), inside[1])):
        size, padded = x.shape[dim], F.pad(x, margins)
        # Adding shifted copies gives the very numbers of avg_pool2d in a third of its time on a CPU.
        total = padded.narrow(dim, 0, size).clone()
        for shift in range(1, wide):
            total += padded.narrow(dim, shift, size)
        x = total / count
    return x


def _inside(size: int, wide: int) -> torch.Tensor:
    """Return how many of `wide` places around each of `size` ones are among them."""
    half, place = wide // 2, torch.arange(size)
    return (place + half).clamp(max=size - 1) - (place - half).clamp(min=0) + 1


def _half_pixel_range(frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the smallest and largest value within half a pixel of every pixel, linearly interpolated, each [P, C, h,
    w].
    """
    padded = F.pad(frames, (1, 1, 1, 1), mode="replicate")
    height, width = frames.shape[-2:]
    low, high = frames, frames
    for dy in (0, 1, 2):
        for dx in (0, 1, 2):
            between = (frames + padded[:, :, dy : dy + height, dx : dx + width]) / 2
            low, high = torch.minimum(low, between), torch.maximum(high, between)
    return low, high
