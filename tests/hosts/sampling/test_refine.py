"""hosts/sampling/refine.py on every family: what it leaves as it is, how chunks meet in both blends, and what is
refused."""

import dataclasses
from collections.abc import Iterator

import pytest
import torch

import comfy.context_windows
import comfy.k_diffusion.sampling
import comfy.model_management
import comfy.patcher_extension
import comfy.sample
import comfy.samplers
import node_helpers
from comfy_extras.nodes_custom_sampler import SamplerCustom

from longreel.engine.plan.timeline import plan_timeline
from longreel.engine.sampling.refine import CODE, PAPER
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.hosts import facts_of
from longreel.hosts.attention import patching
from longreel.hosts.features.kv_share import PAPER as BOTH_WAYS
from longreel.hosts.prompts import conditioning
from longreel.hosts.sampling import refine
from longreel.hosts.sampling.alpha_space import AlphaSpaceSampler
from longreel.hosts.sampling.refine_steps import NOISY, QUIET, OncePerStep
from longreel.hosts.windows import latent_blend
from tests import tiny_sampling
from tests.hosts.features.test_kv_share import PLAIN
from tests.hosts.sampling_cases import sampling_of
from tests.hosts.windows.test_latent_blend import Recorder, encode, timeline_for
from tests.live_bytes import LiveBytes

SEED, CFG = 3, 3.0


def video(model, frames=11, batch=1) -> dict:
    """A finished video of noise; no tiny model has seen a real one."""
    facts = facts_of(model)
    size = 64 // facts.spatial_stride
    shape = (batch, facts.latent_channels, frames, size, size)
    return {"samples": torch.randn(shape, generator=torch.Generator().manual_seed(1))}


def prompts(loaded) -> tuple[list, list]:
    return tiny_sampling.encode(loaded.clip, "a red circle"), tiny_sampling.encode(loaded.clip, "blurry")


def solver(model, name="euler"):
    """Core's sampler of that name, or what CogVideoX has in its place."""
    if facts_of(model).family.startswith("CogVideoX"):
        return AlphaSpaceSampler("ddim", 0.0)
    return comfy.samplers.sampler_object(name)


def schedule(model, steps=2) -> torch.Tensor:
    return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", steps)


def refined(
    loaded,
    latent,
    *,
    model=None,
    conds=None,
    sampler=None,
    steps=2,
    strength=1.0,
    chunk=5,
    overlap=2,
    cfg=CFG,
    seed=SEED,
    **options,
) -> torch.Tensor:
    model = loaded.model if model is None else model
    sampler = solver(model, sampler or "euler") if sampler is None or isinstance(sampler, str) else sampler
    with torch.inference_mode():
        return refine.refine(
            model,
            latent,
            sampling_of(conds or prompts(loaded), schedule(model, steps), sampler, seed=seed, cfg=cfg),
            strength=strength,
            chunk_latent_frames=chunk,
            overlap_latent_frames=overlap,
            **options,
        )["samples"]


