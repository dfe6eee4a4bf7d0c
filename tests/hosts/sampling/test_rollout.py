"""Rollout on every family, through core's samplers and loaders: what each chunk is made of, and what it is not."""

import pytest
import torch

import comfy.context_windows
import comfy.model_management
import comfy.patcher_extension
import comfy.samplers

from longreel.engine.attention.kv_share import PREVIOUS
from longreel.engine.plan.rollout_chunks import plan_chunks
from longreel.engine.runs.folder import open_run
from longreel.engine.storyboard.board import Shot
from longreel.hosts.attention import patching
from longreel.hosts.features import kv_share
from longreel.hosts.prompts.chunk_conditioning import for_chunk
from longreel.hosts.sampling import rollout
from longreel.hosts.sampling.experts import Experts
from longreel.hosts.windows import latent_blend
from tests import tiny_sampling
from tests.hosts.rollout_cases import roll, rolled, sigmas_of, story
from tests.hosts.sampling_cases import sampling_of
from tests.hosts.windows.test_latent_blend import Recorder, empty, encode
from tests.live_bytes import LiveBytes


def test_every_family_rolls_out_a_finite_video(tiny, every_tiny):
    loaded = tiny(every_tiny.name)
    timeline = story(loaded.model, ("continue", "blend", "cut"))
    out = roll(loaded, timeline)
    assert out.shape == empty(timeline).shape
    assert torch.isfinite(out).all()
    assert (out.std((0, 1, 3, 4)) > 0).all()  # every frame was made


def test_a_timeline_of_one_chunk_is_core_sampling_to_the_bit(tiny, every_tiny):
    loaded = tiny(every_tiny.name)
    timeline = story(loaded.model, ("continue",), frames=4)
    plain = tiny_sampling.sample(loaded.model, *encode(loaded, timeline), empty(timeline), seed=7)
    with torch.inference_mode():
        out, _ = rollout.sample_rollout(
            loaded.model,
            timeline,
            {"samples": empty(timeline)},
            sampling_of(encode(loaded, timeline), sigmas_of(loaded.model)),
        )
    assert torch.equal(out["samples"], plain)


@pytest.mark.parametrize("name", ["wan21", "wan22_5b", "ltxv"])
def test_the_network_sees_the_known_frames_as_its_family_wants_them(tiny, name):
    """Noised to the level of the step, or clean where frames have noise levels of their own."""
    loaded = tiny(name)
    timeline = story(loaded.model)
    chunks = plan_chunks(timeline, 1)
    recorder = Recorder(loaded.model)
    out = roll(loaded, timeline, recorder.model, steps=1)
    for chunk, (x, sigma, *_) in zip(chunks, recorder.calls, strict=True):
        assert x.shape[2] == chunk.latent_frames
        known = loaded.model.model.process_latent_in(out[:, :, chunk.start_frame : chunk.first_new_frame])
        noise = torch.randn((1, *x.shape[1:]), generator=torch.Generator().manual_seed(7 + chunk.number))[
            :, :, : chunk.known_frames
        ]
        expected = known if name != "wan21" else sigma * noise + (1 - sigma) * known
        assert torch.allclose(x[:, :, : chunk.known_frames], expected, atol=1e-4)


def test_a_chunk_continues_from_the_frames_before_it(tiny, every_tiny):
    loaded = tiny(every_tiny.name)
    timeline = story(loaded.model)
    start = torch.zeros_like(empty(timeline))
    mask = torch.zeros(1, 1, *start.shape[2:])
    mask[:, :, 5:] = 1  # the first chunk is given
    out = [
        roll(loaded, timeline, latent={"samples": start + shift, "noise_mask": mask}, seed=7) for shift in (0.5, 1.0)
    ]
    assert torch.allclose(out[0][:, :, :5], start[:, :, :5] + 0.5, atol=1e-5)
    assert not torch.equal(out[0][:, :, 5:9], out[1][:, :, 5:9])


def test_nothing_crosses_a_cut(tiny, every_tiny):
    loaded = tiny(every_tiny.name)
    timeline = story(loaded.model, ("continue", "cut"))
    other = story(loaded.model, shots=(Shot("another", timeline.shots[0].shot.seconds), timeline.shots[1].shot))
    one, two = roll(loaded, timeline), roll(loaded, other)
    border = timeline.shots[1].start_frame
    assert torch.equal(one[:, :, border:], two[:, :, border:])
    assert not torch.equal(one[:, :, :border], two[:, :, :border])


