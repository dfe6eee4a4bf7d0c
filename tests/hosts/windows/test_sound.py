"""LTX-2 and 2.3: a timeline's video and its sound sampled together, on core's own network at toy size."""

from types import SimpleNamespace

import pytest
import torch

import comfy.model_base
from comfy.ldm.lightricks.vae.audio_vae import AudioVAE
from comfy.nested_tensor import NestedTensor
from comfy_extras.nodes_lt import LTXVConcatAVLatent

from longreel.engine.plan.sound import sound_of
from longreel.engine.plan.timeline import plan_timeline
from longreel.engine.sampling.latent_blend import BLENDS
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.hosts import facts_of
from longreel.hosts.families import ltxav
from longreel.hosts.sampling import joint, planning
from longreel.hosts.windows import latent_blend
from tests import tiny_audio_video, tiny_sampling
from tests.hosts.rollout_cases import sigmas_of
from tests.hosts.sampling_cases import sampling_of
from tests.hosts.windows.test_latent_blend import Recorder, encode

FPS = 24.0


def load(name="ltx2"):
    return tiny_audio_video.load(name)


def story(loaded, transitions=("continue", "blend", "cut"), seconds=2.0, **shot):
    shots = tuple(
        Shot(f"scene {i}", seconds, transition=t, **(shot if i == 1 else {})) for i, t in enumerate(transitions)
    )
    board = Storyboard(shots=shots, width=64, height=64, fps=FPS, negative="blurry")
    return plan_timeline(board, facts_of(loaded.model), segment_frames=5, overlap_frames=2)


def run(loaded, timeline, blend="triangle", model=None, latent=None, **options):
    """The streams of a joint sampling, by the sampler of the pack."""
    model = loaded.model if model is None else model
    settings = sampling_of(encode(loaded, timeline), sigmas_of(model), **options)
    latent = planning.empty_latent(timeline) if latent is None else latent
    with torch.inference_mode():
        return joint.sample_timeline(model, timeline, latent, settings, blend=blend)["samples"].unbind()