def core(loaded, latent, *, sampler=None, steps=2, first_step=0) -> torch.Tensor:
    """SamplerCustom of core on the same video."""
    sampler = solver(loaded.model, sampler or "euler")
    sigmas = schedule(loaded.model, steps)[first_step:]
    with torch.inference_mode():
        out = SamplerCustom.execute(loaded.model, True, SEED, CFG, *prompts(loaded), sampler, sigmas, latent)
    return out.result[0]["samples"]


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """Torch fills what is not written with NaN."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


# What it leaves as it is


@pytest.mark.parametrize("blend", refine.BLENDS)
def test_one_chunk_equals_cores_sampling_to_the_bit(tiny, every_tiny, blend):
    loaded = tiny(every_tiny.name)
    latent = video(loaded.model, 5)
    latent["noise_mask"] = torch.ones(1, 1, 5, *latent["samples"].shape[3:])
    latent["noise_mask"][:, :, :2] = 0.25
    expected = core(loaded, latent, steps=4, first_step=2)
    assert torch.equal(refined(loaded, latent, blend=blend, steps=4, strength=0.5), expected)


@pytest.mark.parametrize("sampler", [*QUIET, *NOISY, "ddim"])
def test_every_sampler_of_single_steps_equals_cores_on_one_chunk(tiny, sampler):
    loaded = tiny("wan21")
    latent = video(loaded.model, 5)
    expected = core(loaded, latent, sampler=sampler, steps=3)
    assert torch.equal(refined(loaded, latent, blend=refine.STEP, sampler=sampler, steps=3), expected)


@pytest.mark.parametrize("blend", refine.BLENDS)
def test_strength_zero_gives_the_video_back_to_the_bit(tiny, every_tiny, blend):
    loaded = tiny(every_tiny.name)
    latent = video(loaded.model)
    assert torch.equal(refined(loaded, latent, strength=0.0, blend=blend), latent["samples"])


@pytest.mark.parametrize("blend", refine.BLENDS)
def test_a_noise_mask_keeps_what_it_covers(tiny, every_tiny, blend):
    loaded = tiny(every_tiny.name)
    latent = video(loaded.model)
    mask = torch.ones(1, 1, *latent["samples"].shape[2:])
    mask[:, :, 3:7] = 0  # over a joint of chunks
    out = refined(loaded, {**latent, "noise_mask": mask}, blend=blend)
    torch.testing.assert_close(out[:, :, 3:7], latent["samples"][:, :, 3:7], atol=1e-4, rtol=1e-4)
    assert (out - latent["samples"])[:, :, 7:].abs().mean() > 0.05


def test_other_keys_of_the_latent_are_passed_on(tiny):
    loaded = tiny("wan21")
    latent = {**video(loaded.model), "note": "kept"}
    with torch.inference_mode():
        out = refine.refine(
            loaded.model,
            latent,
            sampling_of(prompts(loaded), schedule(loaded.model), solver(loaded.model), seed=SEED, cfg=CFG),
            strength=1.0,
            chunk_latent_frames=5,
            overlap_latent_frames=2,
        )
    assert out["note"] == "kept"


# Every length


@pytest.mark.parametrize("blend", refine.BLENDS)
@pytest.mark.parametrize(
    ("frames", "chunk", "overlap"),
    [*((frames, 5, 2) for frames in range(1, 14)), (11, 5, 4), (11, 5, 0), (8, 7, 6), (3, 2, 1)],
)
def test_no_frame_of_any_length_is_left_uninitialised(tiny, poisoned_memory, blend, frames, chunk, overlap):
    loaded = tiny("wan21")
    latent = video(loaded.model, frames)
    out = refined(loaded, latent, blend=blend, chunk=chunk, overlap=overlap, steps=1, cfg=1.0)
    assert out.shape == latent["samples"].shape and out.isfinite().all()
    assert (out - latent["samples"]).abs().mean((0, 1, 3, 4)).min() > 0.01  # each was made again


def test_the_last_chunk_is_shifted_back_and_a_short_video_is_one_chunk(tiny):
    facts = facts_of(tiny("wan21").model)
    assert [s.start_frame for s in refine.chunks_of(facts, 12, 5, 2).segments] == [0, 3, 6, 7]
    assert [(s.start_frame, s.latent_frames) for s in refine.chunks_of(facts, 4, 5, 2).segments] == [(0, 4)]


def test_the_defaults_are_the_native_clip_and_a_third_of_it(tiny, every_tiny):
    facts = facts_of(tiny(every_tiny.name).model)
    chunks = refine.chunks_of(facts, 200)
    assert chunks.segment_frames == facts.native_latent_frames
    assert chunks.overlap_frames == round(facts.native_latent_frames / 3)


def test_a_batch_refines_every_video(tiny):
    loaded = tiny("wan21")
    latent = video(loaded.model, batch=2)
    for blend in refine.BLENDS:
        out = refined(loaded, latent, blend=blend)
        assert out.shape == latent["samples"].shape and not torch.equal(out[0], out[1])


# How chunks meet


def test_x0_every_frame_is_what_one_chunk_predicted(tiny):
    loaded = tiny("wan21")
    recorder = Recorder(loaded.model)
    out = refined(loaded, video(loaded.model), model=recorder.model, steps=1, cfg=1.0)
    chunks = refine.chunks_of(facts_of(loaded.model), 11, 5, 2).segments
    predicted = {}
    for chunk, (*_, outs) in zip(chunks, recorder.calls, strict=True):
        clean = loaded.model.model.process_latent_out(outs[0])[:, :, -chunk.latent_frames :]
        for place in range(chunk.latent_frames):
            predicted.setdefault(chunk.start_frame + place, []).append(clean[:, :, place])
    assert max(len(choices) for choices in predicted.values()) == 2
    for frame, choices in predicted.items():
        assert any(torch.allclose(out[:, :, frame], choice, atol=1e-5) for choice in choices), frame


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpm_2", "euler_ancestral"])
def test_step_moves_each_chunk_as_a_clip_of_its_own_with_its_frames_of_one_noise(tiny, sampler):
    """Chunks that share nothing: each is what core makes of it alone."""
    loaded = tiny("wan21")
    latent = video(loaded.model, 10)["samples"]
    noise = comfy.sample.prepare_noise(latent, SEED)
    out = refined(loaded, {"samples": latent}, blend=refine.STEP, sampler=sampler, steps=3, overlap=0, lead_frame=False)
    for start in (0, 5):
        part = slice(start, start + 5)
        draw = comfy.k_diffusion.sampling.default_noise_sampler(latent, seed=SEED)
        options = {"noise_sampler": lambda *_, draw=draw, part=part: draw(0, 0)[:, :, part]} if sampler in NOISY else {}
        alone = comfy.samplers.ksampler(sampler, options)
        guider = comfy.samplers.CFGGuider(loaded.model)
        guider.set_conds(*prompts(loaded))
        guider.set_cfg(CFG)
        with torch.inference_mode():
            clip = guider.sample(noise[:, :, part], latent[:, :, part], alone, schedule(loaded.model, 3), seed=SEED)
        assert torch.equal(out[:, :, part], clip)


def test_both_blends_agree_for_a_solver_that_asks_once_and_remembers_nothing(tiny, every_tiny):
    loaded = tiny(every_tiny.name)
    latent = video(loaded.model)
    x0, step = (refined(loaded, latent, blend=blend, steps=3) for blend in refine.BLENDS)
    torch.testing.assert_close(x0, step, atol=2e-3, rtol=2e-3)


def test_both_blends_differ_for_a_solver_that_asks_twice(tiny):
    loaded = tiny("wan21")
    x0, step = (refined(loaded, video(loaded.model), blend=blend, sampler="heun", steps=3) for blend in refine.BLENDS)
    assert not torch.allclose(x0, step, atol=1e-2)


@pytest.mark.parametrize("blend", refine.BLENDS)
def test_a_solver_that_adds_noise_gives_both_videos_of_an_overlap_the_same(tiny, blend):
    """Wherever overlaps are cut, and whatever chunk a frame is in: with chunks that predict alike nothing shows."""
    loaded = tiny("wan21")
    model = loaded.model.clone()
    model.add_wrapper_with_key(
        comfy.patcher_extension.WrappersMP.CALC_COND_BATCH,
        "blind",
        lambda executor, model, conds, x, timestep, options: [x * 0.5 for _ in conds],
    )
    latent = video(loaded.model)
    chunked = refined(loaded, latent, model=model, blend=blend, sampler="euler_ancestral", steps=3)
    whole = refined(loaded, latent, model=model, blend=blend, sampler="euler_ancestral", steps=3, chunk=11)
    torch.testing.assert_close(chunked, whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_alpha_space_ddim_moves_single_steps_with_noise_of_the_whole_video(tiny, eta):
    loaded = tiny("cogvideox10")
    latent = video(loaded.model)
    sampler = AlphaSpaceSampler("ddim", eta, "published")
    x0, step = (refined(loaded, latent, blend=blend, sampler=sampler, steps=3) for blend in refine.BLENDS)
    assert x0.std() > 0
    torch.testing.assert_close(x0, step, atol=2e-3, rtol=2e-3)


def test_noise_is_drawn_once_per_step():
    drawn = []
    noise = OncePerStep(lambda step: drawn.append(step) or torch.full((1,), float(step)))
    assert [float(noise(step)) for step in (0, 0, 1, 1, 1, 2)] == [0, 0, 1, 1, 1, 2]
    assert drawn == [0, 1, 2]


@pytest.mark.parametrize("blend", refine.BLENDS)
@pytest.mark.parametrize(
    "change", [{"seed": 4}, {"overlap": 1}, {"chunk": 6}, {"lead_frame": False}, {"cut_range": CODE}, {"strength": 0.5}]
)
def test_every_setting_takes_effect_and_the_same_settings_give_the_same_video(tiny, blend, change):
    loaded = tiny("wan21")
    latent = video(loaded.model)
    same, again = (refined(loaded, latent, blend=blend, steps=4, cut_range=PAPER) for _ in range(2))
    assert torch.equal(same, again)
    assert not torch.equal(same, refined(loaded, latent, blend=blend, steps=4, **change))


# Shots


@pytest.mark.parametrize("blend", refine.BLENDS)
def test_every_shot_keeps_its_prompt_and_no_chunk_crosses_a_cut(tiny, blend):
    loaded = tiny("wan21")
    timeline = timeline_for(loaded.model)
    recorder = Recorder(loaded.model)
    positive, negative = encode(loaded, timeline)
    refined(
        loaded,
        video(loaded.model, timeline.latent_frames),
        model=recorder.model,
        conds=(positive, negative),
        steps=1,
        blend=blend,
        timeline=timeline,
    )
    cut = timeline.shots[2].start_frame
    chunks = refine.chunks_of(timeline.facts, timeline.latent_frames, 5, 2, timeline).segments
    for chunk, (x, _, texts, _) in zip(chunks, recorder.calls, strict=True):
        expected = sum(positive[shot][0] * share for shot, share in chunk.mix)
        assert torch.allclose(texts[0][0].float(), expected.float(), atol=1e-5)
        assert chunk.end_frame <= cut or chunk.start_frame >= cut
        if chunk.start_frame == cut:
            assert torch.equal(x[:, :, 0], x[:, :, 1])  # in front stands its own first frame


@pytest.mark.parametrize("blend", refine.BLENDS)
def test_a_shot_behind_a_cut_never_changes_what_is_before_it(tiny, blend):
    loaded = tiny("wan21")
    one = timeline_for(loaded.model, transitions=("continue", "cut"))
    other = timeline_for(loaded.model, transitions=("continue", "cut"), negative="another")
    latent = video(loaded.model, one.latent_frames)
    a, b = (refined(loaded, latent, conds=encode(loaded, t), blend=blend, timeline=t) for t in (one, other))
    cut = one.shots[1].start_frame
    assert torch.equal(a[:, :, :cut], b[:, :, :cut]) and not torch.equal(a[:, :, cut:], b[:, :, cut:])


def test_a_shots_strength_counts_alike_in_both_blends(tiny):
    loaded = tiny("wan21")
    plain, weak = timeline_for(loaded.model), timeline_for(loaded.model, strength=0.5)
    latent = video(loaded.model, plain.latent_frames)
    outs = [
        refined(loaded, latent, conds=encode(loaded, t), blend=blend, timeline=t)
        for t, blend in ((plain, refine.X0), (weak, refine.X0), (weak, refine.STEP))
    ]
    assert not torch.allclose(outs[0], outs[1], atol=1e-2)
    torch.testing.assert_close(outs[1], outs[2], atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("mode", [PLAIN.mode, BOTH_WAYS])
def test_features_work_between_chunks_in_both_blends(tiny, mode):
    loaded = tiny("wan21")
    timeline = timeline_for(loaded.model)
    latent, conds = video(loaded.model, timeline.latent_frames), encode(loaded, timeline)
    model = patching.attach(loaded.model, dataclasses.replace(PLAIN, mode=mode))
    without = refined(loaded, latent, conds=conds, timeline=timeline)
    x0, step = (
        refined(loaded, latent, model=model, conds=conds, blend=blend, timeline=timeline) for blend in refine.BLENDS
    )
    assert not torch.allclose(x0, without, atol=1e-3)
    torch.testing.assert_close(x0, step, atol=2e-3, rtol=2e-3)


def test_the_timelines_segments_are_the_default_chunks(tiny):
    timeline = timeline_for(tiny("wan21").model)
    chunks = refine.chunks_of(timeline.facts, timeline.latent_frames, timeline=timeline)
    assert chunks.segment_frames == timeline.segment_frames and chunks.overlap_frames == 2
    assert refine.chunks_of(timeline.facts, timeline.latent_frames, 7, 1, timeline).segment_frames == 7


# What runs around it


@pytest.mark.parametrize("blend", refine.BLENDS)
def test_a_context_handler_that_was_there_works_inside_each_chunk(tiny, blend):
    loaded = tiny("wan21")
    windows = comfy.context_windows
    recorder = Recorder(loaded.model)
    recorder.model.model_options["context_handler"] = windows.IndexListContextHandler(
        windows.get_matching_context_schedule("standard_static"),
        windows.get_matching_fuse_method("pyramid"),
        context_length=3,
        context_overlap=1,
        dim=2,
    )
    assert refined(loaded, video(loaded.model), model=recorder.model, steps=1, blend=blend).isfinite().all()
    assert max(call[0].shape[2] for call in recorder.calls) <= 4  # core's 3 and its own frame in front


@pytest.mark.parametrize("blend", refine.BLENDS)
def test_memory_is_asked_for_one_chunk_whatever_the_length(tiny, blend, monkeypatch):
    loaded = tiny("wan21")
    ask, asked = loaded.model.model.memory_required, []
    monkeypatch.setattr(
        loaded.model.model, "memory_required", lambda shape, **options: asked.append(shape[2]) or ask(shape, **options)
    )
    for frames in (11, 41):
        refined(loaded, video(loaded.model, frames), steps=1, blend=blend)
        assert set(asked) <= {5, 6} and 6 in asked  # with and without a frame in front
        asked.clear()


@pytest.mark.parametrize("blend", refine.BLENDS)
def test_a_longer_video_costs_the_memory_of_five_latents_and_of_no_more_chunks(tiny, blend):
    loaded = tiny("wan21")
    conds = prompts(loaded)
    refined(loaded, video(loaded.model, 11), conds=conds, steps=1, blend=blend)
    peaks = {}
    for frames in (20, 80):
        latent = video(loaded.model, frames)
        with LiveBytes(latent["samples"]) as memory:
            refined(loaded, latent, conds=conds, steps=1, blend=blend)
        peaks[frames] = memory.peak
    of_latents = latent["samples"].nbytes * (80 - 20) / 80
    assert (peaks[80] - peaks[20]) / of_latents < 6


@pytest.mark.parametrize("blend", refine.BLENDS)
def test_interrupting_stops_between_chunks(tiny, blend):
    loaded = tiny("wan21")
    recorder = Recorder(loaded.model)

    def interrupt_after_two(executor, *args):
        if len(recorder.calls) == 2:
            comfy.model_management.interrupt_current_processing()
        return executor(*args)

    recorder.model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.APPLY_MODEL, "stop", interrupt_after_two)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        refined(loaded, video(loaded.model, 20), model=recorder.model, steps=4, blend=blend)
    assert len(recorder.calls) <= 3


@pytest.mark.parametrize("sampler", comfy.samplers.KSampler.SAMPLERS)
def test_x0_takes_every_core_sampler(tiny, sampler):
    loaded = tiny("wan21")
    assert refined(loaded, video(loaded.model, 8), sampler=sampler, steps=4, strength=0.6).isfinite().all()


# What is refused


@pytest.mark.parametrize("sampler", sorted({*comfy.samplers.KSampler.SAMPLERS} - {*QUIET, *NOISY, "ddim"}))
def test_step_refuses_by_name_what_looks_back(tiny, sampler):
    loaded = tiny("wan21")
    name = {"uni_pc": "unipc", "uni_pc_bh2": "unipc_bh2"}.get(sampler, sampler)
    with pytest.raises(ValueError, match=rf"by 1 step of its own, and {name}\w* is not known .* or blend x0"):
        refined(loaded, video(loaded.model), blend=refine.STEP, sampler=sampler)


def test_step_refuses_other_samplers_and_noise_that_chunks_cannot_share(tiny):
    loaded = tiny("wan21")

    def sample_euler(*args, **kwargs):
        """Another node's, which only has the name."""

    for sampler, name in (
        (AlphaSpaceSampler(), "dpmpp_2m_sde"),
        (comfy.samplers.Sampler(), "Sampler"),
        (comfy.samplers.KSAMPLER(sample_euler), "euler"),
        (comfy.samplers.ksampler("euler", {"s_churn": 0.5}), "euler with s_churn 0.5"),
    ):
        with pytest.raises(ValueError, match=f"and {name} is not known"):
            refined(loaded, video(loaded.model), blend=refine.STEP, sampler=sampler)


