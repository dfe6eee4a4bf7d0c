"""Joint sampling of a timeline on every family, through core's own samplers and loaders."""

import pytest
import torch

import comfy.context_windows
import comfy.model_management
import comfy.samplers
import comfy.utils

from longreel.engine.plan.timeline import Timeline, plan_timeline
from longreel.engine.sampling.latent_blend import BLENDS, segment_weights
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.hosts import facts_of
from longreel.hosts.prompts import conditioning
from longreel.hosts.sampling.joint import sample_timeline
from longreel.hosts.windows import latent_blend
from longreel.hosts.windows.shot_noise import noise_of_shots
from tests import tiny_sampling
from tests.hosts.sampling_cases import sampling_of

SECONDS = {4: 1.0, 8: 2.0}  # per temporal stride: four latent frames at 16 fps


def timeline_for(model, transitions=("continue", "blend", "cut"), segment=5, overlap=2, prompts=1, **shot) -> Timeline:
    facts = facts_of(model)
    seconds = SECONDS[facts.temporal_stride]
    shots = tuple(
        Shot(f"scene {i}", seconds, transition=t, **(shot if i == 1 else {})) for i, t in enumerate(transitions)
    )
    board = Storyboard(shots=shots, width=64, height=64, fps=16.0, negative="blurry")
    return plan_timeline(board, facts, segment_frames=segment, overlap_frames=overlap, transition_prompts=prompts)


def run(loaded, timeline, blend="triangle", seed=0, attach=True, lead_frame=True, conds=None, **options):
    positive, negative = conds or encode(loaded, timeline)
    model = latent_blend.attach(loaded.model, timeline, blend, seed, lead_frame) if attach else loaded.model
    return tiny_sampling.sample(model, positive, negative, empty(timeline), **options)


def encode(loaded, timeline):
    with torch.inference_mode():
        return conditioning.encode_timeline(loaded.clip, timeline)


def empty(timeline: Timeline) -> torch.Tensor:
    facts = timeline.facts
    return torch.zeros(
        1,
        facts.latent_channels,
        timeline.latent_frames,
        timeline.height // facts.spatial_stride,
        timeline.width // facts.spatial_stride,
    )


class Recorder:
    """A CALC_COND_BATCH wrapper that keeps what the network was shown: frames, sigma and text per call."""

    def __init__(self, model):
        self.calls = []
        self.model = model.clone()
        self.model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.CALC_COND_BATCH, "recorder", self)

    def __call__(self, executor, model, conds, x, timestep, model_options):
        out = executor(model, conds, x, timestep, model_options)
        self.calls.append(
            (
                x.clone(),
                float(timestep[0]),
                [c and [e["model_conds"]["c_crossattn"].cond for e in c] for c in conds],
                out,
            )
        )
        return out


@pytest.mark.parametrize("blend", BLENDS)
def test_every_family_samples_every_blend(tiny, every_tiny, blend):
    loaded = tiny(every_tiny.name)
    timeline = timeline_for(loaded.model)
    out = run(loaded, timeline, blend)
    assert out.shape == empty(timeline).shape
    assert torch.isfinite(out).all() and out.std() > 0


def test_a_single_segment_leaves_the_output_unchanged_to_the_bit(tiny, every_tiny):
    loaded = tiny(every_tiny.name)
    timeline = timeline_for(loaded.model, transitions=("continue",))
    assert torch.equal(run(loaded, timeline), run(loaded, timeline, attach=False))


def test_blended_x0_is_the_weighted_mean_of_what_the_network_predicted(tiny):
    loaded = tiny("wan21")
    timeline = timeline_for(loaded.model)
    recorder = Recorder(loaded.model)
    model = latent_blend.attach(recorder.model, timeline, "triangle", 0, lead_frame=False)
    positive, negative = encode(loaded, timeline)
    out = tiny_sampling.sample(model, positive, negative, empty(timeline), steps=1, cfg=3.0)
    weights = latent_blend.TimelineHandler(timeline, "triangle", 0, False)._weights(timeline.segments)
    total, count = torch.zeros_like(out), torch.zeros(out.shape[2])
    for segment, weight, call in zip(timeline.segments, weights, recorder.calls, strict=True):
        cond, uncond = call[3]
        total[:, :, segment.start_frame : segment.end_frame] += (uncond + 3.0 * (cond - uncond)) * weight[:, None, None]
        count[segment.start_frame : segment.end_frame] += weight
    expected = loaded.model.model.process_latent_out(total / count[:, None, None])  # one step: the result is x0
    assert torch.allclose(out, expected, atol=1e-4)


