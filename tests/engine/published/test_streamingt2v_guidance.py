"""engine/published/streamingt2v_guidance.py: rescaling brings the contrast of the positive prediction back."""

import pytest
import torch

from longreel.engine.published.streamingt2v_guidance import rescaled_guidance


def test_rescaling_brings_back_the_positive_spread() -> None:
    generator = torch.Generator().manual_seed(0)
    negative, positive = torch.randn(2, 2, 3, 4, 5, 5, generator=generator)
    plain = negative + 7.5 * (positive - negative)
    torch.testing.assert_close(rescaled_guidance(negative, positive, 7.5, 0.0), plain)
    full = rescaled_guidance(negative, positive, 7.5, 1.0)
    for row in range(2):  # each batch row by its own spread
        assert float(full[row].std()) == pytest.approx(float(positive[row].std()), rel=1e-5)