def test_prompts_of_many_shots_need_their_timeline(tiny):
    loaded = tiny("wan21")
    conds = encode(loaded, timeline_for(loaded.model))
    with pytest.raises(ValueError, match="prompts of 3 shots, and no timeline says where they are; wire the timeline"):
        refined(loaded, video(loaded.model), conds=conds)


def test_prompts_of_one_shot_need_no_timeline(tiny):
    loaded = tiny("wan21")
    conds = encode(loaded, timeline_for(loaded.model, transitions=("continue",)))
    assert refined(loaded, video(loaded.model), conds=conds).isfinite().all()


def test_a_latent_that_does_not_fit_is_refused_with_both_numbers(tiny):
    loaded = tiny("wan21")
    timeline = timeline_for(loaded.model)
    with pytest.raises(ValueError, match="the latent has 11 frames and the timeline 13; wire the timeline"):
        refined(loaded, video(loaded.model), conds=encode(loaded, timeline), timeline=timeline)
    with pytest.raises(ValueError, match="the latent has 4 channels and Wan takes 16; encode the video"):
        refined(loaded, {"samples": torch.zeros(1, 4, 11, 8, 8)})
    with pytest.raises(ValueError, match="the latent has 4 axes and a video has 5"):
        refined(loaded, {"samples": torch.zeros(1, 16, 8, 8)})