def test_each_segment_hears_its_own_prompt_and_transitions_hear_both(tiny):
    loaded = tiny("wan21")
    timeline = timeline_for(loaded.model)
    recorder = Recorder(loaded.model)
    model = latent_blend.attach(recorder.model, timeline, "cut")
    positive, negative = encode(loaded, timeline)
    tiny_sampling.sample(model, positive, negative, empty(timeline), steps=1)
    texts = [entry[0] for entry in positive]
    for segment, call in zip(timeline.segments, recorder.calls, strict=True):
        expected = sum(texts[shot] * share for shot, share in segment.mix)
        heard = call[2][0] if len(call[2][0]) == 1 else None
        assert heard is not None and torch.allclose(heard[0].float(), expected.float(), atol=1e-5)
    assert any(len(segment.mix) == 2 for segment in timeline.segments)


def test_the_frame_in_front_never_comes_from_the_other_side_of_a_cut(tiny):
    loaded = tiny("wan21")
    timeline = timeline_for(loaded.model)
    recorder = Recorder(loaded.model)
    positive, negative = encode(loaded, timeline)
    model = latent_blend.attach(recorder.model, timeline, "cut")
    tiny_sampling.sample(model, positive, negative, empty(timeline), steps=1)
    for segment, (x, *_) in zip(timeline.segments, recorder.calls, strict=True):
        assert x.shape[2] == segment.latent_frames + (segment.start_frame > 0)
        if segment.start_frame == timeline.take_start(segment) > 0:
            assert torch.equal(x[:, :, 0], x[:, :, 1])  # its own first frame


def test_changing_a_shot_after_a_cut_leaves_the_shots_before_it_unchanged(tiny):
    loaded = tiny("wan21")
    one = timeline_for(loaded.model, transitions=("continue", "cut"))
    other = timeline_for(loaded.model, transitions=("continue", "cut"), negative="another")
    a, b = run(loaded, one), run(loaded, other)
    border = one.shots[1].start_frame
    assert torch.equal(a[:, :, :border], b[:, :, :border])
    assert not torch.equal(a[:, :, border:], b[:, :, border:])


def test_a_shots_seed_fixes_its_noise_whatever_the_samplers_seed(tiny):
    timeline = timeline_for(tiny("wan21").model, seed=11)
    shape = empty(timeline).shape
    shot = timeline.shots[1]
    first = noise_of_shots(torch.randn(shape), timeline)
    second = noise_of_shots(torch.randn(shape), timeline)
    assert torch.equal(first[:, :, shot.start_frame : shot.end_frame], second[:, :, shot.start_frame : shot.end_frame])
    assert not torch.equal(first[:, :, : shot.start_frame], second[:, :, : shot.start_frame])
    assert not noise_of_shots(torch.zeros(shape), timeline).any()


@pytest.mark.parametrize("change", [{"seed": 5}, {"negative": "grainy"}, {"strength": 0.5}])
def test_a_shots_seed_negative_and_strength_take_effect(tiny, change):
    loaded = tiny("wan21")
    assert not torch.equal(run(loaded, timeline_for(loaded.model)), run(loaded, timeline_for(loaded.model, **change)))


def test_strength_zero_follows_the_negative_prompt_alone(tiny):
    loaded = tiny("wan21")
    timeline = timeline_for(loaded.model, transitions=("continue", "cut"), strength=0.0)
    recorder = Recorder(loaded.model)
    positive, negative = encode(loaded, timeline)
    model = latent_blend.attach(recorder.model, timeline, "cut")
    out = tiny_sampling.sample(model, positive, negative, empty(timeline), steps=1)
    shot = timeline.shots[1]
    unconditional = loaded.model.model.process_latent_out(recorder.calls[-1][3][1])[:, :, 1:]
    assert torch.allclose(out[:, :, shot.end_frame - unconditional.shape[2] : shot.end_frame], unconditional, atol=1e-4)


def test_strength_without_guidance_is_refused(tiny):
    loaded = tiny("wan21")
    timeline = timeline_for(loaded.model, strength=0.5)
    with pytest.raises(ValueError, match="shot 2: strength 0.5 .* cfg above 1"):
        run(loaded, timeline, cfg=1.0)


