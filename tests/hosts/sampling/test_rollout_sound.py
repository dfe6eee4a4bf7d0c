"""LTX-2 in rollout: known sound is handed over with known frames, and every chunk hears what it sees."""

import pytest
import torch

from comfy.nested_tensor import NestedTensor

from longreel.engine.plan.rollout_chunks import plan_chunks
from longreel.engine.plan.sound import sound_of
from longreel.engine.runs.folder import open_run
from longreel.hosts.sampling import planning, rollout
from longreel.hosts.sampling.rollout_sound import RolloutSound
from tests import tiny_audio_video, tiny_sampling
from tests.hosts.rollout_cases import sigmas_of
from tests.hosts.sampling_cases import sampling_of
from tests.hosts.windows.test_latent_blend import Recorder, encode
from tests.hosts.windows.test_sound import FPS, story


def roll(loaded, timeline, model=None, latent=None, run=None, **options):
    """The streams and the report."""
    model = loaded.model if model is None else model
    latent = planning.empty_latent(timeline) if latent is None else latent
    settings = sampling_of(encode(loaded, timeline), sigmas_of(model), **options)
    with torch.inference_mode():
        out, report = rollout.sample_rollout(model, timeline, latent, settings, run=run)
    return (*out["samples"].unbind(), report)


@pytest.mark.parametrize("name", list(tiny_audio_video.NETWORKS))
def test_a_single_chunk_is_to_the_bit_what_cores_sampler_makes(name):
    loaded = tiny_audio_video.load(name)
    timeline = story(loaded, ("continue",), seconds=1.4)
    positive, negative = encode(loaded, timeline)
    latent = planning.empty_latent(timeline)
    cores = tiny_sampling.sample(loaded.model, positive, negative, latent, seed=7, cfg=3.0).unbind()
    for ours, core in zip(roll(loaded, timeline), cores, strict=False):
        assert torch.equal(ours, core) and ours.std() > 0


@pytest.mark.parametrize("overlap", [1, 2])
def test_every_sound_frame_is_new_in_one_chunk_which_begins_to_hear_where_it_begins_to_see(overlap):
    loaded = tiny_audio_video.load()
    timeline = story(loaded, ("continue", "continue", "cut", "blend"), seconds=3.3)
    plan, end = sound_of(timeline), 0
    sound = RolloutSound(plan, torch.zeros(plan.shape(timeline.latent_frames)), None)
    for chunk in plan_chunks(timeline, overlap):
        span = sound.span(chunk)
        assert span.first_new == end and span.new_frames > 0
        end = span.end
        assert 0 <= span.end / 25 - timeline.facts.first_pixel_frame(chunk.end_frame) / FPS < 1 / 25
        first = chunk.start_frame - sound.leads(chunk)
        seen = timeline.facts.first_pixel_frame(first + 1) - 1  # the last of its pixel frames
        assert 0 <= (span.start - span.lead) / 25 - seen / FPS < 1 / 25
    assert end == plan.shape(timeline.latent_frames)[2]


def test_a_chunk_is_shown_the_finished_sound_and_the_first_behind_a_cut_none_of_it():
    loaded = tiny_audio_video.load()
    timeline = story(loaded, ("continue", "cut"), seconds=3.0)
    recorder = Recorder(loaded.model)
    video, sound, _ = roll(loaded, timeline, recorder.model, cfg=1.0)
    assert video.shape == planning.empty_shape(timeline)
    plan = sound_of(timeline)
    assert sound.shape == plan.shape(timeline.latent_frames) and torch.isfinite(sound).all()
    handed = RolloutSound(plan, sound, None)
    chunks = plan_chunks(timeline, timeline.overlap_frames)
    steps = len(recorder.calls) // len(chunks)
    seen_known = seen_lead = 0
    for chunk, (x, *_) in zip(chunks, recorder.calls[::steps], strict=True):
        span, leads = handed.span(chunk), handed.leads(chunk)
        frames = chunk.latent_frames + leads
        heard = x[0, 0, 128 * 4 * frames :].reshape(1, 8, -1, 16)
        assert heard.shape[2] == span.lead + span.end - span.start
        known = span.first_new - span.start
        if leads:
            seen_lead += 1
            assert known == 0 and span.lead in (1, 2)
        elif known:
            seen_known += 1
            assert torch.allclose(heard[:, :, :known], sound[:, :, span.start : span.first_new], atol=1e-5)
    assert seen_known >= 2 and seen_lead == 1


def test_a_shot_behind_a_cut_changes_no_sound_in_front_of_it_and_hears_none():
    loaded = tiny_audio_video.load()
    one, other = (story(loaded, ("continue", "cut"), seconds=3.0, seed=seed) for seed in (1, 2))
    cut = sound_of(one).between(0, one.take_starts[1])[1]
    (_, first, _), (_, second, _) = roll(loaded, one), roll(loaded, other)
    assert torch.equal(first[:, :, :cut], second[:, :, :cut])
    assert not torch.equal(first[:, :, cut:], second[:, :, cut:])
    _, third, _ = roll(loaded, one, seed=8)
    assert torch.equal(first[:, :, cut:], third[:, :, cut:]) and not torch.equal(first[:, :, :cut], third[:, :, :cut])


def test_a_continued_shots_sound_follows_from_the_sound_before_it():
    """Only the first chunk's seed differs; through what is handed over everything behind it does."""
    loaded = tiny_audio_video.load()
    timeline = story(loaded, ("continue", "continue"), seconds=3.0, seed=5)
    second = sound_of(timeline).between(0, timeline.shots[1].start_frame)[1]
    (_, first, _), (_, other, _) = roll(loaded, timeline, seed=7), roll(loaded, timeline, seed=8)
    assert not torch.equal(first[:, :, second:], other[:, :, second:])


def test_a_noise_mask_keeps_sound_in_every_chunk():
    loaded = tiny_audio_video.load()
    timeline = story(loaded, ("continue",), seconds=4.0)
    video, sound = planning.empty_latent(timeline)["samples"].unbind()
    sound = torch.randn(sound.shape, generator=torch.Generator().manual_seed(0))
    kept = torch.ones_like(sound)
    kept[:, :, 30:80] = 0
    latent = {"samples": NestedTensor([video, sound]), "noise_mask": NestedTensor([torch.ones_like(video), kept])}
    _, out, _ = roll(loaded, timeline, latent=latent)
    assert torch.allclose(out[:, :, 30:80], sound[:, :, 30:80], atol=1e-5)
    assert not torch.allclose(out[:, :, :30], sound[:, :, :30], atol=1e-2)


def test_a_run_that_was_cut_off_goes_on_to_the_same_bits_and_changed_sound_is_made_again(tmp_path):
    loaded = tiny_audio_video.load()
    timeline = story(loaded, ("continue", "continue"), seconds=3.0)
    video, sound, _ = roll(loaded, timeline)
    for number in range(2):
        with open_run(tmp_path / "run") as run:
            again = roll(loaded, timeline, run=run)
            run.finish(False)
        assert torch.equal(again[0], video) and torch.equal(again[1], sound)
        files = sorted((tmp_path / "run").glob("chunk_*.safetensors"))
        assert len(files) > 2
        if not number:
            files[-1].unlink()
    latent = planning.empty_latent(timeline)["samples"].unbind()
    latent[1][:, :, -1] = 1.0
    with open_run(tmp_path / "run") as run:
        *_, report = roll(loaded, timeline, run=run, latent={"samples": NestedTensor(latent)})
        run.finish(False)
    assert "the sound" in report
