"""hosts/sampling/joint.py: what a LATENT brings along is honoured, the preview walks through the shots."""

import pytest
import torch

import comfy.samplers

from longreel.engine.plan.timeline import plan_timeline
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.hosts import facts_of
from longreel.hosts.prompts import conditioning
from longreel.hosts.sampling import joint, planning
from longreel.hosts.windows.shot_noise import noise_of_shots
from tests.hosts.sampling_cases import sampling_of


@pytest.fixture
def loaded(tiny):
    return tiny("wan21")


@pytest.fixture
def timeline(loaded):
    board = Storyboard((Shot("a", 1.0), Shot("b", 1.0, "blend"), Shot("c", 1.0, "cut")), width=64, height=64)
    return plan_timeline(board, facts_of(loaded.model), segment_frames=5, overlap_frames=2)


@pytest.fixture
def sample(loaded, timeline):
    with torch.inference_mode():
        positive, negative = conditioning.encode_timeline(loaded.clip, timeline)

    def run(latent, steps=2, seed=7, **options):
        sigmas = comfy.samplers.calculate_sigmas(loaded.model.get_model_object("model_sampling"), "simple", steps)
        with torch.inference_mode():
            return joint.sample_timeline(
                loaded.model,
                timeline,
                latent,
                sampling_of((positive, negative), sigmas, seed=seed, **options),
                blend="triangle",
            )

    return run


def test_a_noise_mask_keeps_what_it_covers(sample, timeline):
    latent = planning.empty_latent(timeline)
    kept = torch.full_like(latent["samples"], 0.25)
    mask = torch.ones(1, 1, *latent["samples"].shape[2:])
    mask[:, :, :4] = 0
    out = sample({**latent, "samples": kept, "noise_mask": mask})["samples"]
    torch.testing.assert_close(out[:, :, :4], kept[:, :, :4], atol=1e-4, rtol=1e-4)
    assert (out[:, :, 4:] - 0.25).abs().mean() > 0.05


def test_a_mask_of_pixel_frames_is_refused_and_one_of_a_single_frame_holds_for_all(sample, timeline):
    latent = planning.empty_latent(timeline)
    frames, rows, columns = latent["samples"].shape[2:]
    for shape in ((timeline.pixel_frames, rows, columns), (1, 1, timeline.pixel_frames, rows, columns)):
        with pytest.raises(ValueError, match=f"mask has {timeline.pixel_frames} frames and the latent {frames}; masks"):
            sample({**latent, "noise_mask": torch.ones(shape)})
    for shape in ((rows, columns), (1, rows, columns), (frames, rows, columns)):
        assert torch.equal(sample({**latent, "noise_mask": torch.ones(shape)})["samples"], sample(latent)["samples"])


def test_the_batch_index_chooses_the_noise(sample, timeline):
    latent = planning.empty_latent(timeline)
    two = sample({**latent, "samples": latent["samples"].repeat(2, 1, 1, 1, 1)})["samples"]
    second = sample({**latent, "batch_index": [1]})["samples"]
    torch.testing.assert_close(second[0], two[1], atol=1e-3, rtol=1e-3)
    assert not torch.allclose(second[0], two[0], atol=1e-2)


def test_other_keys_of_the_latent_are_passed_on_and_the_input_stays_as_it_was(sample, timeline):
    latent = {**planning.empty_latent(timeline), "note": "kept"}
    out = sample(latent)
    assert out["note"] == "kept" and out["samples"].any() and not latent["samples"].any()


def test_the_preview_shows_the_middle_of_one_shot_after_the_other(loaded, timeline, monkeypatch):
    shown, prepare = [], joint.latent_preview.prepare_callback

    def prepare_and_note(model, steps):
        core = prepare(model, steps)

        def note(step, x0, x, total):
            shown.append((step, x0.clone(), total))
            core(step, x0, x, total)

        return note

    monkeypatch.setattr(joint.latent_preview, "prepare_callback", prepare_and_note)
    callback = joint.shot_callback(loaded.model, timeline, 4)
    frames = torch.arange(timeline.latent_frames, dtype=torch.float32)[None, None, :, None, None]
    for step in range(4):
        callback(step, frames, frames, 4)
    middles = [(shot.start_frame + shot.end_frame) // 2 for shot in timeline.shots]
    assert [x0.flatten().tolist() for _, x0, _ in shown] == [[m] for m in (*middles, middles[0])]
    assert [(step, total) for step, _, total in shown] == [(s, 4) for s in range(4)]


def test_a_latent_shorter_than_the_timeline_is_refused_also_when_shots_have_seeds(loaded):
    board = Storyboard((Shot("a", 1.0), Shot("b", 1.0, seed=3)), width=64, height=64)
    timeline = plan_timeline(board, facts_of(loaded.model), segment_frames=5)
    with pytest.raises(ValueError, match=f"the latent has 3 frames and the timeline {timeline.latent_frames}; wire"):
        noise_of_shots(torch.randn(1, 16, 3, 8, 8), timeline)
