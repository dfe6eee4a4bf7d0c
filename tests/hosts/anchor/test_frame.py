"""hosts/anchor/frame.py and hosts/anchor/run.py on every family: the anchor is held in every step, by every sampler, in
every way of sampling, and comes out as it went in."""

import pytest
import torch

import comfy.context_windows as windows
import comfy.model_base
import comfy.sample
import comfy.samplers
from comfy_extras.nodes_void import VOID_DDIM

from longreel.engine.plan.anchor import CLEAN, INPAINT, of_length, place_anchor
from longreel.engine.plan.rollout_chunks import plan_chunks
from longreel.engine.runs.folder import open_run
from longreel.hosts import facts_of
from longreel.hosts.anchor import frame as anchor_frame
from longreel.hosts.anchor.frame import Anchored
from longreel.hosts.attention import patching
from longreel.hosts.features import prompt_edit
from longreel.hosts.features.prompt_edit import Layout, PromptEdit
from longreel.hosts.memory import short_memory
from longreel.hosts.memory.long_memory import TRUE, VIDEO, LongMemory
from longreel.hosts.memory.short_memory import AT_ZERO, KnownFrames
from longreel.hosts.sampling import refine
from longreel.hosts.sampling.joint import sample_timeline
from longreel.hosts.sampling.whole import sample_ttt
from longreel.hosts.windows import latent_blend
from tests import tiny_sampling
from tests.hosts.anchor_cases import MODES, anchored, empty, picture, with_anchor
from tests.hosts.memory.test_short_memory import Shown
from tests.hosts.rollout_cases import roll, rolled, sampler_for, sigmas_of, story
from tests.hosts.sampling_cases import sampling_of
from tests.hosts.windows.test_latent_blend import empty as empty_of
from tests.hosts.windows.test_latent_blend import encode, timeline_for

SHOWN_CLEAN = ("wan22_5b", "ltxv", "hunyuan_video", "hunyuan_video15")  # by core's own masks


def sample(loaded, model, latent=None, seed=0, steps=2, cfg=3.0, sampler=None, sigmas=None, noise=None, mask=None):
    """[B, C, F, H, W] by a core guider with the family's sampler."""
    positive, negative = (tiny_sampling.encode(loaded.clip, text) for text in ("a red circle", "blurry"))
    latent = empty(loaded) if latent is None else latent
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(seed)) if noise is None else noise
    sigmas = sigmas_of(model, steps) if sigmas is None else sigmas
    with torch.inference_mode():
        return guider.sample(
            noise, latent, sampler or sampler_for(model), sigmas, denoise_mask=mask, disable_pbar=True, seed=seed
        )


@pytest.fixture
def native_wan(tiny_models):
    """The weights of Wan 2.1 in the class of Wan 2.2 5B, whose masks core shows clean and at time 0; its own copy."""
    loaded = tiny_models["wan21"].load()
    loaded.model.model.__class__ = comfy.model_base.WAN22
    return loaded


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("frame", [0, 3, 5])
def test_the_result_holds_the_anchor_exactly_and_the_rest_follows_it(tiny, every_tiny, mode, frame):
    loaded = tiny(every_tiny.name)
    one = anchored(loaded, frame, mode)
    out, plain = sample(loaded, anchor_frame.attach(loaded.model, [one])), sample(loaded, loaded.model)
    where = slice(one.anchor.frame, one.anchor.end)
    assert torch.equal(out[:, :, where], one.latent)
    rest = [f for f in range(out.shape[2]) if not where.start <= f < where.stop]
    assert out.isfinite().all() and (out - plain)[:, :, rest].abs().amax(dim=(0, 1, 3, 4)).min() > 0


def test_strength_0_leaves_the_output_unchanged_to_the_bit(tiny, every_tiny):
    loaded = tiny(every_tiny.name)
    assert torch.equal(sample(loaded, with_anchor(loaded, strength=0.0)), sample(loaded, loaded.model))


def test_clean_and_inpaint_differ_where_the_family_does_not_know_times(tiny, every_tiny):
    loaded = tiny(every_tiny.name)
    clean, inpaint = (sample(loaded, with_anchor(loaded, mode=mode)) for mode in MODES)
    assert torch.equal(clean, inpaint) == facts_of(loaded.model).knows_frame_times


