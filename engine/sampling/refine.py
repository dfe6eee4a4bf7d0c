"""Refine a stream, the third stage of StreamingT2V: a video is noised to T' = 600 of 1000 and denoised in chunks.

Source: StreamingT2V (arXiv 2403.14773), section 4.3 and its public enhancer (MS-Vid2Vid-XL, SDEdit). Every step
predicts the clean video chunk by chunk, joins the chunks by randomized blending, and only then moves the whole video
with DPM-Solver++(2M) SDE, so that solver history and fresh noise belong to the video, not to a chunk.

    schedule   log-SNR cosine from -15 to 15, shifted by scales 2..4, rescaled to zero terminal SNR
    sigma      k-diffusion's: noise share / signal share, interpolated in log space between training timesteps
    x          lives on k-diffusion's scale; the network sees x / sqrt(1 + sigma^2)

The published code drops or never writes the frames behind the last full chunk. For videos of any length, `cover` shifts
the last chunk back instead, and `chunk_weights` and `last_part` serve any solver and schedule
(hosts/sampling/refine.py).

Kept as published although it is a slip: the start is scaled by sigma_0 instead of sqrt(1 + sigma_0^2), which shrinks it
to 0.972 of what the network expects (`published_start`). Not known here: how a network is called, where cuts come from.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from .alpha_space import add_noise, drawn, video_from_v
from .latent_blend import draw_cuts, overlaps_of, randomized_blend, switch_weights

TRAINING_STEPS = 1000
LOG_SNR_RANGE = (-15.0, 15.0)
SCALE_RANGE = (2.0, 4.0)
NOISE_LEVELS = 600
PAPER, CODE = "paper", "code"  # where an overlap of O frames is cut: before frame 0 to O, or 0 to O - 1
CUT_RANGES = (PAPER, CODE)


@dataclass(frozen=True)
class RefineSchedule:
    """This is a schedule of the refinement. noise: [1000] float32, the noise share of every training timestep, from
    almost 0 to exactly 1.

    sigmas: [N + 1] float32, descending, ending in 0. timesteps: N training timesteps, what the network is given.
    start_timestep: the training timestep that the video is noised to.
    """

    noise: torch.Tensor
    sigmas: torch.Tensor
    timesteps: tuple[int, ...]
    start_timestep: int

    def alpha_at(self, timestep: int) -> float:
        """Return the signal share of x, sqrt(1 - noise^2), at a training timestep."""
        share = float(self.noise[timestep])
        return math.sqrt(max(0.0, 1.0 - share * share))


def refine_schedule(steps: int, noise_levels: int = NOISE_LEVELS) -> RefineSchedule:
    """Return the enhancer's schedule.

    steps: model evaluations, at least 1. noise_levels: training timesteps to go back, 2..999; higher changes more of
    the video. "Trailing" spacing with one point more than steps, the last of which is dropped. Where float rounding
    lets the published range yield one more point (6 steps do), one more evaluation is made, as the published code does.
    Raises ValueError for values outside these ranges.
    """
    if steps < 1:
        raise ValueError(f"{steps} refinement steps is below 1; use 30")
    if not 2 <= noise_levels < TRAINING_STEPS:
        raise ValueError(f"{noise_levels} noise levels is outside 2..{TRAINING_STEPS - 1}; use {NOISE_LEVELS}")
    noise = cosine_noise_table()
    points = torch.arange(noise_levels - 1, -1, -(noise_levels / (steps + 1)))[:-1]  # [N] fractional timesteps
    log_sigma = torch.log(torch.sqrt(noise**2 / (1 - noise**2)))  # [1000], the last is +inf
    low, high = points.floor().long(), points.ceil().long()
    part = points.frac()
    sigmas = ((1 - part) * log_sigma[low] + part * log_sigma[high]).exp()
    timesteps = tuple(int(t) for t in points.round())
    return RefineSchedule(noise, torch.cat([sigmas, sigmas.new_zeros(1)]), timesteps, noise_levels - 1)


def cosine_noise_table() -> torch.Tensor:
    """Return the noise share of every training timestep [1000] float32: interpolated log-SNR cosine, zero
    terminal SNR.
    """
    low, high = (math.atan(math.exp(-0.5 * end)) for end in LOG_SNR_RANGE)
    t = torch.linspace(1, 0, TRAINING_STEPS)
    log_snr = -2 * torch.log(torch.tan(low + t * (high - low)))
    # Shifted for two resolutions and mixed along time: the small scale rules where there is little noise.
    fine, coarse = (log_snr + 2 * math.log(1 / scale) for scale in SCALE_RANGE)
    noise = torch.sqrt(torch.sigmoid(-(t * fine + (1 - t) * coarse)))
    return noise[0] + (noise - noise[0]) * ((1 - noise[0]) / (noise[-1] - noise[0]))


def chunk_starts(frames: int, chunk: int, overlap: int) -> list[int]:
    """Return the first frame of every chunk. frames must be n * (chunk - overlap) + overlap, else ValueError with the
    nearest.
    """
    if not 0 <= overlap < chunk:
        raise ValueError(f"overlap {overlap} does not fit a chunk of {chunk} frames; use 0..{chunk - 1}")
    stride = chunk - overlap
    count, rest = divmod(frames - overlap, stride)
    if count < 1 or rest:
        shorter, longer = max(1, count) * stride + overlap, (max(1, count) + 1) * stride + overlap
        raise ValueError(
            f"{frames} frames cannot be cut into chunks of {chunk} with overlap {overlap}; use {shorter} or {longer}"
        )
    return [i * stride for i in range(count)]


def default_overlap(chunk: int) -> int:
    """Return a third of a chunk, as published: 8 of 24 frames."""
    return round(chunk / 3)


def cover(frames: int, chunk: int, overlap: int) -> list[int]:
    """Return the first frame of every chunk of a video of any length: the last one is shifted back to end with the
    video, and a video shorter than a chunk is one chunk. Raises ValueError for an overlap that leaves a chunk nothing
    of its own.
    """
    if not 0 <= overlap < chunk:
        raise ValueError(f"overlap {overlap} does not fit a chunk of {chunk} frames; use 0..{chunk - 1}")
    starts = list(range(0, max(1, frames - chunk + 1), chunk - overlap))
    if starts[-1] + chunk < frames:
        starts.append(frames - chunk)
    return starts


def chunk_weights(
    starts: list[int], lengths: list[int], cut_range: str, seed: int, evaluation: int
) -> list[torch.Tensor]:
    """Return which frames of each chunk count at one evaluation: [length] of 0 or 1 per chunk, one 1 for every frame.

    cut_range: one of CUT_RANGES. The chunk before keeps overlap frame f = 1..O with probability 1 - f / (O + 1) for
    `paper`, 1 - f / O for `code`.
    """
    if cut_range not in CUT_RANGES:
        raise ValueError(f"unknown range of cuts {cut_range!r}; use one of {', '.join(CUT_RANGES)}")
    overlaps = overlaps_of(starts, lengths)
    if cut_range == CODE:
        overlaps = [max(0, overlap - 1) for overlap in overlaps]
    return switch_weights(starts, lengths, draw_cuts(overlaps, seed, evaluation))


def last_part(sigmas: torch.Tensor, strength: float) -> torch.Tensor:
    """Return the last round(strength * N) steps of a schedule of N steps [N + 1], at least one; none of it for strength
    0.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength {strength:g} is outside 0..1; use {NOISE_LEVELS / TRAINING_STEPS:g}")
    steps = len(sigmas) - 1
    if strength == 0 or steps < 1:
        return sigmas[:0]
    return sigmas[steps - max(1, round(strength * steps)) :]


