"""engine/sampling/alpha_space.py against a plain second implementation, and against cases with a known answer."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longreel.engine.published.zero_snr import zero_snr_schedule
from longreel.engine.sampling import alpha_space as A


def plain_dpmpp(x, alphas, denoise, noises):
    """DPM-Solver++(2M) SDE as the specification writes it, in float64."""
    before, h_before = None, None
    for i in range(len(alphas) - 1):
        a, b = alphas[i], alphas[i + 1]
        video = denoise(x, a)
        if b == 1:
            return video
        if a == 0:
            x = b * video + math.sqrt(1 - b * b) * noises[i]
            h_before, before = math.inf, video
            continue
        h = math.log(b / math.sqrt(1 - b * b)) - math.log(a / math.sqrt(1 - a * a))
        weight = 0 if before is None else h / h_before / 2
        mixed = video if before is None else (1 + weight) * video - weight * before
        x = (
            math.sqrt((1 - b * b) / (1 - a * a)) * math.exp(-h) * x
            - math.expm1(-2 * h) * b * mixed
            + math.sqrt(1 - b * b) * math.sqrt(1 - math.exp(-2 * h)) * noises[i]
        )
        before, h_before = video, h
    return x


def gaussian_denoiser(spread: float):
    """The best possible prediction for videos that are Gaussian with standard deviation `spread`."""

    def denoise(x, alpha, level=None):
        return alpha * spread**2 * x / (alpha**2 * spread**2 + 1 - alpha**2)

    return denoise


def draws(seed: int, count: int, *shape: int) -> torch.Tensor:
    return torch.randn(count, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def no_noise(step: int) -> torch.Tensor:
    raise AssertionError(f"step {step} asked for noise")


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [2, 3, 10, 50])
@pytest.mark.parametrize("shape", [(1, 5, 2, 3, 2), (2, 3, 4)])
def test_dpmpp_is_the_specification_s(steps: int, shift: float, shape: tuple[int, ...]) -> None:
    alphas = zero_snr_schedule(steps, shift).alphas
    noises = draws(1, steps, *shape)
    x = draws(2, 1, *shape)[0]

    def denoise(x, alpha, level=None):
        return torch.tanh(x * 1.3 + alpha) * 0.7 + 0.1 * x.mean()

    want = plain_dpmpp(x, alphas, denoise, noises)
    got = A.sample(x, alphas, range(steps), denoise, lambda step: noises[step])
    torch.testing.assert_close(got, want, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("solver", A.SOLVERS)
def test_deterministic_solvers_find_the_known_path(solver: str) -> None:
    """For Gaussian videos the noise-free path is known: x at alpha is the start, rescaled to that level's spread."""
    x, spread = draws(3, 1, 8, 4)[0], 1.7
    alphas = [A.alpha_of_sigma(sigma) for sigma in torch.logspace(1.5, -2, 200).tolist()]
    got = A.sample(x, alphas, range(199), gaussian_denoiser(spread), no_noise, solver, eta=0.0)
    scale = [math.sqrt(alpha**2 * spread**2 + 1 - alpha**2) for alpha in (alphas[0], alphas[-1])]
    torch.testing.assert_close(got, x * scale[1] / scale[0], atol=2e-2, rtol=2e-2)


def test_second_order_is_nearer_than_first_order() -> None:
    x, spread = draws(3, 1, 8, 4)[0], 1.7
    alphas = [A.alpha_of_sigma(sigma) for sigma in torch.logspace(1.5, -2, 31).tolist()]
    scale = [math.sqrt(alpha**2 * spread**2 + 1 - alpha**2) for alpha in (alphas[0], alphas[-1])]
    errors = [
        (A.sample(x, alphas, range(30), gaussian_denoiser(spread), no_noise, solver, eta=0.0) - x * scale[1] / scale[0])
        .abs().max() for solver in ("dpmpp_2m_sde", "ddim")
    ]  # fmt: skip
    assert errors[0] < errors[1] / 3


@pytest.mark.parametrize("solver", A.SOLVERS)
@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_fresh_noise_keeps_the_spread_of_the_videos(solver: str, eta: float) -> None:
    spread, steps = 0.6, 100
    alphas = zero_snr_schedule(steps).alphas
    noises = draws(4, steps, 20_000)
    got = A.sample(
        draws(5, 1, 20_000)[0], alphas, range(steps), gaussian_denoiser(spread), lambda i: noises[i], solver, eta
    )
    # The last step returns the prediction itself, whose spread is a little below that of the videos.
    assert 0.85 * spread < float(got.std()) < 1.03 * spread