def test_each_chunk_hears_its_own_shot_and_a_blend_hears_both(tiny):
    loaded = tiny("wan21")
    timeline = story(loaded.model, ("continue", "blend"), overlap=3)
    recorder = Recorder(loaded.model)
    positive, negative = encode(loaded, timeline)
    roll(loaded, timeline, recorder.model, conds=(positive, negative), steps=1)
    chunks = plan_chunks(timeline, 3)
    assert len(recorder.calls) == len(chunks) and any(len(chunk.mix) == 2 for chunk in chunks)
    for chunk, call in zip(chunks, recorder.calls, strict=True):
        expected = sum(positive[shot][0] * share for shot, share in chunk.mix)
        assert torch.allclose(call[2][0][0].float(), expected.float(), atol=1e-5)


def test_a_longer_video_begins_with_the_same_frames(tiny, every_tiny):
    loaded = tiny(every_tiny.name)
    short, long = story(loaded.model, ("continue",)), story(loaded.model, ("continue",), frames=16)
    same = plan_chunks(short, 1)[-1].first_new_frame
    assert torch.equal(roll(loaded, short)[:, :, :same], roll(loaded, long)[:, :, :same])


def test_a_shots_seed_holds_its_noise_whatever_the_samplers_seed(tiny):
    loaded = tiny("wan21")
    timeline = story(loaded.model, ("continue", "cut"), seed=11)
    one, two = roll(loaded, timeline, seed=1), roll(loaded, timeline, seed=2)
    border = timeline.shots[1].start_frame
    assert torch.equal(one[:, :, border:], two[:, :, border:])
    assert not torch.equal(one[:, :, :border], two[:, :, :border])


@pytest.mark.parametrize("change", [{"seed": 8}, {"cfg": 2.0}, {"steps": 3}])
def test_seed_guidance_and_sigmas_matter(tiny, change):
    loaded = tiny("wan21")
    timeline = story(loaded.model)
    assert not torch.equal(roll(loaded, timeline), roll(loaded, timeline, **change))


@pytest.mark.parametrize("change", [{"negative": "grainy"}, {"strength": 0.5}])
def test_a_shots_negative_and_strength_take_effect(tiny, change):
    loaded = tiny("wan21")
    assert not torch.equal(roll(loaded, story(loaded.model)), roll(loaded, story(loaded.model, **change)))


def test_strength_without_guidance_is_refused(tiny):
    loaded = tiny("wan21")
    with pytest.raises(ValueError, match="shot 2: strength 0.5 .* cfg above 1"):
        roll(loaded, story(loaded.model, strength=0.5), cfg=1.0)


