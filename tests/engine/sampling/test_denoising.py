"""engine/sampling/denoising.py: what is noised comes back, whichever level it is asked of."""

import itertools
import math

import pytest
import torch

from longreel.engine.published.zero_snr import zero_snr_schedule
from longreel.engine.sampling.denoising import FlowMatching, VPrediction, loss_per_video

V = VPrediction(zero_snr_schedule(50).table.double())
KINDS = {"flow": FlowMatching(3.0), "v": V}


@pytest.fixture(params=list(KINDS))
def objective(request):
    return KINDS[request.param]


def pair(batch: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(batch, 2, 3, 2, 2, dtype=torch.float64), torch.randn(batch, 2, 3, 2, 2, dtype=torch.float64)


def test_a_perfect_network_steps_to_the_noise_of_the_next_level_and_at_the_end_to_the_video(objective):
    clean, noise = pair(1)
    levels = objective.descent(7)
    assert len(levels) == 8
    x = noise
    for level, to in itertools.pairwise(levels):
        torch.testing.assert_close(x, objective.noise(clean, noise, torch.tensor([level], dtype=torch.float64)))
        x = objective.step(x, objective.target(clean, noise, torch.tensor([level], dtype=torch.float64)), level, to)
    torch.testing.assert_close(x, clean)


def test_the_descent_is_shifted_towards_noise_as_the_levels_of_training_are():
    assert FlowMatching(1.0).descent(4) == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert FlowMatching(3.0).descent(4) == pytest.approx([1.0, 0.9, 0.75, 0.5, 0.0])
    assert V.descent(4) == [999.0, 749.0, 500.0, 250.0, -1.0]


def test_levels_are_drawn_from_all_strata_and_follow_the_seed(objective):
    draw = [objective.draw_levels(torch.Generator().manual_seed(seed), 1000) for seed in (0, 0, 1)]
    assert torch.equal(draw[0], draw[1]) and not torch.equal(draw[0], draw[2])
    low, high = (0, 1) if isinstance(objective, FlowMatching) else (0, 999)
    assert low <= draw[0].min() and draw[0].max() <= high
    if isinstance(objective, VPrediction):
        assert torch.equal(draw[0].sort().values, torch.arange(1000.0))
    else:
        assert draw[0].median() == pytest.approx(3 / 4, abs=0.03)


def test_x0s_loss_of_the_paper_is_vs(objective):
    """mean((x0_hat - x0)^2) / (1 - alpha^2), docs/ttt.md, Training."""
    clean, noise = pair()
    levels = (
        torch.tensor([0.2, 0.4, 0.6, 0.9])
        if isinstance(objective, FlowMatching)
        else torch.tensor([10.0, 300, 700, 999])
    )
    target = objective.target(clean, noise, levels)
    said = target + 0.1 * torch.randn_like(target)
    loss = loss_per_video(said, target)
    assert loss.shape == (4,) and loss.dtype == torch.float32
    if isinstance(objective, VPrediction):
        alpha = objective.alphas[levels.long()].view(-1, 1, 1, 1, 1)
        x0 = alpha * objective.noise(clean, noise, levels) - (1 - alpha**2).sqrt() * said
        papers = (x0 - clean).square().flatten(1).mean(1) / (1 - alpha**2).flatten()
        torch.testing.assert_close(loss.double(), papers, rtol=1e-5, atol=1e-7)
    else:
        torch.testing.assert_close(loss.double(), (said - noise + clean).square().flatten(1).mean(1), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FlowMatching(0.0), "shift is 0, not above 0"),
        (lambda: FlowMatching(1.0, 2.0), "uniform_share is 2"),
        (lambda: VPrediction(torch.tensor([0.1, 0.9])), "must descend"),
        (lambda: FlowMatching(math.nan), "shift is nan"),
    ],
)
def test_numbers_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
