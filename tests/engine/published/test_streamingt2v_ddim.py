"""engine/published/streamingt2v_ddim.py: chunks step alone and are joined after it."""

import math

import pytest
import torch

from longreel.engine.published.streamingt2v_ddim import refine_ddim

ALPHAS = [0.3, 0.6, 0.9, 0.99]


def drawn(frames: int, seed: int) -> torch.Tensor:
    return torch.randn(1, 2, frames, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def run(video, noise, predict, cut: int = 1, chunk: int = 4, overlap: int = 2) -> torch.Tensor:
    boundaries = (video.shape[2] - overlap) // (chunk - overlap) - 1
    return refine_ddim(video, noise, ALPHAS, chunk, overlap, predict, lambda step: [cut] * boundaries)


def test_the_true_noise_leads_to_the_video_at_the_last_level():
    video, noise = drawn(8, 1), drawn(8, 2)

    def predict(x_chunk, step, index):
        return noise[:, :, 2 * index : 2 * index + 4]

    torch.testing.assert_close(run(video, noise, predict), 0.99 * video + math.sqrt(1 - 0.99**2) * noise)


def test_each_chunk_is_predicted_once_in_each_step():
    asked = []

    def predict(x_chunk, step, index):
        asked.append((step, index, x_chunk.shape[2]))
        return torch.zeros_like(x_chunk)

    run(drawn(8, 1), drawn(8, 2), predict)
    assert asked == [(step, index, 4) for step in range(3) for index in range(3)]


def test_a_cut_says_which_chunk_a_shared_frame_is_of():
    def predict(x_chunk, step, index):
        return torch.full_like(x_chunk, float(index))

    video, noise = drawn(6, 1), drawn(6, 2)
    early, late = run(video, noise, predict, cut=0), run(video, noise, predict, cut=2)
    assert torch.equal(early[:, :, :2], late[:, :, :2])
    assert (early[:, :, 2:4] != late[:, :, 2:4]).all()
    assert torch.equal(early[:, :, 4:], late[:, :, 4:])


def test_a_length_that_chunks_do_not_fill_is_refused():
    with pytest.raises(ValueError, match="7 frames cannot be cut into chunks of 4 with overlap 2; use 6 or 8"):
        run(drawn(7, 1), drawn(7, 2), lambda x_chunk, step, index: x_chunk)