@pytest.mark.parametrize("name", list(tiny_audio_video.NETWORKS))
def test_a_single_segment_is_to_the_bit_what_cores_nodes_and_sampler_make(name):
    """The sound's length is what core's empty audio latent has for that clip: rounded up, 25 a second."""
    loaded = load(name)
    timeline = story(loaded, ("continue",), seconds=1.4)
    assert type(loaded.model.model) is comfy.model_base.LTXAV and len(timeline.segments) == 1
    video, sound = torch.zeros(1, 128, 5, 2, 2), torch.zeros(1, 8, 35, 16)
    assert timeline.pixel_frames == 33 and -(-33 * 25 // 24) == 35
    latent = LTXVConcatAVLatent.execute({"samples": video}, {"samples": sound}).args[0]
    positive, negative = encode(loaded, timeline)
    cores = tiny_sampling.sample(loaded.model, positive, negative, latent, seed=7, cfg=3.0).unbind()
    for ours, core in zip(run(loaded, timeline), cores, strict=True):
        assert torch.equal(ours, core) and ours.std() > 0


@pytest.mark.parametrize("blend", BLENDS)
def test_video_and_sound_of_several_segments_are_as_long_as_planned(blend):
    loaded = load()
    timeline = story(loaded)
    video, sound = run(loaded, timeline, blend)
    assert video.shape == planning.empty_shape(timeline)
    assert sound.shape == sound_of(timeline).shape(timeline.latent_frames)
    assert torch.isfinite(sound).all() and sound.std() > 0 and len(timeline.segments) > 3


def test_each_segment_is_shown_the_sound_of_its_frames_led_by_that_of_the_pixel_frame_in_front():
    """Core's context windows lead the video alone: its sound would come a frame late."""
    loaded = load()
    timeline = story(loaded)
    plan, recorder = sound_of(timeline), Recorder(loaded.model)
    settings = sampling_of(encode(loaded, timeline), torch.tensor([1e-4, 0.0]), cfg=1.0, add_noise=False)
    video, sound = planning.empty_latent(timeline)["samples"].unbind()
    numbers = torch.arange(sound.shape[2]).float()[None, None, :, None].expand_as(sound).clone()
    latent = {"samples": NestedTensor([torch.ones_like(video), numbers])}
    with torch.inference_mode():
        joint.sample_timeline(recorder.model, timeline, latent, settings, blend="cut")
    for segment, (x, *_) in zip(timeline.segments, recorder.calls, strict=True):
        first, last = plan.between(segment.start_frame, segment.end_frame)
        lead, frames = plan.lead(segment.start_frame), segment.latent_frames + (segment.start_frame > 0)
        heard = x[0, 0, 128 * 4 * frames :].reshape(8, -1, 16)[0, :, 0]
        cut = segment.start_frame == timeline.take_start(segment)
        in_front = [first] * lead if cut else list(range(first - lead, first))
        assert torch.allclose(heard, torch.tensor([*in_front, *range(first, last)]).float(), atol=0.1)
        seconds = timeline.facts.first_pixel_frame(segment.start_frame) / FPS
        assert 0 <= first / 25 - seconds < 1 / 25 and (lead in (1, 2)) == (segment.start_frame > 0)


@pytest.mark.parametrize("fps", [16.0, 23.976, 24.0, 25.0, 29.97, 50.0])
def test_the_sound_of_a_clip_has_as_many_frames_as_cores_node_gives_it(fps):
    board = Storyboard(shots=(Shot("a", 60.0),), width=64, height=64, fps=fps)
    plan = sound_of(plan_timeline(board, ltxav.USUAL))
    asked = SimpleNamespace(latents_per_second=16000 / 160 / 4)
    for frames in range(1, 2000, 8):
        assert plan.frames(frames) == AudioVAE.num_of_latents_from_frames(asked, frames, fps)
    counts = [last - first for first, last in (plan.between(frame, frame + 1) for frame in range(200))]
    assert min(counts) >= 1 and sum(counts) == plan.shape(200)[2] == len(plan.latent_frame_of(200))


@pytest.mark.parametrize("blend", BLENDS)
def test_sound_is_blended_with_the_weights_of_its_frames(blend):
    """One step at guidance 1: the result is the weighted mean of what the network predicted for each segment."""
    loaded = load()
    timeline = story(loaded)
    plan, recorder = sound_of(timeline), Recorder(loaded.model)
    positive, negative = encode(loaded, timeline)
    latent = planning.empty_latent(timeline)
    model = latent_blend.attach(recorder.model, timeline, blend, 3)
    _, sound = tiny_sampling.sample(model, positive, negative, latent, steps=1, cfg=1.0).unbind()
    handler = latent_blend.TimelineHandler(timeline, blend, 3, True)
    handler.evaluation = 0
    total, count = torch.zeros_like(sound), torch.zeros(sound.shape[2])
    of_latent = plan.latent_frame_of(timeline.latent_frames)
    weights = handler._weights(timeline.segments)
    for segment, weight, call in zip(timeline.segments, weights, recorder.calls, strict=True):
        first, last = plan.between(segment.start_frame, segment.end_frame)
        predicted = call[3][0][:, :, -128 * (last - first + plan.lead(segment.start_frame)) :]
        predicted = predicted.reshape(1, 8, -1, 16)[:, :, plan.lead(segment.start_frame) :]
        for k in range(first, last):
            share = weight[of_latent[k] - segment.start_frame]
            total[:, :, k] += share * predicted[:, :, k - first]
            count[k] += share
    assert torch.allclose(sound, total / count[:, None], atol=1e-4)


def test_nothing_of_a_shots_sound_crosses_a_cut():
    loaded = load()
    one, other = (story(loaded, ("continue", "cut"), seed=seed) for seed in (1, 2))
    cut = sound_of(one).between(0, one.take_starts[1])[1]
    (_, first), (_, second) = run(loaded, one), run(loaded, other)
    assert torch.equal(first[:, :, :cut], second[:, :, :cut])
    assert not torch.equal(first[:, :, cut:], second[:, :, cut:])


def test_a_shots_own_seed_is_its_sounds_too():
    loaded = load()
    timeline = story(loaded, ("continue", "cut"), seed=5)
    cut = sound_of(timeline).between(0, timeline.take_starts[1])[1]
    (_, first), (_, second) = run(loaded, timeline, seed=7), run(loaded, timeline, seed=8)
    assert torch.equal(first[:, :, cut:], second[:, :, cut:])
    assert not torch.equal(first[:, :, :cut], second[:, :, :cut])


def test_a_shots_strength_scales_the_guidance_of_its_sound():
    loaded = load()
    sounds = [run(loaded, story(loaded, ("continue", "cut"), **shot))[1] for shot in ({}, {"strength": 2.0})]
    cut = sound_of(story(loaded, ("continue", "cut"))).between(0, story(loaded, ("continue", "cut")).take_starts[1])[1]
    assert torch.equal(sounds[0][:, :, :cut], sounds[1][:, :, :cut])
    assert not torch.equal(sounds[0][:, :, cut:], sounds[1][:, :, cut:])


def test_a_noise_mask_keeps_sound_that_it_covers():
    loaded = load()
    timeline = story(loaded)
    video, sound = planning.empty_latent(timeline)["samples"].unbind()
    sound = torch.randn(sound.shape, generator=torch.Generator().manual_seed(0))
    kept = torch.ones_like(sound)
    kept[:, :, 30:60] = 0
    latent = {"samples": NestedTensor([video, sound]), "noise_mask": NestedTensor([torch.ones_like(video), kept])}
    _, out = run(loaded, timeline, latent=latent)
    assert torch.allclose(out[:, :, 30:60], sound[:, :, 30:60], atol=1e-5)
    assert not torch.allclose(out[:, :, :30], sound[:, :, :30], atol=1e-2)


def test_cores_sampler_behind_latent_blend_makes_the_same():
    loaded = load()
    timeline = story(loaded)
    positive, negative = encode(loaded, timeline)
    model = latent_blend.attach(loaded.model, timeline, "triangle", 7)
    cores = tiny_sampling.sample(model, positive, negative, planning.empty_latent(timeline), seed=7)
    for one, other in zip(run(loaded, timeline), cores.unbind(), strict=True):
        assert torch.equal(one, other)


def test_memory_is_asked_for_one_segment_of_both_streams():
    loaded = load()
    timeline = story(loaded)
    asked = []

    def watch(executor, patcher, shape, *args, **options):
        asked.append(shape)
        return executor(patcher, shape, *args, **options)

    model = latent_blend.attach(loaded.model, timeline, "triangle")
    model.add_wrapper_with_key("prepare_sampling", "last", watch)
    positive, negative = encode(loaded, timeline)
    tiny_sampling.sample(model, positive, negative, planning.empty_latent(timeline), steps=1)
    longest = 1 + max(segment.latent_frames for segment in timeline.segments)
    assert asked == [[1, 1, 128 * 4 * longest + 128 * -(-(1 + 8 * (longest - 1)) * 25 // 25)]]


def test_what_does_not_fit_is_refused_in_one_line():
    loaded = load()
    timeline = story(loaded)
    video, sound = planning.empty_latent(timeline)["samples"].unbind()
    wrong = {
        "holds 1 stream and LTX-2 samples 2": {"samples": video},
        r"sound in the latent has 8 x 8 channels and frequencies and LTX-2 takes 8 x 16": {
            "samples": NestedTensor([video, sound[..., :8]])
        },
        r"sound in the latent has \d+ frames and the timeline \d+": {"samples": NestedTensor([video, sound[:, :, 1:]])},
    }
    for message, latent in wrong.items():
        with pytest.raises(ValueError, match=message):
            run(loaded, timeline, latent=latent)
    with pytest.raises(ValueError, match="lead_frame is off"):
        latent_blend.attach(loaded.model, timeline, "triangle", lead_frame=False)
    with pytest.raises(ValueError, match="low_noise_model, the second of two experts, works on video alone"):
        settings = sampling_of(encode(loaded, timeline), sigmas_of(loaded.model))
        joint.sample_timeline(
            loaded.model, timeline, {"samples": video}, settings, blend="cut", low_noise_model=loaded.model
        )
