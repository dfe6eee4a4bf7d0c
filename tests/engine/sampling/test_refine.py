"""engine/sampling/refine.py beyond the golden tensors: other lengths, the guidance, the refusals."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longreel.engine.sampling import refine as R


def test_the_schedule_is_the_published_one() -> None:
    schedule = R.refine_schedule(30)
    assert schedule.alpha_at(599) == pytest.approx(0.2335, abs=1e-4)
    assert float(schedule.noise[-1]) == 1.0
    assert float(schedule.sigmas[0]) == pytest.approx(4.1648, abs=1e-4)
    assert float(schedule.sigmas[-2]) == pytest.approx(0.1229, abs=1e-4)
    assert float(schedule.sigmas[-1]) == 0.0
    assert schedule.timesteps[:3] == (599, 580, 560)


@pytest.mark.parametrize("steps", [1, 4, 6, 12, 30, 50])
def test_sigmas_fall_and_match_their_timesteps(steps: int) -> None:
    schedule = R.refine_schedule(steps)
    assert len(schedule.sigmas) == len(schedule.timesteps) + 1
    assert (schedule.sigmas[1:] < schedule.sigmas[:-1]).all()
    for sigma, timestep in zip(schedule.sigmas, schedule.timesteps, strict=False):
        share = float(schedule.noise[timestep])
        assert float(sigma) == pytest.approx(share / schedule.alpha_at(timestep), rel=0.05)  # timesteps are rounded


def test_fewer_noise_levels_start_from_less_noise() -> None:
    assert R.refine_schedule(10, 300).sigmas[0] < R.refine_schedule(10, 600).sigmas[0]


@settings(max_examples=60, deadline=None)
@given(chunk=st.integers(2, 40), data=st.data())
def test_chunks_cover_every_frame(chunk: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, chunk - 1))
    count = data.draw(st.integers(1, 6))
    frames = count * (chunk - overlap) + overlap
    starts = R.chunk_starts(frames, chunk, overlap)
    assert {frame for start in starts for frame in range(start, start + chunk)} == set(range(frames))
    assert [b - a for a, b in itertools.pairwise(starts)] == [chunk - overlap] * (count - 1)


@pytest.mark.parametrize(
    ("frames", "message"), [(15, "use 14 or 18"), (17, "use 14 or 18"), (5, "use 6 or 10"), (1, "use 6 or 10")]
)
def test_a_tail_that_no_chunk_reaches_is_refused(frames: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        R.chunk_starts(frames, 6, 2)


def test_an_overlap_as_long_as_the_chunk_is_refused() -> None:
    with pytest.raises(ValueError, match="overlap 6 does not fit a chunk of 6"):
        R.chunk_starts(14, 6, 6)


@pytest.mark.parametrize(
    ("steps", "levels", "message"), [(0, 600, "0 refinement steps"), (5, 1000, "1000 noise levels")]
)
def test_an_impossible_schedule_is_refused(steps: int, levels: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        R.refine_schedule(steps, levels)


@settings(max_examples=200, deadline=None)
@given(frames=st.integers(1, 90), chunk=st.integers(1, 30), data=st.data())
def test_a_video_of_any_length_is_covered_and_every_frame_is_one_chunks(frames, chunk, data) -> None:
    overlap = data.draw(st.integers(0, chunk - 1))
    cut_range = data.draw(st.sampled_from(R.CUT_RANGES))
    starts = R.cover(frames, chunk, overlap)
    length = min(chunk, frames)
    assert starts[0] == 0 and starts[-1] + length == frames
    assert all(0 < b - a <= chunk - overlap for a, b in itertools.pairwise(starts))
    count = torch.zeros(frames)
    for start, weight in zip(
        starts, R.chunk_weights(starts, [length] * len(starts), cut_range, frames, chunk), strict=True
    ):
        assert set(weight.tolist()) <= {0.0, 1.0}
        count[start : start + length] += weight
    assert count.tolist() == [1.0] * frames


def test_the_published_lengths_have_the_published_chunks() -> None:
    assert R.cover(56, 24, 8) == R.chunk_starts(56, 24, 8) == [0, 16, 32]
    assert R.cover(57, 24, 8) == [0, 16, 32, 33]
    assert R.default_overlap(24) == 8


def test_cover_refuses_an_overlap_as_long_as_the_chunk() -> None:
    with pytest.raises(ValueError, match=r"overlap 6 does not fit a chunk of 6 frames; use 0..5"):
        R.cover(14, 6, 6)


@pytest.mark.parametrize(("cut_range", "expected"), [(R.PAPER, [3 / 4, 2 / 4, 1 / 4]), (R.CODE, [2 / 3, 1 / 3, 0.0])])
def test_the_earlier_chunk_keeps_overlap_frames_as_often_as_published(cut_range, expected) -> None:
    draws = 1500  # 4 standard deviations of a share are at most 0.052
    kept = sum(R.chunk_weights([0, 5], [8, 8], cut_range, 1, n)[0][5:] for n in range(draws))
    assert (kept / draws).tolist() == pytest.approx(expected, abs=0.055)


def test_cuts_change_with_seed_and_evaluation_and_come_again() -> None:
    def drawn(seed: int, evaluation: int) -> list:
        return [w.tolist() for w in R.chunk_weights([0, 9, 18], [16] * 3, R.PAPER, seed, evaluation)]

    assert drawn(1, 2) == drawn(1, 2)
    assert len({str(drawn(1, evaluation)) for evaluation in range(20)}) > 10
    assert len({str(drawn(seed, 2)) for seed in range(20)}) > 10


def test_an_unknown_range_of_cuts_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown range of cuts 'wide'; use one of paper, code"):
        R.chunk_weights([0], [4], "wide", 0, 0)


@pytest.mark.parametrize(("strength", "left"), [(1.0, 20), (0.6, 12), (0.5, 10), (0.049, 1), (0.001, 1), (0.975, 20)])
def test_strength_runs_the_last_part_of_the_schedule(strength: float, left: int) -> None:
    sigmas = torch.linspace(1, 0, 21)
    assert torch.equal(R.last_part(sigmas, strength), sigmas[20 - left :])


def test_strength_zero_and_a_schedule_without_steps_run_nothing() -> None:
    assert len(R.last_part(torch.linspace(1, 0, 21), 0.0)) == 0
    assert len(R.last_part(torch.tensor([1.0]), 0.6)) == 0


@pytest.mark.parametrize("strength", [-0.1, 1.5, math.nan])
def test_a_strength_outside_its_range_is_refused(strength: float) -> None:
    with pytest.raises(ValueError, match=r"outside 0..1; use 0.6"):
        R.last_part(torch.linspace(1, 0, 21), strength)


def plain_refine(video, noise, schedule, chunk, overlap, velocity, cuts, fresh):
    """The published loop on one [F] video, frame by frame."""
    sigmas = schedule.sigmas.double().tolist()
    share = float(schedule.noise[schedule.start_timestep])
    x = (math.sqrt(1 - share**2) * video + share * noise) * sigmas[0]
    before = None
    for i, timestep in enumerate(schedule.timesteps):
        share = float(schedule.noise[timestep])
        seen = x / math.sqrt(1 + sigmas[i] ** 2)
        clean = torch.zeros_like(x)
        start = 0
        for index in range((len(video) - overlap) // (chunk - overlap)):
            start = index * (chunk - overlap)
            part = seen[start : start + chunk]
            guess = math.sqrt(1 - share**2) * part - share * velocity(part)
            skip = 0 if index == 0 else cuts[i][index - 1]
            for frame in range(skip, chunk):
                clean[start + frame] = guess[frame]
        if sigmas[i + 1] == 0:
            x = clean
        else:
            h = math.log(sigmas[i] / sigmas[i + 1])
            new = sigmas[i + 1] / sigmas[i] * math.exp(-h) * x + (1 - math.exp(-2 * h)) * clean
            if before is not None:
                h_last = math.log(sigmas[i - 1] / sigmas[i])
                new = new + 0.5 * (1 - math.exp(-2 * h)) * h / h_last * (clean - before)
            x = new + sigmas[i + 1] * math.sqrt(1 - math.exp(-2 * h)) * fresh[i]
        before = clean
    return x


@pytest.mark.parametrize(
    ("chunk", "overlap", "count", "steps"), [(6, 2, 3, 4), (5, 0, 4, 3), (9, 4, 2, 10), (8, 3, 1, 7), (4, 2, 5, 6)]
)
def test_the_loop_is_the_published_one_at_other_lengths(chunk: int, overlap: int, count: int, steps: int) -> None:
    generator = torch.Generator().manual_seed(chunk * 100 + steps)
    frames = count * (chunk - overlap) + overlap
    schedule = R.refine_schedule(steps)
    video, noise = torch.randn(2, frames, dtype=torch.float64, generator=generator)
    fresh = torch.randn(len(schedule.timesteps), frames, dtype=torch.float64, generator=generator)
    cuts = torch.randint(0, overlap + 1, (len(schedule.timesteps), count - 1), generator=generator).tolist()

    def velocity(part):
        return torch.tanh(part) + 0.2 * part.mean()

    want = plain_refine(video, noise, schedule, chunk, overlap, velocity, cuts, fresh)
    got = R.refine(video, noise, schedule, chunk, overlap, lambda x, timestep, index: velocity(x),
                   cuts=lambda step: cuts[step], fresh_noise=lambda step: fresh[step], dim=0)  # fmt: skip
    torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-6)