def test_a_latent_to_work_on_is_cut_into_the_chunks_and_its_mask_is_honoured(tiny, every_tiny):
    loaded = tiny(every_tiny.name)
    timeline = story(loaded.model)
    given = torch.randn(empty(timeline).shape, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(1, 1, *given.shape[2:])
    mask[:, :, 6:8] = 0
    mask[..., : given.shape[-1] // 2] = 0
    sigmas = sigmas_of(loaded.model, 4)[2:]
    worked = roll(loaded, timeline, latent={"samples": given, "noise_mask": mask}, sigmas=sigmas)
    assert torch.allclose(worked[(mask == 0).expand_as(worked)], given[(mask == 0).expand_as(given)], atol=1e-4)
    assert not torch.allclose(worked, given, atol=1e-2)
    assert not torch.equal(
        worked, roll(loaded, timeline, latent={"samples": given * 2, "noise_mask": mask}, sigmas=sigmas)
    )


def test_without_added_noise_the_new_frames_are_taken_as_they_are(tiny):
    loaded = tiny("wan21")
    timeline = story(loaded.model)
    given = {"samples": torch.randn(empty(timeline).shape, generator=torch.Generator().manual_seed(1))}
    noisy, quiet = (roll(loaded, timeline, latent=given, add_noise=add) for add in (True, False))
    assert not torch.equal(noisy, quiet)
    first = roll(loaded, timeline, latent=given, add_noise=False, seed=99)
    assert torch.equal(first[:, :, :5], quiet[:, :, :5])  # nothing is drawn for a chunk without known frames


def test_two_experts_of_the_same_weights_are_one_model(tiny):
    loaded = tiny("wan22_14b_high")
    timeline = story(loaded.model)
    whole = roll(loaded, timeline, steps=4)
    same = roll(loaded, timeline, steps=4, low_noise_model=loaded.model.clone(), low_noise_from=0.95)
    other = roll(loaded, timeline, steps=4, low_noise_model=tiny("wan22_14b_low").model, low_noise_from=0.95)
    later = roll(loaded, timeline, steps=4, low_noise_model=tiny("wan22_14b_low").model, low_noise_from=0.8)
    assert torch.allclose(whole, same, atol=2e-3)
    assert not torch.allclose(whole, other, atol=1e-2) and not torch.allclose(other, later, atol=1e-2)


def test_the_second_expert_takes_the_steps_that_begin_below_the_level(tiny):
    high, low = tiny("wan22_14b_high").model, tiny("wan22_14b_low").model
    sigmas = torch.tensor([1.0, 0.9, 0.875, 0.6, 0.0])
    parts = Experts(high, low, 0.875).parts(sigmas)
    assert [(model is low, part.tolist()) for model, part in parts] == [
        (False, sigmas[:4].tolist()),
        (True, sigmas[3:].tolist()),
    ]
    assert [model for model, _ in Experts(high, low, 0.0).parts(sigmas)] == [high]
    assert [model for model, _ in Experts(high, low, 1.1).parts(sigmas)] == [low]


def test_a_second_expert_of_no_flow_model_is_refused(tiny):
    loaded = tiny("cogvideox10")
    with pytest.raises(
        ValueError, match="CogVideoX is no flow model, and only flow models .* leave low_noise_model unwired"
    ):
        roll(loaded, story(loaded.model), low_noise_model=loaded.model)


def test_sigmas_that_do_not_end_at_zero_are_refused(tiny):
    loaded = tiny("wan21")
    with pytest.raises(ValueError, match="the sigmas end at .* must end at 0; wire all"):
        roll(loaded, story(loaded.model), sigmas=sigmas_of(loaded.model, 4)[:3])


def test_a_latent_of_another_length_is_refused_with_both_numbers(tiny):
    loaded = tiny("wan21")
    timeline = story(loaded.model)
    with pytest.raises(ValueError, match=f"the latent has 9 frames and the timeline {timeline.latent_frames}"):
        roll(loaded, timeline, latent={"samples": torch.zeros(1, 16, 9, 8, 8)})


def test_features_that_need_all_segments_at_once_are_refused_with_the_remedy(tiny):
    loaded = tiny("wan21")
    timeline = story(loaded.model)
    blended = latent_blend.attach(loaded.model, timeline, "triangle")
    with pytest.raises(ValueError, match="carries a Longreel Latent Blend, .* mode joint"):
        roll(loaded, timeline, blended)
    feature = kv_share.KVShare(
        "fast", PREVIOUS, 1, (), True, "replace", "aligned", 1.0, True, frozenset([0]), 0.0, 1.0, None
    )
    with pytest.raises(ValueError, match="Longreel KV Share cannot work in rollout, where one chunk .* mode joint"):
        roll(loaded, timeline, patching.attach(loaded.model, feature))


def test_conditioning_with_a_time_axis_is_cut_to_the_window(tiny):
    timeline = story(tiny("wan21").model)
    chunk = plan_chunks(timeline, 1)[2]
    frames = torch.arange(timeline.latent_frames, dtype=torch.float32)[None, None, :, None, None]
    options = {
        "concat_latent_image": frames,
        "reference_latents": [torch.zeros(1, 16, 1, 8, 8)],
        "vace_frames": [frames],
        "mask": frames[0],
        "guidance": 3.0,
    }
    ((_, cut),) = for_chunk([["text", options]], chunk, timeline, [0])
    window = list(range(chunk.start_frame, chunk.end_frame))
    assert cut["concat_latent_image"].flatten().tolist() == window
    assert cut["vace_frames"][0].flatten().tolist() == cut["mask"].flatten().tolist() == window
    assert cut["reference_latents"][0].shape[2] == 1 and cut["guidance"] == 3.0
    one = story(tiny("wan21").model, ("continue",), frames=4)
    ((_, whole),) = for_chunk([["text", {"control": "kept"}]], plan_chunks(one, 1)[0], one, [0])
    assert whole == {"control": "kept"}  # nothing to cut


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("control", object()),
        ("gligen", ("position",)),
        ("keyframe_idxs", torch.ones(1)),
        ("area", ("percentage", 0.5, 1, 1, 0, 0, 0)),
        ("area", (2, 8, 8, 0, 0, 0)),
    ],
)
def test_what_lies_on_the_timeline_and_cannot_be_cut_is_refused_by_name(tiny, name, value):
    loaded = tiny("wan21")
    timeline = story(loaded.model)
    positive, negative = encode(loaded, timeline)
    positive[0][1][name] = value
    with pytest.raises(ValueError, match=f"the conditioning has a {name} for {timeline.latent_frames} latent frames"):
        roll(loaded, timeline, conds=(positive, negative))


