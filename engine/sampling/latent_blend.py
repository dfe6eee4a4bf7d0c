"""Blend the predictions of overlapping segments into one video.

`triangle` is DiTCtrl (arXiv 2412.18597, section 3.4; weights as in its public code), `randomized` is StreamingT2V's
randomized blending (arXiv 2403.14773, section 4.3, the consistent form of equation 8), `linear` a ramp over the
overlap, `cut` a hard switch in its middle. What is blended is the predicted clean latent (x0) after guidance; since
every frame's weights sum to one, blending velocity or noise instead would be the same.

All modes are 0..1 weights per segment and latent frame, so one weighted mean serves them all. This file knows nothing
about models, prompts or ComfyUI.
"""

from dataclasses import dataclass

import torch

BLENDS = ("triangle", "randomized", "linear", "cut")


def triangle_weights(length: int) -> torch.Tensor:
    """Return DiTCtrl's weight of each frame of a segment, [length]: a triangle over the whole segment, never zero."""
    i = torch.arange(length, dtype=torch.float32)
    rise = (2 * i + 1) / length
    return torch.minimum(rise, 2 - rise)


def ramp_weights(length: int, overlap_before: int, overlap_after: int) -> torch.Tensor:
    """Return [length]: one inside, a linear ramp over the frames shared with each neighbour."""
    i = torch.arange(length, dtype=torch.float32)
    rise = (i + 1) / (overlap_before + 1)
    fall = (length - i) / (overlap_after + 1)
    return torch.minimum(rise, fall).clamp(max=1)


def take_over_frames(starts: list[int], cuts: list[int]) -> list[int]:
    """Return the frame from which each segment is the one that counts: start + cut, never before its predecessor's."""
    frames = [starts[0]]
    for start, cut in zip(starts[1:], cuts, strict=True):
        frames.append(max(frames[-1], start + cut))
    return frames


def switch_weights(starts: list[int], lengths: list[int], cuts: list[int]) -> list[torch.Tensor]:
    """Return weights 0 or 1: segment i >= 1 takes over `cuts[i - 1]` frames after its start and holds until the next
    does.
    """
    begins = take_over_frames(starts, cuts)
    ends = [*begins[1:], starts[-1] + lengths[-1]]
    weights = []
    for start, length, begin, end in zip(starts, lengths, begins, ends, strict=True):
        frame = torch.arange(start, start + length)
        weights.append(((frame >= begin) & (frame < end)).float())
    return weights


def overlaps_of(starts: list[int], lengths: list[int]) -> list[int]:
    """Return the frames that each segment shares with the one before it, at least 0: one number per boundary."""
    return [max(0, s + n - t) for s, n, t in zip(starts, lengths, starts[1:], strict=False)]


def draw_cuts(overlaps: list[int], seed: int, evaluation: int) -> list[int]:
    """Draw one cut per boundary, uniform on 0..overlap as in the paper (its code stops at overlap - 1); the same for
    the same seed and evaluation, on any device.
    """
    generator = torch.Generator().manual_seed((seed * 1_000_003 + evaluation) % 2**63)
    return [int(torch.randint(0, overlap + 1, (1,), generator=generator)) for overlap in overlaps]


def segment_weights(
    blend: str, starts: list[int], lengths: list[int], seed: int = 0, evaluation: int = 0
) -> list[torch.Tensor]:
    """Return the weight of every frame of every segment, before division by the sum per frame: one [length] per
    segment.

    `starts` rise; `seed` and `evaluation` (which call of the network this is) matter for `randomized` alone.
    """
    overlaps = overlaps_of(starts, lengths)
    if blend == "triangle":
        return [triangle_weights(length) for length in lengths]
    if blend == "linear":
        return [ramp_weights(*sides) for sides in zip(lengths, [0, *overlaps], [*overlaps, 0], strict=True)]
    if blend == "cut":
        return switch_weights(starts, lengths, [overlap // 2 for overlap in overlaps])
    if blend == "randomized":
        return switch_weights(starts, lengths, draw_cuts(overlaps, seed, evaluation))
    raise ValueError(f"unknown blend {blend!r}; use one of {', '.join(BLENDS)}")


def blend_predictions(
    predictions: list[torch.Tensor], starts: list[int], weights: list[torch.Tensor], total_frames: int, dim: int = 0
) -> torch.Tensor:
    """Return the weighted mean per frame of overlapping predictions, `total_frames` frames; `dim` is the frame axis.

    Every frame must be covered by a positive weight.
    """
    shape = list(predictions[0].shape)
    shape[dim] = total_frames
    numerator = predictions[0].new_zeros(shape)
    denominator = predictions[0].new_zeros(total_frames)
    column = [1] * len(shape)
    for prediction, start, weight in zip(predictions, starts, weights, strict=True):
        weight = weight.to(prediction)
        column[dim] = len(weight)
        numerator.narrow(dim, start, len(weight)).add_(prediction * weight.view(column))
        denominator[start : start + len(weight)] += weight
    if not (denominator > 0).all():
        missing = int((denominator <= 0).nonzero()[0])
        raise ValueError(
            f"no segment covers latent frame {missing} of {total_frames}; lengthen the segments or the overlap"
        )
    column[dim] = total_frames
    return numerator / denominator.view(column)


def randomized_blend(chunks: list[torch.Tensor], starts: list[int], cuts: list[int], dim: int = 0) -> torch.Tensor:
    """Blend as StreamingT2V does: chunk i >= 1 takes over `cuts[i - 1]` frames after its start; no frame is
    averaged.
    """
    lengths = [chunk.shape[dim] for chunk in chunks]
    weights = switch_weights(starts, lengths, cuts)
    return blend_predictions(chunks, starts, weights, starts[-1] + lengths[-1], dim)


@dataclass(frozen=True)
class DitctrlLayout:
    """A layout has the `starts` of all segments; `mixes` the prompts of each as (prompt, share); `base_starts` of each
    prompt's own (first) segment.
    """

    starts: tuple[int, ...]
    mixes: tuple[tuple[tuple[int, float], ...], ...]
    base_starts: tuple[int, ...]
    total_frames: int


def ditctrl_layout(
    prompts: int, length: int, overlap: int, transition_prompts: int, repeat_middle: int = 0
) -> DitctrlLayout:
    """Return DiTCtrl's own layout: each prompt has one segment of `length`, and between neighbours stand
    `transition_prompts` segments whose prompt moves linearly from one to the next, all `length - overlap` frames apart.
    """
    mixes: list[tuple[tuple[int, float], ...]] = []
    base: list[int] = []
    for prompt in range(prompts):
        base.append(len(mixes))
        middle = 0 < prompt < prompts - 1
        mixes += [((prompt, 1.0),)] * (1 + repeat_middle * middle)
        if prompt < prompts - 1:
            for j in range(1, transition_prompts + 1):
                share = j / (transition_prompts + 1)
                mixes.append(((prompt, 1 - share), (prompt + 1, share)))
    stride = length - overlap
    starts = tuple(k * stride for k in range(len(mixes)))
    return DitctrlLayout(starts, tuple(mixes), tuple(starts[k] for k in base), length + (len(mixes) - 1) * stride)
