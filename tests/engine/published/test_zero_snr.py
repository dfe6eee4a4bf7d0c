"""engine/published/zero_snr.py against a plain second implementation of its specification."""

import numpy
import pytest

from longreel.engine.published.zero_snr import zero_snr_schedule


def plain_schedule(steps: int, shift: float) -> tuple[list[int], numpy.ndarray, numpy.ndarray]:
    """The specification, line by line, in float64: timesteps, alphas with the trailing 1, the 1000-entry table."""
    betas = numpy.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    bar = numpy.cumprod(1 - betas)
    root = numpy.sqrt(bar / (shift + (1 - shift) * bar))
    timesteps = [int(t) for t in numpy.linspace(999, 0, steps, endpoint=False)]

    def rescale(descending: numpy.ndarray) -> numpy.ndarray:
        return (descending - descending[-1]) * descending[0] / (descending[0] - descending[-1])

    chosen = rescale(root[sorted(timesteps)])[::-1]
    return timesteps, numpy.append(chosen, 1.0), rescale(root)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [2, 3, 7, 10, 30, 50, 111, 1000])
def test_the_schedule_is_the_specification_s(steps: int, shift: float) -> None:
    schedule = zero_snr_schedule(steps, shift)
    timesteps, alphas, table = plain_schedule(steps, shift)
    assert list(schedule.timesteps) == timesteps
    assert schedule.alphas == pytest.approx(alphas, abs=2e-6)
    assert schedule.table.numpy() == pytest.approx(table, abs=2e-6)
    assert (schedule.alphas[0], schedule.alphas[-1], float(schedule.table[-1])) == (0.0, 1.0, 0.0)


def test_the_rescaling_runs_over_the_selected_timesteps() -> None:
    """Hence a run's alphas are not entries of the table, and the network's conversion snaps to the nearest."""
    schedule = zero_snr_schedule(10, 3.0)
    alpha, own = schedule.alphas[5], float(schedule.table[schedule.timesteps[5]])
    assert alpha != own
    snapped = schedule.network_alpha(alpha)
    assert snapped in schedule.table.tolist()
    assert abs(snapped - alpha) <= (schedule.table - alpha).abs().min() + 1e-7


@pytest.mark.parametrize(
    ("steps", "shift", "message"), [(0, 1.0, "0 steps"), (1001, 1.0, "1001 steps"), (50, 0.0, "shift 0")]
)
def test_an_impossible_schedule_is_refused(steps: int, shift: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        zero_snr_schedule(steps, shift)
