"""engine/sampling/channel_statistics.py: latents take over the mean and deviation of others, channel by channel."""

import pytest
import torch

from longreel.engine.sampling.channel_statistics import match_statistics

AXES = (2, 3, 4)


def clip(seed: int, frames: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    scale = torch.linspace(0.5, 2, 4)[None, :, None, None, None]
    return torch.randn(2, 4, frames, 5, 6, generator=generator) * scale + scale * seed


def test_full_strength_gives_every_channel_the_references_mean_and_deviation():
    matched, reference = match_statistics(clip(1), clip(2, frames=7), 1.0), clip(2, frames=7)
    assert torch.allclose(matched.mean(AXES), reference.mean(AXES), atol=1e-5)
    assert torch.allclose(matched.std(AXES, correction=0), reference.std(AXES, correction=0), atol=1e-5)


def test_strength_zero_leaves_the_clip_as_it_is():
    assert torch.equal(match_statistics(clip(1), clip(2), 0.0), clip(1))


def test_half_strength_is_half_way():
    whole, half = (match_statistics(clip(1), clip(2), strength) for strength in (1.0, 0.5))
    assert torch.allclose(half, (clip(1) + whole) / 2, atol=1e-5)


def test_its_own_statistics_change_nothing():
    assert torch.allclose(match_statistics(clip(1), clip(1), 1.0), clip(1), atol=1e-5)


def test_each_video_of_a_batch_has_its_own_reference():
    both = match_statistics(clip(1), clip(2), 1.0)
    alone = match_statistics(clip(1)[1:], clip(2)[1:], 1.0)
    assert torch.allclose(both[1:], alone, atol=1e-6)


def test_a_channel_without_contrast_gets_the_mean_and_stays_finite():
    flat = torch.zeros(1, 4, 1, 5, 6)
    matched = match_statistics(flat, clip(2)[:1], 1.0)
    assert torch.isfinite(matched).all()
    assert torch.allclose(matched.mean(AXES), clip(2)[:1].mean(AXES), atol=1e-5)


@pytest.mark.parametrize("strength", [-0.1, 1.5])
def test_a_strength_out_of_range_is_refused(strength):
    with pytest.raises(ValueError, match=f"statistics {strength:g} is outside 0..1; use 1"):
        match_statistics(clip(1), clip(2), strength)