def test_guide_frames_of_ltxv_are_refused(tiny):
    loaded = tiny("ltxv")
    positive, negative = prompts(loaded)
    guided = node_helpers.conditioning_set_values(positive, {"keyframe_idxs": torch.zeros(1, 3, 4, 2)})
    with pytest.raises(ValueError, match="1 of 2 conditioning entries carry LTXV guide frames"):
        refined(loaded, video(loaded.model), conds=(guided, negative))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": 5}, "overlap 5 does not fit a chunk of 5 frames; use 0..4"),
        ({"strength": 1.5}, "strength 1.5"),
        ({"blend": "x1"}, "unknown blend 'x1'; use one of x0, step"),
        ({"cut_range": "wide"}, "unknown range of cuts"),
    ],
)
def test_settings_that_cannot_be_are_refused(tiny, options, message):
    with pytest.raises(ValueError, match=message):
        refined(tiny("wan21"), video(tiny("wan21").model), **options)


def test_a_model_with_latent_blend_is_refused(tiny):
    loaded = tiny("wan21")
    model = latent_blend.attach(loaded.model, timeline_for(loaded.model), "triangle")
    with pytest.raises(ValueError, match="already carries a Longreel Latent Blend"):
        refined(loaded, video(loaded.model), model=model)


def test_a_shots_seed_fixes_its_noise_whatever_the_seed(tiny):
    loaded = tiny("wan21")
    board = Storyboard((Shot("a", 1.0), Shot("b", 1.0, "cut", seed=11)), width=64, height=64, fps=16.0)
    timeline = plan_timeline(board, facts_of(loaded.model), segment_frames=4, overlap_frames=0)
    with torch.inference_mode():
        conds = conditioning.encode_timeline(loaded.clip, timeline)
    latent = video(loaded.model, timeline.latent_frames)
    one, other = (
        refined(loaded, latent, conds=conds, chunk=4, overlap=0, seed=seed, timeline=timeline) for seed in (1, 2)
    )
    cut = timeline.shots[1].start_frame
    assert torch.equal(one[:, :, cut:], other[:, :, cut:]) and not torch.equal(one[:, :, :cut], other[:, :, :cut])