def test_an_area_of_the_picture_holds_in_every_chunk(tiny):
    loaded = tiny("wan21")
    timeline = story(loaded.model)
    positive, negative = encode(loaded, timeline)
    part = [[text, {**options, "area": (4, 8, 0, 0), "strength": 1.0}] for text, options in positive]
    assert not torch.equal(roll(loaded, timeline, conds=(part, negative)), roll(loaded, timeline))


def test_a_context_handler_that_was_there_works_inside_each_chunk_and_comes_back(tiny):
    loaded = tiny("wan21")
    timeline = story(loaded.model)
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
    out = roll(loaded, timeline, recorder.model, steps=1)
    assert torch.isfinite(out).all()
    assert max(call[0].shape[2] for call in recorder.calls) <= 4  # core's 3 and its own frame in front
    assert recorder.model.model_options["context_handler"] is core


def test_the_model_that_was_given_is_left_as_it_was(tiny):
    loaded = tiny("wan21")
    before = tiny_sampling.sample(loaded.model, *encode(loaded, story(loaded.model)), torch.zeros(1, 16, 3, 8, 8))
    roll(loaded, story(loaded.model))
    assert "context_handler" not in loaded.model.model_options
    after = tiny_sampling.sample(loaded.model, *encode(loaded, story(loaded.model)), torch.zeros(1, 16, 3, 8, 8))
    assert torch.equal(before, after)


def test_interrupting_stops_within_a_step(tiny):
    loaded = tiny("wan21")
    timeline = story(loaded.model)
    recorder = Recorder(loaded.model)

    def interrupt_at_the_third(executor, *args):
        if len(recorder.calls) == 3:
            comfy.model_management.interrupt_current_processing()
        return executor(*args)

    recorder.model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.APPLY_MODEL, "stop", interrupt_at_the_third)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        roll(loaded, timeline, recorder.model, steps=4)
    assert len(recorder.calls) <= 4


def test_memory_does_not_grow_with_the_number_of_chunks(tiny):
    loaded = tiny("wan21")
    peaks = []
    for frames in (4, 20, 200):  # the first warms up; then 5 chunks and 50
        timeline = story(loaded.model, ("continue",), frames=frames)
        conds, latent = encode(loaded, timeline), {"samples": empty(timeline)}
        with LiveBytes(latent["samples"]) as memory:
            out = roll(loaded, timeline, latent=latent, conds=conds, steps=1)
        peaks.append(memory.peak - out.nbytes)
        chunks = len(plan_chunks(timeline, 1))
    assert chunks == 50
    assert peaks[2] <= 1.02 * peaks[1]


def test_a_batch_of_two_samples_both(tiny):
    loaded = tiny("wan21")
    timeline = story(loaded.model)
    two = roll(loaded, timeline, latent={"samples": empty(timeline).repeat(2, 1, 1, 1, 1)})
    assert two.shape[0] == 2 and not torch.equal(two[0], two[1])


def states(report: str) -> list[str]:
    return [line.split(": ", 1)[1] for line in report.splitlines()]


def run_in(path, loaded, timeline, **options) -> tuple[torch.Tensor, list[str]]:
    with open_run(path) as run:
        out, report = rolled(loaded, timeline, run=run, **options)
        run.finish()
    return out, states(report)


def test_a_mask_of_pixel_frames_is_refused(tiny):
    loaded = tiny("wan21")
    timeline = story(loaded.model)
    mask = torch.ones(timeline.pixel_frames, 8, 8)
    with pytest.raises(
        ValueError, match=f"mask has {timeline.pixel_frames} frames and the latent 17; masks count latent"
    ):
        roll(loaded, timeline, latent={"samples": empty(timeline), "noise_mask": mask})