def predict_chunks(
    x: torch.Tensor,
    alpha: float,
    starts: Sequence[int],
    chunk: int,
    predict: Callable[[torch.Tensor, int], torch.Tensor],
    cuts: Sequence[int],
    dim: int,
) -> torch.Tensor:
    """Return the clean video of one step: every chunk predicted alone, joined by randomized blending.

    x: the noised video at level `alpha`, variance preserving, frames on axis `dim`. predict(x_chunk, index) -> v like
    x_chunk. cuts: for every chunk but the first, how many of its frames the chunk before it keeps, 0..overlap.
    """
    chunks = []
    for index, start in enumerate(starts):
        x_chunk = x.narrow(dim, start, chunk)
        chunks.append(video_from_v(x_chunk, predict(x_chunk, index), alpha))
    return randomized_blend(chunks, list(starts), list(cuts), dim)


def step_dpmpp_2m_sde_midpoint(
    x: torch.Tensor,
    video: torch.Tensor,
    before: torch.Tensor | None,
    noise: torch.Tensor | None,
    sigmas: Sequence[float],
) -> torch.Tensor:
    """Take one step on k-diffusion's scale, eta 1.

    before: the prediction of the step before, or None. noise: unit Gaussian, unused in the last step. sigmas: of the
    step before (anything when `before` is None), of this one, of the next.
    """
    sigma_before, sigma, sigma_next = sigmas
    if sigma_next == 0:
        return video
    lam_step = math.log(sigma / sigma_next)
    gain = -math.expm1(-2 * lam_step)
    out = (sigma_next / sigma) * math.exp(-lam_step) * x + gain * video
    if before is not None:
        out = out + 0.5 * gain * (lam_step / math.log(sigma_before / sigma)) * (video - before)
    return out + sigma_next * math.sqrt(gain) * drawn(noise, f"a step to sigma {sigma_next:g}")