def test_randomized_cuts_follow_the_blend_seed_and_change_with_every_evaluation(tiny):
    loaded = tiny("wan21")
    timeline = timeline_for(loaded.model)
    same, again, other = (run(loaded, timeline, "randomized", seed=s) for s in (1, 1, 2))
    assert torch.equal(same, again)
    assert not torch.equal(same, other)
    handler = latent_blend.TimelineHandler(timeline, "randomized", 1, True)
    drawn = set()
    for evaluation in range(20):
        handler.evaluation = evaluation
        drawn.add(tuple(tuple(w.tolist()) for w in handler._weights(timeline.segments)))
    assert len(drawn) > 5


def test_asking_for_cond_and_uncond_one_after_the_other_is_one_evaluation(tiny):
    handler = latent_blend.TimelineHandler(timeline_for(tiny("wan21").model), "randomized", 1, True)
    x, sigma = torch.randn(1, 16, 12, 8, 8), torch.tensor([0.7])
    handler._count_evaluation(x, sigma)
    handler._count_evaluation(x.clone(), sigma)
    assert handler.evaluation == 0
    handler._count_evaluation(x + 0.1, sigma)
    assert handler.evaluation == 1


@pytest.mark.parametrize("blend", ["triangle", "cut"])
def test_lead_frame_matters_and_can_be_left_out(tiny, blend):
    loaded = tiny("wan21")
    timeline = timeline_for(loaded.model)
    assert not torch.equal(run(loaded, timeline, blend), run(loaded, timeline, blend, lead_frame=False))


def test_a_latent_of_another_length_is_refused_with_both_numbers(tiny):
    loaded = tiny("wan21")
    timeline = timeline_for(loaded.model)
    model = latent_blend.attach(loaded.model, timeline, "triangle")
    positive, negative = encode(loaded, timeline)
    with pytest.raises(ValueError, match=rf"the latent has 9 frames and the timeline {timeline.latent_frames}"):
        tiny_sampling.sample(model, positive, negative, torch.zeros(1, 16, 9, 8, 8))


def test_a_second_latent_blend_is_refused(tiny):
    timeline = timeline_for(tiny("wan21").model)
    model = latent_blend.attach(tiny("wan21").model, timeline, "triangle")
    with pytest.raises(ValueError, match="already carries a Longreel Latent Blend"):
        latent_blend.attach(model, timeline, "cut")


def test_a_context_handler_that_was_there_works_inside_each_segment(tiny):
    loaded = tiny("wan21")
    timeline = timeline_for(loaded.model)
    windows = comfy.context_windows
    core = windows.IndexListContextHandler(
        windows.get_matching_context_schedule("standard_static"),
        windows.get_matching_fuse_method("pyramid"),
        context_length=3,
        context_overlap=1,
        dim=2,
    )
    recorder = Recorder(loaded.model)
    recorder.model.model_options["context_handler"] = core
    positive, negative = encode(loaded, timeline)
    model = latent_blend.attach(recorder.model, timeline, "triangle")
    out = tiny_sampling.sample(model, positive, negative, empty(timeline), steps=1)
    assert torch.isfinite(out).all()
    assert max(call[0].shape[2] for call in recorder.calls) <= 4  # core's 3 and its own frame in front


def test_memory_is_asked_for_one_segment_whatever_the_length(tiny):
    loaded = tiny("wan21")
    asked = []
    for seconds in (2.0, 20.0):
        board = Storyboard(shots=(Shot("a", seconds),), width=64, height=64)
        timeline = plan_timeline(board, facts_of(loaded.model), segment_frames=5, overlap_frames=2)
        model = latent_blend.attach(loaded.model, timeline, "triangle")
        seen = []

        def note(executor, patcher, shape, *args, seen=seen, **kwargs):
            seen.append(list(shape))
            return executor(patcher, shape, *args, **kwargs)

        model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.PREPARE_SAMPLING, "zz_note", note)
        positive, negative = encode(loaded, timeline)
        tiny_sampling.sample(model, positive, negative, empty(timeline), steps=1)
        asked.append(seen[0][2])
    assert asked == [6, 6]