@pytest.mark.parametrize(
    "sampler", ["euler", "euler_ancestral", "heun", "dpmpp_2m", "uni_pc", "res_multistep", "dpmpp_sde", "ddim"]
)
@pytest.mark.parametrize(("frame", "strength"), [(0, 1.0), (3, 1.0), (0, 0.75)])
def test_clean_wan_21_is_cores_own_wan_22_path_to_the_bit(tiny, native_wan, sampler, frame, strength):
    """The same weights in both classes; natively by a latent and a noise mask."""
    loaded, one = tiny("wan21"), picture(tiny("wan21"))
    latent = loaded.model.model.process_latent_out(empty(loaded))
    latent[:, :, frame] = one[:, :, 0]
    mask = torch.ones(1, 1, 6, 8, 8)
    mask[:, :, frame] = 1 - strength
    chosen = comfy.samplers.sampler_object(sampler)
    native = sample(native_wan, native_wan.model, latent, sampler=chosen, mask=mask, steps=4)
    ours = sample(loaded, with_anchor(loaded, frame, CLEAN, strength), sampler=chosen, steps=4)
    if strength == 1:
        assert torch.equal(ours[:, :, frame], one[:, :, 0])
    rest = [f for f in range(6) if f != frame or strength < 1]
    assert torch.equal(ours[:, :, rest], native[:, :, rest])