def test_a_run_that_was_cut_off_goes_on_to_the_same_bits(tiny, every_tiny, tmp_path):
    loaded = tiny(every_tiny.name)
    timeline = story(loaded.model, ("continue", "cut"))
    whole = roll(loaded, timeline)
    recorder = Recorder(loaded.model)

    def stop(executor, *args, **kwargs):
        if len(recorder.calls) == 5:  # in the third chunk
            raise KeyboardInterrupt
        return executor(*args, **kwargs)

    recorder.model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.APPLY_MODEL, "stop", stop)
    with pytest.raises(KeyboardInterrupt), open_run(tmp_path) as run:
        rolled(loaded, timeline, recorder.model, run=run)
    out, said = run_in(tmp_path, loaded, timeline, model=recorder_free(recorder.model))
    assert torch.equal(out, whole)
    assert said[:2] == ["reused", "reused"] and set(said[2:]) == {"made: new"}
    again, said = run_in(tmp_path, loaded, timeline, model=recorder_free(recorder.model))
    assert torch.equal(again, whole) and set(said) == {"reused"}


def recorder_free(model):
    """The same model without the wrapper that stops it: wrappers are no part of what a chunk depends on."""
    model = model.clone()
    model.remove_wrappers_with_key(comfy.patcher_extension.WrappersMP.APPLY_MODEL, "stop")
    return model


def test_changing_a_shot_makes_it_and_what_continues_from_it_again(tiny, tmp_path):
    loaded = tiny("wan21")
    shots = [Shot("one", 2.0), Shot("two", 2.0), Shot("three", 2.0, "cut")]
    run_in(tmp_path, loaded, story(loaded.model, shots=tuple(shots)))
    shots[1] = Shot("two, at night", 2.0)
    changed = story(loaded.model, shots=tuple(shots))
    out, said = run_in(tmp_path, loaded, changed)
    of_shot = [chunk.shot for chunk in plan_chunks(changed, 1)]
    assert torch.equal(out, roll(loaded, changed))
    for shot, line in zip(of_shot, said, strict=True):
        assert line.startswith("made again" if shot == 1 else "reused"), said
    assert "made again: the prompt changed" in said[of_shot.index(1)]


def test_a_locked_shot_is_kept_whatever_changed(tiny, tmp_path):
    loaded = tiny("wan21")
    first, _ = run_in(tmp_path, loaded, story(loaded.model))
    seconds = story(loaded.model).shots[0].shot.seconds
    locked = story(loaded.model, shots=(Shot("scene 0", seconds), Shot("another prompt", seconds, locked=True)))
    out, said = run_in(tmp_path, loaded, locked, seed=8)
    border = locked.shots[1].start_frame
    assert torch.equal(out[:, :, border:], first[:, :, border:])
    assert not torch.equal(out[:, :, :border], first[:, :, :border])
    assert said[-1] == "locked" and said[0] == "made again: the seed changed"


@pytest.mark.parametrize("change", ["lora", "shift", "cfg", "sampler", "latent", "sigmas"])
def test_whatever_a_chunk_depends_on_makes_it_again(tiny, tmp_path, change):
    loaded = tiny("wan21")
    timeline = story(loaded.model)
    run_in(tmp_path, loaded, timeline)
    model, options = loaded.model.clone(), {}
    if change == "lora":
        key = next(name for name in model.model.state_dict() if name.endswith("self_attn.q.weight"))
        model.add_patches({key: ("diff", (torch.ones_like(model.model.state_dict()[key]),))}, 0.1)
    elif change == "shift":
        sampling = type(model.model.model_sampling)(model.model.model_config)
        sampling.set_parameters(shift=3.0)
        model.add_object_patch("model_sampling", sampling)
        options["sigmas"] = sigmas_of(loaded.model)
    elif change == "cfg":
        options["cfg"] = 4.0
    elif change == "latent":
        options["latent"] = {"samples": empty(timeline) + 1}
    elif change == "sigmas":
        options["steps"] = 3
    if change == "sampler":
        with open_run(tmp_path) as run, torch.inference_mode():
            _, report = rollout.sample_rollout(
                model,
                timeline,
                {"samples": empty(timeline)},
                sampling_of(
                    encode(loaded, timeline), sigmas_of(model), comfy.samplers.ksampler("euler", {"s_churn": 0.1})
                ),
                run=run,
            )
        said = states(report)
    else:
        said = run_in(tmp_path, loaded, timeline, model=model, **options)[1]
    assert all(line.startswith("made again") for line in said), said


def test_the_same_model_loaded_twice_is_the_same(tiny, tiny_models, tmp_path):
    loaded = tiny("wan21")
    timeline = story(loaded.model)
    run_in(tmp_path, loaded, timeline)
    again = tiny_models["wan21"].load()
    assert set(run_in(tmp_path, again, timeline)[1]) == {"reused"}