@pytest.mark.parametrize("solver", A.SOLVERS)
def test_a_perfect_prediction_is_reached_whatever_the_noise(solver: str) -> None:
    video = draws(6, 1, 3, 4)[0]
    noises = draws(7, 6, 3, 4)
    for eta in (0.0, 1.0):
        got = A.sample(
            noises[0], zero_snr_schedule(6).alphas, range(6), lambda *_: video, lambda i: noises[i], solver, eta
        )
        assert torch.equal(got, video)


def test_ddim_keeps_the_noise_it_started_with() -> None:
    video, noise = draws(8, 2, 3, 4)
    alphas = [0.0, 0.3, 0.6, 0.9]
    seen = []
    out = A.sample(noise, alphas, range(3), lambda x, *_: video, no_noise, "ddim", 0.0, lambda i, v, x: seen.append(x))
    for alpha, x in zip(alphas, [*seen, out], strict=True):
        torch.testing.assert_close(x, A.add_noise(video, noise, alpha))


def test_from_pure_noise_the_sde_replaces_the_noise() -> None:
    video, fresh = draws(9, 2, 3, 4)
    outs = [A.step_dpmpp_2m_sde(x, video, fresh, 0.0, 0.4, A.SolverState())[0] for x in draws(10, 2, 3, 4)]
    assert torch.equal(*outs)
    torch.testing.assert_close(outs[0], A.add_noise(video, fresh, 0.4))


def test_the_callback_sees_each_prediction_before_x_moves() -> None:
    seen = []
    out = A.sample(torch.ones(2), [0.0, 0.5, 1.0], "ab", lambda x, alpha, level: x + alpha, lambda i: torch.zeros(2),
                   callback=lambda step, video, x: seen.append((step, video.tolist(), x.tolist())))  # fmt: skip
    assert [step for step, _, _ in seen] == [0, 1]
    assert seen[0] == (0, [1.0, 1.0], [1.0, 1.0])
    assert seen[1][2] == [0.5, 0.5]
    assert out.tolist() == seen[1][1] == [1.0, 1.0]


def test_guidance_goes_from_the_negative_to_the_positive_and_beyond() -> None:
    negative, positive = torch.tensor(1.0), torch.tensor(3.0)
    assert [float(A.guide(negative, positive, scale)) for scale in (0, 1, 2.5)] == [1.0, 3.0, 6.0]


def test_published_guidance_jumps_and_rising_guidance_rises() -> None:
    schedule = zero_snr_schedule(50)
    published = [A.dynamic_guidance(6, timestep, 50) for timestep in schedule.timesteps]
    assert published[:4] == pytest.approx([2.29, 2.54, 6.97, 6.42], abs=5e-3)
    assert sorted(published) != published
    rising = [A.rising_guidance(6, step, 50) for step in range(51)]
    assert sorted(rising) == rising
    assert (rising[0], rising[-1]) == (1.0, 7.0)


@settings(max_examples=50, deadline=None)
@given(scale=st.floats(0, 20), timestep=st.integers(0, 999), steps=st.integers(1, 1000))
def test_dynamic_guidance_stays_between_one_and_one_plus_scale(scale: float, timestep: int, steps: int) -> None:
    assert 1 - 1e-9 <= A.dynamic_guidance(scale, timestep, steps) <= 1 + scale + 1e-9


@settings(max_examples=50, deadline=None)
@given(sigma=st.floats(1e-3, 1e4))
def test_alpha_and_sigma_name_the_same_level(sigma: float) -> None:
    alpha = A.alpha_of_sigma(sigma)
    assert A.noise_of(alpha) / alpha == pytest.approx(sigma, rel=1e-6)
    assert A.lam_of(alpha) == pytest.approx(-math.log(sigma), abs=1e-6)


def test_v_and_noise_tell_the_same_video() -> None:
    video, noise = draws(11, 2, 3, 4)
    for alpha in (0.0, 0.4, 1.0):
        v = alpha * noise - A.noise_of(alpha) * video
        torch.testing.assert_close(A.video_from_v(A.add_noise(video, noise, alpha), v, alpha), video)


@pytest.mark.parametrize(("alphas", "solver", "eta", "message"), [
    ([0.5, 0.4, 1.0], "ddim", 0.0, "0.4 follows 0.5"),
    ([0.0, 0.0, 1.0], "ddim", 0.0, "0 follows 0"),
    ([0.0, 1.0], "ddim", 0.0, "2 levels need 3 alphas, got 2"),
    ([0.0, 0.5, 1.0], "euler", 0.0, "'euler' is not one of dpmpp_2m_sde, ddim"),
    ([0.0, 0.5, 1.0], "ddim", 1.5, r"eta 1.5 is outside 0..1"),
])  # fmt: skip
def test_impossible_runs_are_refused(alphas: list[float], solver: str, eta: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        A.sample(torch.zeros(2), alphas, range(2), lambda x, *_: x, lambda i: torch.zeros(2), solver, eta)