@pytest.mark.parametrize("sampler", comfy.samplers.KSampler.SAMPLERS)
def test_every_core_sampler_works(tiny, sampler):
    loaded = tiny("wan21")
    timeline = timeline_for(loaded.model, transitions=("continue", "blend"), segment=4)
    out = run(loaded, timeline, "randomized", sampler=sampler, steps=2)
    assert torch.isfinite(out).all()


def test_interrupting_stops_between_segments(tiny):
    loaded = tiny("wan21")
    timeline = timeline_for(loaded.model)
    recorder = Recorder(loaded.model)

    def interrupt_after_two(executor, *args):
        if len(recorder.calls) == 2:
            comfy.model_management.interrupt_current_processing()
        return executor(*args)

    recorder.model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.APPLY_MODEL, "stop", interrupt_after_two)
    positive, negative = encode(loaded, timeline)
    model = latent_blend.attach(recorder.model, timeline, "cut")
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        tiny_sampling.sample(model, positive, negative, empty(timeline), steps=4)
    assert len(recorder.calls) <= 3 < len(timeline.segments)  # at most the segment that was running


def test_longreel_sampler_equals_core_sampling_with_latent_blend(tiny, every_tiny):
    loaded = tiny(every_tiny.name)
    timeline = timeline_for(loaded.model)
    positive, negative = encode(loaded, timeline)
    sigmas = comfy.samplers.calculate_sigmas(loaded.model.get_model_object("model_sampling"), "simple", 2)
    with torch.inference_mode():
        ours = sample_timeline(
            loaded.model,
            timeline,
            {"samples": empty(timeline)},
            sampling_of((positive, negative), sigmas),
            blend="triangle",
        )["samples"]
    model = latent_blend.attach(loaded.model, timeline, "triangle", 7)
    assert torch.equal(ours, tiny_sampling.sample(model, positive, negative, empty(timeline), seed=7))


def test_plain_conditioning_without_shots_applies_to_every_segment(tiny):
    loaded = tiny("wan21")
    timeline = timeline_for(loaded.model)
    conds = tiny_sampling.encode(loaded.clip, "one prompt"), tiny_sampling.encode(loaded.clip, "")
    assert torch.isfinite(run(loaded, timeline, conds=conds)).all()


def test_a_batch_of_two_samples_both(tiny):
    loaded = tiny("wan21")
    timeline = timeline_for(loaded.model)
    positive, negative = encode(loaded, timeline)
    model = latent_blend.attach(loaded.model, timeline, "triangle")
    two = tiny_sampling.sample(model, positive, negative, empty(timeline).repeat(2, 1, 1, 1, 1))
    assert two.shape[0] == 2 and not torch.equal(two[0], two[1])


def test_weights_of_takes_are_blended_among_themselves(tiny):
    timeline = timeline_for(tiny("wan21").model)
    handler = latent_blend.TimelineHandler(timeline, "linear", 0, True)
    weights = handler._weights(timeline.segments)
    alone = [s for s in timeline.segments if s.take == 1]
    expected = segment_weights("linear", [s.start_frame for s in alone], [s.latent_frames for s in alone])
    assert all(torch.equal(a, b) for a, b in zip(weights[-len(alone) :], expected, strict=True))


def test_two_experts_hand_over_as_one_run_of_the_same_model(tiny):
    """Wan 2.2's way: the first steps with one model, the rest with another; with the same model twice nothing
    changes."""
    loaded = tiny("wan22_14b_high")
    timeline = timeline_for(loaded.model)
    positive, negative = encode(loaded, timeline)
    sigmas = comfy.samplers.calculate_sigmas(loaded.model.get_model_object("model_sampling"), "simple", 4)

    def sample(model, latent, part, add_noise):
        with torch.inference_mode():
            return sample_timeline(
                model, timeline, latent, sampling_of((positive, negative), part, add_noise=add_noise), blend="triangle"
            )

    whole = sample(loaded.model, {"samples": empty(timeline)}, sigmas, True)["samples"]
    half = sample(loaded.model, {"samples": empty(timeline)}, sigmas[:3], True)
    same = sample(loaded.model, half, sigmas[2:], False)["samples"]
    other = sample(tiny("wan22_14b_low").model, half, sigmas[2:], False)["samples"]
    noisy = sample(loaded.model, half, sigmas[2:], True)["samples"]
    assert torch.allclose(whole, same, atol=1e-3)
    assert not torch.allclose(same, other, atol=1e-2) and not torch.allclose(same, noisy, atol=1e-2)