def test_wan_22_5b_is_core_with_a_mask_to_the_bit(tiny):
    loaded = tiny("wan22_5b")
    one = anchored(loaded)
    latent = loaded.model.model.process_latent_out(empty(loaded))
    latent[:, :, :1] = one.latent
    mask = torch.ones_like(latent)
    mask[:, :, 0] = 0
    ours, native = (
        sample(loaded, anchor_frame.attach(loaded.model, [one])),
        sample(loaded, loaded.model, latent, mask=mask),
    )
    assert torch.equal(ours[:, :, 1:], native[:, :, 1:])
    assert torch.allclose(ours[:, :, 0], native[:, :, 0], atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_two_experts_hand_the_anchor_over(tiny, mode):
    """With the same weights twice two samplers make what one makes; core hands over leftover noise, and the anchor with
    it."""
    loaded = tiny("wan22_14b_high")
    model, sigmas = with_anchor(loaded, mode=mode), sigmas_of(loaded.model, 8)
    drawn, none = comfy.sample.prepare_noise(empty(loaded), 0), torch.zeros_like(empty(loaded))
    whole = sample(loaded, model, sigmas=sigmas, noise=drawn)
    half = sample(loaded, model, sigmas=sigmas[:4], noise=drawn)
    both = sample(loaded, model, half, sigmas=sigmas[3:], noise=none)
    assert torch.equal(half[:, :, :1], picture(loaded)) and torch.equal(both[:, :, :1], picture(loaded))
    assert (both - whole).abs().max() < 1e-4
    low = with_anchor(tiny("wan22_14b_low"), mode=mode)
    other = sample(loaded, low, half, sigmas=sigmas[3:], noise=none)
    assert torch.equal(other[:, :, :1], picture(loaded)) and not torch.allclose(other, both, atol=1e-2)


def test_a_weak_anchor_is_refused_by_a_sampler_that_adds_no_noise(tiny):
    loaded = tiny("wan21")
    model = with_anchor(loaded, strength=0.5)
    with pytest.raises(ValueError, match="anchor of strength 0.5 is held .* this sampler adds none; use strength 1"):
        sample(loaded, model, sample(loaded, model), noise=torch.zeros_like(empty(loaded)))


@pytest.mark.parametrize("mode", MODES)
def test_strength_lies_between_nothing_and_the_anchor(tiny, every_tiny, mode):
    loaded = tiny(every_tiny.name)
    outs = [sample(loaded, with_anchor(loaded, mode=mode, strength=s)) for s in (0.0, 0.5, 1.0)]
    asked = anchored(loaded, mode=mode).latent
    away = [(out[:, :, : asked.shape[2]] - asked).abs().mean() for out in outs]
    assert away[0] > away[1] > away[2] == 0


@pytest.mark.parametrize("name", ["wan21", "cogvideox10", "hunyuan_video"])
def test_the_network_sees_a_clean_anchor_and_inpaint_a_noised_one(tiny, name):
    loaded = tiny(name)
    known = loaded.model.model.process_latent_in(picture(loaded))
    for mode in MODES:
        shown = Shown(loaded.model)
        sample(loaded, with_anchor(loaded, mode=mode, model=shown.model), steps=1)
        x = shown.calls[0][0][:, :, :1]
        assert torch.allclose(x, known.expand_as(x), atol=1e-5) == (mode == CLEAN or name in SHOWN_CLEAN)


def test_several_anchors_stand_in_one_video(tiny, every_tiny):
    loaded = tiny(every_tiny.name)
    model = with_anchor(loaded, 4, INPAINT, seed=5, model=with_anchor(loaded, 0, CLEAN))
    out = sample(loaded, model)
    first = anchored(loaded)
    assert torch.equal(out[:, :, : first.anchor.end], first.latent)
    assert torch.equal(out[:, :, 4:5], picture(loaded, seed=5))


def test_a_clip_anchors_as_many_frames_as_it_has(tiny):
    loaded = tiny("wan21")
    place, clip = of_length(place_anchor(0.0, 16.0, facts_of(loaded.model), CLEAN, 1.0), 3), picture(loaded, 3)
    assert torch.equal(sample(loaded, anchor_frame.attach(loaded.model, [Anchored(place, clip)]))[:, :, :3], clip)


def test_a_users_mask_holds_the_other_frames_still(tiny):
    loaded = tiny("wan21")
    latent, mask = picture(loaded, 6, seed=8), torch.ones(1, 1, 6, 8, 8)
    mask[:, :, 3:] = 0
    out = sample(loaded, with_anchor(loaded, 4), latent, mask=mask)
    assert torch.allclose(out[:, :, [3, 5]], latent[:, :, [3, 5]], atol=1e-5)
    assert torch.equal(out[:, :, 4:5], picture(loaded))


def test_a_batch_has_one_anchor_for_all_or_one_for_each(tiny):
    loaded = tiny("wan21")
    two = empty(loaded).repeat(2, 1, 1, 1, 1)
    out = sample(loaded, with_anchor(loaded), two)
    assert torch.equal(out[:1, :, :1], out[1:, :, :1]) and not torch.equal(out[:1, :, 1:], out[1:, :, 1:])
    each = Anchored(anchored(loaded).anchor, torch.cat([picture(loaded), picture(loaded, seed=4)]))
    model = anchor_frame.attach(loaded.model, [each])
    assert torch.equal(sample(loaded, model, two)[:, :, :1], each.latent)
    with pytest.raises(ValueError, match="has 2 pictures and the batch 1 videos; use 1 picture, or one for each"):
        sample(loaded, model)


@pytest.mark.parametrize("mode", MODES)
def test_joint_segments_take_the_anchor_along(tiny, every_tiny, mode):
    loaded = tiny(every_tiny.name)
    timeline = timeline_for(loaded.model)
    model = with_anchor(loaded, 6, mode, model=with_anchor(loaded, 0, mode))
    positive, negative = encode(loaded, timeline)

    def joint(model):
        sampler, sigmas = sampler_for(loaded.model), sigmas_of(loaded.model)
        with torch.inference_mode():
            return sample_timeline(
                model,
                timeline,
                {"samples": empty_of(timeline)},
                sampling_of((positive, negative), sigmas, sampler),
                blend="triangle",
            )["samples"]

    out, one = joint(model), anchored(loaded, 6, mode)
    assert torch.equal(out[:, :, one.anchor.frame : one.anchor.end], one.latent)
    assert torch.equal(out[:, :, :1], picture(loaded, anchored(loaded, 0, mode).anchor.frames)[:, :, :1])
    assert not torch.equal(out, joint(loaded.model))


def test_each_segment_sees_time_0_where_its_anchor_stands(tiny):
    loaded = tiny("wan21")
    timeline = timeline_for(loaded.model)
    shown = Shown(with_anchor(loaded, 6))
    model = latent_blend.attach(shown.model, timeline, "triangle")
    tiny_sampling.sample(model, *encode(loaded, timeline), empty_of(timeline), steps=1)
    known = loaded.model.model.process_latent_in(picture(loaded))
    holders = 0
    for segment, (x, _) in zip(timeline.segments, shown.calls, strict=False):
        lead = x.shape[2] - segment.latent_frames
        first = segment.start_frame - (lead if segment.start_frame > timeline.take_start(segment) else 0)
        frames = list(range(first, segment.start_frame)) + list(range(segment.start_frame, segment.end_frame))
        frames = frames if len(frames) == x.shape[2] else [segment.start_frame, *frames]
        for place, frame in enumerate(frames):
            assert torch.equal(x[:1, :, place], known[:, :, 0]) == (frame == 6)
        holders += 6 in frames
    assert holders >= 2


@pytest.mark.parametrize("mode", MODES)
def test_a_rollout_holds_anchors_in_the_chunks_that_they_fall_into(tiny, every_tiny, mode):
    loaded = tiny(every_tiny.name)
    timeline = story(loaded.model)
    one = anchored(loaded, 10, mode)
    out, plain = roll(loaded, timeline, anchor_frame.attach(loaded.model, [one])), roll(loaded, timeline)
    assert torch.equal(out[:, :, one.anchor.frame : one.anchor.end], one.latent)
    before = [chunk for chunk in plan_chunks(timeline, timeline.overlap_frames) if chunk.end_frame <= one.anchor.frame]
    border = before[-1].end_frame
    assert border > 4 and torch.equal(out[:, :, :border], plain[:, :, :border])
    assert not torch.equal(out[:, :, one.anchor.end :], plain[:, :, one.anchor.end :])


def test_a_known_frame_that_was_an_anchor_is_told_as_one(tiny):
    """Chunks of 5 frames that share 1: the anchor on frame 4 ends the first chunk and is known in the second."""
    loaded = tiny("wan21")
    timeline = story(loaded.model)
    shown = Shown(loaded.model)
    roll(loaded, timeline, with_anchor(loaded, 4, model=shown.model), steps=1)
    second = shown.calls[1][0]
    assert torch.allclose(second[:1, :, :1], loaded.model.model.process_latent_in(picture(loaded)), atol=1e-5)


def test_an_anchor_and_short_memory_tell_times_together(tiny):
    loaded = tiny("wan21")
    timeline = story(loaded.model)

    def times(model):
        """What the network itself is told, inside all wrappers."""
        seen = []
        network = loaded.model.model.diffusion_model
        original = network.forward_orig
        network.forward_orig = lambda x, t, *args, **kwargs: seen.append(t.clone()) or original(x, t, *args, **kwargs)
        try:
            roll(loaded, timeline, model, steps=1)
        finally:
            del network.forward_orig
        return seen

    memory = short_memory.attach(loaded.model, KnownFrames(AT_ZERO, 0, 1.0, 0.0))
    orders = (
        with_anchor(loaded, 6, model=memory),
        short_memory.attach(with_anchor(loaded, 6), KnownFrames(AT_ZERO, 0, 1.0, 0.0)),
    )
    for model in orders:
        second = times(model)[1]  # frames 4 (known) to 8
        assert second.shape[1] == 5 and (second[:, [0, 2]] == 0).all() and (second[:, [1, 3, 4]] > 0).all()


@pytest.mark.parametrize("change", [{"seed": 4}, {"mode": INPAINT}, {"strength": 0.5}, {"frame": 11}])
def test_a_run_makes_again_what_a_changed_anchor_stands_in_and_what_follows(tiny, tmp_path, change):
    loaded = tiny("wan21")
    timeline = story(loaded.model)
    chunks = plan_chunks(timeline, timeline.overlap_frames)

    def run(**options):
        with open_run(tmp_path) as folder:
            out, said = rolled(loaded, timeline, with_anchor(loaded, **{"frame": 10, **options}), run=folder)
            folder.finish()
        return out, said.splitlines()

    run()
    again, said = run()
    assert all(line.endswith("reused") for line in said)
    changed, said = run(**change)
    for chunk, line in zip(chunks, said, strict=False):
        if chunk.end_frame <= 10:
            assert line.endswith("reused")
        elif chunk.first_new_frame <= 10:
            assert "made again: the anchors changed" in line
    assert said[-1].count("made again") and not torch.equal(changed, again)
    assert torch.equal(run()[0], again)


def test_a_memory_that_corrects_colours_leaves_the_anchor_as_it_is(tiny):
    loaded = tiny("wan21")
    memory = patching.attach(loaded.model, LongMemory(VIDEO, 1, TRUE, 0.0, frozenset(), 1.0))
    timeline = story(loaded.model)
    out = roll(loaded, timeline, with_anchor(loaded, 10, model=memory))
    assert torch.equal(out[:, :, 10:11], picture(loaded)) and not torch.equal(out, roll(loaded, timeline, memory))


def test_a_rollout_is_refused_where_one_of_two_experts_has_no_anchor(tiny):
    high, low = tiny("wan22_14b_high"), tiny("wan22_14b_low")
    timeline = story(high.model)
    model = with_anchor(high)
    with pytest.raises(
        ValueError, match="first expert carries 1 anchors and the second carries 0; .* lost where either"
    ):
        roll(high, timeline, model, low_noise_model=low.model)
    out = roll(high, timeline, model, low_noise_model=with_anchor(low), steps=4)
    assert torch.equal(out[:, :, :1], picture(high))


@pytest.mark.parametrize("mode", MODES)
def test_two_experts_of_a_rollout_make_what_one_model_makes(tiny, mode):
    loaded = tiny("wan22_14b_high")
    timeline = story(loaded.model)
    model = with_anchor(loaded, 3, mode)
    one, two = roll(loaded, timeline, model, steps=4), roll(loaded, timeline, model, steps=4, low_noise_model=model)
    assert (one - two).abs().max() < 1e-3


def test_ttt_sees_the_anchor_in_its_one_forward(tiny, every_tiny):
    loaded = tiny(every_tiny.name)
    timeline = timeline_for(loaded.model, transitions=("continue", "continue"), segment=6, overlap=2)

    def whole(model):
        with torch.inference_mode():
            return sample_ttt(
                model,
                timeline,
                {"samples": empty_of(timeline)},
                sampling_of(encode(loaded, timeline), sigmas_of(loaded.model), sampler_for(loaded.model)),
            )["samples"]

    one = anchored(loaded, 0, INPAINT)
    out, plain = whole(anchor_frame.attach(loaded.model, [one])), whole(loaded.model)
    assert torch.equal(out[:, :, :1], one.latent) and not torch.equal(out[:, :, 1:], plain[:, :, 1:])
    if every_tiny.family in ("cogvideox", "hunyuan_video"):
        with pytest.raises(ValueError, match="segment by segment with one time for all frames, .* use mode inpaint"):
            whole(with_anchor(loaded))
    elif every_tiny.name == "wan21":
        assert not torch.equal(whole(with_anchor(loaded)), out)


def test_clean_anchors_work_with_core_s_context_windows(tiny):
    loaded = tiny("wan21")
    shown = Shown(with_anchor(loaded, 4))
    shown.model.model_options["context_handler"] = windows.IndexListContextHandler(
        windows.get_matching_context_schedule("standard_static"),
        windows.get_matching_fuse_method("pyramid"),
        context_length=4,
        context_overlap=1,
        dim=2,
    )
    out = sample(loaded, shown.model, empty(loaded, 9), steps=1)
    assert torch.equal(out[:, :, 4:5], picture(loaded))
    known = loaded.model.model.process_latent_in(picture(loaded))[:, :, 0]
    assert sum(torch.equal(x[:1, :, f], known) for x, _ in shown.calls for f in range(x.shape[2])) >= 2


@pytest.mark.parametrize("name", ["wan21", "wan22_5b", "cogvideox10", "hunyuan_video"])
@pytest.mark.parametrize("mode", MODES)
def test_a_refinement_keeps_the_anchor(tiny, name, mode):
    loaded = tiny(name)
    conds = [tiny_sampling.encode(loaded.clip, text) for text in ("a red circle", "")]

    def refined(model, blend):
        with torch.inference_mode():
            return refine.refine(
                model,
                {"samples": picture(loaded, 9, seed=9)},
                sampling_of(conds, sigmas_of(model, 4), sampler_for(model), seed=1),
                strength=0.75,
                chunk_latent_frames=5,
                overlap_latent_frames=2,
                blend=blend,
            )["samples"]

    model = with_anchor(loaded, 3, mode)
    out = refined(model, refine.X0)
    assert torch.equal(out[:, :, 3:4], picture(loaded)) and not torch.equal(out, refined(loaded.model, refine.X0))
    if mode == CLEAN and not facts_of(loaded.model).knows_frame_times:
        with pytest.raises(ValueError, match="latent of 9 frames, and this sampler shows 5 at a time; use mode"):
            refined(model, refine.STEP)
    else:
        assert torch.equal(refined(model, refine.STEP)[:, :, 3:4], picture(loaded))


@pytest.mark.parametrize("mode", MODES)
def test_an_edited_video_and_its_original_show_the_anchor_in_either_order(tiny, mode):
    loaded = tiny("wan21")
    layout = Layout(tiny_sampling.encode(loaded.clip, "another"), 0.0, 1.0)
    edit = PromptEdit(frozenset(range(4)), None, layout)
    one = sample(loaded, prompt_edit.attach(with_anchor(loaded, mode=mode), edit))
    other = sample(loaded, with_anchor(loaded, mode=mode, model=prompt_edit.attach(loaded.model, edit)))
    assert torch.equal(one, other) and torch.equal(one[:, :, :1], picture(loaded))
    assert not torch.equal(one, sample(loaded, with_anchor(loaded, mode=mode)))


@pytest.mark.slow
def test_every_core_sampler_hands_the_anchor_back(tiny):
    loaded = tiny("wan21")
    for mode in MODES:
        model = with_anchor(loaded, mode=mode)
        for name in comfy.samplers.KSampler.SAMPLERS:
            out = sample(loaded, model, sampler=comfy.samplers.sampler_object(name))
            assert torch.equal(out[:, :, :1], picture(loaded)) and out.isfinite().all(), name


def test_a_sampler_that_knows_no_masks_holds_a_clean_anchor_all_the_same(tiny):
    loaded = tiny("cogvideox10")
    shown = Shown(loaded.model)
    out = sample(loaded, with_anchor(loaded, model=shown.model), sampler=VOID_DDIM())
    known = loaded.model.model.process_latent_in(picture(loaded))
    assert torch.equal(out[:, :, :1], picture(loaded)) and out.isfinite().all()
    assert all(torch.allclose(x[:1, :, :1], known, atol=1e-5) for x, _ in shown.calls)


def test_nothing_is_left_behind_by_a_run_even_one_that_fails(tiny, every_tiny):
    loaded = tiny(every_tiny.name)
    before = sample(loaded, loaded.model)
    model = with_anchor(loaded)

    def fail(executor, *args, **kwargs):
        raise RuntimeError("on purpose")

    broken = model.clone()
    broken.add_wrapper_with_key("diffusion_model", "fail", fail)
    with pytest.raises(RuntimeError, match="on purpose"):
        sample(loaded, broken)
    sample(loaded, model)
    assert torch.equal(sample(loaded, loaded.model), before)


def test_what_cannot_be_is_refused_with_both_numbers(tiny):
    loaded = tiny("wan21")
    with pytest.raises(ValueError, match="at 0 s and 0 s .* stand on the same latent frame, 0"):
        with_anchor(loaded, model=with_anchor(loaded))
    with pytest.raises(ValueError, match="reaches latent frame 9, beyond a video of 6 latent frames; use up to"):
        sample(loaded, with_anchor(loaded, 9))
    small = Anchored(anchored(loaded).anchor, picture(loaded)[..., :4])
    with pytest.raises(ValueError, match="anchor at 0 s is 32 x 64 pixels and the video 64 x 64; wire the timeline"):
        sample(loaded, anchor_frame.attach(loaded.model, [small]))
    with pytest.raises(ValueError, match="a latent of 5 axes and 48 channels, and Wan takes 5 and 16; encode it with"):
        anchor_frame.attach(loaded.model, [Anchored(anchored(loaded).anchor, torch.zeros(1, 48, 1, 8, 8))])
    with pytest.raises(ValueError, match="has 2 latent frames and its place 1; use a latent of 1"):
        anchor_frame.attach(loaded.model, [Anchored(anchored(loaded).anchor, picture(loaded, 2))])
    with pytest.raises(ValueError, match="reaches latent frame 20, beyond a video of 17 latent frames"):
        roll(loaded, story(loaded.model), with_anchor(loaded, 20))