def refine(
    video: torch.Tensor,
    noise: torch.Tensor,
    schedule: RefineSchedule,
    chunk: int,
    overlap: int,
    predict: Callable[[torch.Tensor, int, int], torch.Tensor],
    cuts: Callable[[int], Sequence[int]],
    fresh_noise: Callable[[int], torch.Tensor],
    dim: int = 2,
    callback: Callable[[int, torch.Tensor, torch.Tensor], None] | None = None,
) -> torch.Tensor:
    """Noise a latent video part of the way and denoise it in overlapping chunks.

    video: clean latent, frames on axis `dim`, n * (chunk - overlap) + overlap of them. noise: unit Gaussian like video,
    drawn once for the whole of it. predict(x_chunk, timestep, index) -> v of chunk `index`, after guidance. cuts(step)
    -> one number per boundary; fresh_noise(step) -> unit Gaussian like video, asked for every step but the last.
    callback(step, video, x): after the blended prediction, before x moves. Returns the refined latent, like video.
    """
    starts = chunk_starts(video.shape[dim], chunk, overlap)
    sigmas = [float(sigma) for sigma in schedule.sigmas]
    x = published_start(video, noise, schedule)
    before = None
    for step, timestep in enumerate(schedule.timesteps):
        sigma, sigma_next = sigmas[step], sigmas[step + 1]
        x_in = x / math.sqrt(1 + sigma * sigma)

        def predict_v(x_chunk: torch.Tensor, index: int, timestep: int = timestep) -> torch.Tensor:
            return predict(x_chunk, timestep, index)

        clean = predict_chunks(x_in, schedule.alpha_at(timestep), starts, chunk, predict_v, cuts(step), dim)
        if callback is not None:
            callback(step, clean, x)
        fresh = fresh_noise(step) if sigma_next > 0 else None
        x = step_dpmpp_2m_sde_midpoint(x, clean, before, fresh, (sigmas[max(0, step - 1)], sigma, sigma_next))
        before = clean
    return x


def published_start(video: torch.Tensor, noise: torch.Tensor, schedule: RefineSchedule) -> torch.Tensor:
    """Return the noised video on k-diffusion's scale, times sigma_0 as published (sqrt(1 + sigma_0^2) would be
    exact).
    """
    noised = add_noise(video, noise, schedule.alpha_at(schedule.start_timestep))
    return noised * float(schedule.sigmas[0])
