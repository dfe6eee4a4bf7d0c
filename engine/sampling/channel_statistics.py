"""Give the colour and contrast of one clip to another, as channel statistics of latents.

Adaptive instance normalization (AdaIN, arXiv 1703.06868) on latents: every channel is shifted and scaled to the mean
and standard deviation of another clip's. Chunk after chunk that is sampled from its own output drifts in both; pulling
each back to the first one stops the sum. Statistics are over time and space together, so movement is left alone.
"""

import torch

CLIP_AXES = (2, 3, 4)  # of [B, C, F, H, W]
LEAST_DEVIATION = 1e-6  # of a channel; below it there is no contrast to scale


def match_statistics(clip: torch.Tensor, reference: torch.Tensor, strength: float) -> torch.Tensor:
    """Return `clip` [B, C, F, H, W] with each channel's mean and deviation moved towards those of `reference` [B, C,
    F', H', W'].

    strength: 0 leaves the clip as it is, to the bit; 1 gives it the reference's statistics. Raises ValueError outside
    0..1.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"statistics {strength:g} is outside 0..1; use 1 for the anchor's own, 0 for none")
    if strength == 0:
        return clip
    mean, deviation = clip.mean(CLIP_AXES, keepdim=True), _deviation(clip)  # [B, C, 1, 1, 1]
    wanted_mean, wanted_deviation = reference.mean(CLIP_AXES, keepdim=True), _deviation(reference)
    matched = (clip - mean) / deviation.clamp(min=LEAST_DEVIATION) * wanted_deviation + wanted_mean
    return torch.lerp(clip, matched, strength)


def _deviation(clip: torch.Tensor) -> torch.Tensor:
    return clip.std(CLIP_AXES, keepdim=True, correction=0)
