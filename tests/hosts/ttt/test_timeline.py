"""hosts/ttt/timeline.py on every family: segments attend to themselves and their prompt, and meet in TTT alone."""

import math

import pytest
import torch
from torch.utils._pytree import tree_leaves

import comfy.model_management
import comfy.sampler_helpers
import comfy.samplers
import node_helpers
from comfy.patcher_extension import WrappersMP

from longreel.engine.ttt.block import TTTBlock
from longreel.engine.ttt.order import Layout
from longreel.hosts import block_count, family_of
from longreel.hosts.attention import patching
from longreel.hosts.sampling import planning
from longreel.hosts.sampling.whole import sample_ttt
from longreel.hosts.ttt import apply as ttt
from longreel.hosts.ttt import forward as ttt_forward
from longreel.hosts.windows import latent_blend
from tests import tiny_sampling
from tests.hosts.attention_watcher import Watcher
from tests.hosts.sampling_cases import sampling_of
from tests.hosts.ttt_cases import denoise, encode, layers, noise_for, plan
from tests.live_bytes import LiveBytes


@pytest.fixture(params=["wan21", "cogvideox10", "cogvideox15", "hunyuan_video", "ltxv"])
def family(request) -> str:
    """One tiny model of each network."""
    return request.param


def frames_of(timeline, shot: int) -> slice:
    return slice(timeline.shots[shot].start_frame, timeline.shots[shot].end_frame)


def of_shot(conds: tuple[list, list], shot: int) -> tuple[list, list]:
    positive, negative = conds
    return positive[shot : shot + 1], negative[shot : shot + 1]


def test_one_segment_is_plain_sampling_to_the_bit(tiny, every_tiny):
    loaded = tiny(every_tiny.name)
    timeline = plan(loaded, shots=1)
    conds, noise = encode(loaded, timeline), noise_for(timeline, batch=2)
    plain = denoise(loaded.model, conds, noise, steps=2)
    for model in (loaded.model, ttt.apply(loaded.model, None)):
        assert torch.equal(denoise(ttt.attach_timeline(model, timeline), conds, noise, steps=2), plain)


def test_segments_that_share_no_frame_are_those_of_separate_runs(tiny, every_tiny):
    """Their own prompt in every place where text goes, and positions that begin anew."""
    loaded = tiny(every_tiny.name)
    timeline = plan(loaded, shots=3, first=6, prompts=["a fox", "two words more of a longer prompt", "c"])
    conds, noise = encode(loaded, timeline), noise_for(timeline, batch=2)
    whole = denoise(ttt.attach_timeline(loaded.model, timeline), conds, noise)
    for shot in range(3):
        frames = frames_of(timeline, shot)
        alone = denoise(loaded.model, of_shot(conds, shot), noise[:, :, frames])
        torch.testing.assert_close(whole[:, :, frames], alone, atol=2e-4, rtol=1e-4)


def test_texts_of_different_length_go_to_their_segments(tiny, family):
    loaded = tiny(family)
    timeline = plan(loaded, shots=2, prompts=["a", " ".join(f"word{number}" for number in range(40))])
    conds, noise = encode(loaded, timeline), noise_for(timeline)
    lengths = [entry[0].shape[1] for entry in conds[0]]
    assert lengths[0] != lengths[1]
    whole = denoise(ttt.attach_timeline(loaded.model, timeline), conds, noise, cfg=1.0)
    for shot in range(2):
        frames = frames_of(timeline, shot)
        alone = denoise(loaded.model, of_shot(conds, shot), noise[:, :, frames], cfg=1.0)
        torch.testing.assert_close(whole[:, :, frames], alone, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("overlap", [0, 2])
def test_new_layers_leave_a_timeline_unchanged_to_the_bit(tiny, every_tiny, overlap):
    loaded = tiny(every_tiny.name)
    timeline = plan(loaded, shots=3, transition="blend", overlap=overlap)
    conds, noise = encode(loaded, timeline), noise_for(timeline)
    expected = denoise(ttt.attach_timeline(loaded.model, timeline), conds, noise, steps=2)
    neutral = ttt.attach_timeline(ttt.apply(loaded.model, None), timeline)
    assert torch.equal(denoise(neutral, conds, noise, steps=2), expected)


def test_segments_meet_in_ttt_alone(tiny, every_tiny):
    loaded = tiny(every_tiny.name)
    timeline = plan(loaded, shots=4)
    conds, noise = encode(loaded, timeline), noise_for(timeline)
    changed = noise.clone()
    changed[:, :, frames_of(timeline, 2)] += 1.0
    others = [0, 1, 3]
    local = ttt.attach_timeline(loaded.model, timeline)
    joined = ttt.attach_timeline(ttt.apply(loaded.model, layers(loaded.model)), timeline)
    before, after = denoise(local, conds, noise), denoise(local, conds, changed)
    assert not torch.allclose(before[:, :, frames_of(timeline, 2)], after[:, :, frames_of(timeline, 2)])
    assert all((before == after)[:, :, frames_of(timeline, shot)].all() for shot in others)
    before, after = denoise(joined, conds, noise), denoise(joined, conds, changed)
    assert all((before - after)[:, :, frames_of(timeline, shot)].abs().max() > 1e-4 for shot in others)


@pytest.fixture
def one_block():
    """Leaves a tiny network its first block alone, so that what a segment looks at is no more than what it says."""
    whole = []

    def cut_down(loaded):
        network = loaded.model.model.diffusion_model
        names = [n for n in ("blocks", "transformer_blocks", "double_blocks", "single_blocks") if hasattr(network, n)]
        for number, name in enumerate(names):
            whole.append((network, name, getattr(network, name)))
            setattr(network, name, getattr(network, name)[: 1 - number])
        assert block_count(loaded.model) == 1
        return loaded

    yield cut_down
    for network, name, blocks in whole:
        setattr(network, name, blocks)


def test_a_lead_is_shown_in_front_of_a_segment_at_positions_that_begin_with_it(tiny, family, one_block):
    loaded = one_block(tiny(family))
    timeline = plan(loaded, shots=2, frames=4, transition="continue", overlap=0)
    assert [(segment.start_frame, segment.end_frame) for segment in timeline.segments] == [(0, 4), (4, 8)]
    conds, noise = encode(loaded, timeline), noise_for(timeline)
    plain = denoise(ttt.attach_timeline(loaded.model, timeline), conds, noise)
    led = denoise(ttt.attach_timeline(loaded.model, timeline, lead_frames=2), conds, noise)
    shown = denoise(loaded.model, of_shot(conds, 1), noise[:, :, 2:])
    torch.testing.assert_close(led[:, :, 4:], shown[:, :, 2:], atol=2e-4, rtol=1e-4)
    assert not torch.allclose(led[:, :, 4:], plain[:, :, 4:], atol=1e-3)
    assert torch.equal(led[:, :, :4], plain[:, :, :4])


def test_behind_a_cut_a_segments_own_first_frame_leads_it(tiny, family, one_block):
    """And nothing of the shot before the cut is looked at."""
    loaded = one_block(tiny(family))
    timeline = plan(loaded, shots=2, frames=4, transition="cut")
    conds, noise = encode(loaded, timeline), noise_for(timeline)
    led = denoise(ttt.attach_timeline(loaded.model, timeline, lead_frames=2), conds, noise)
    first = 2 if family == "cogvideox15" else 1  # latent frames of its first token frame
    twice = torch.cat([noise[:, :, 4 : 4 + first], noise[:, :, 4:]], dim=2)
    shown = denoise(loaded.model, of_shot(conds, 1), twice)
    torch.testing.assert_close(led[:, :, 4:], shown[:, :, first:], atol=2e-4, rtol=1e-4)


def test_token_frames_that_lead():
    leads = ttt_forward.token_leads
    assert leads(1, (0, 0, 0), ((0, 5), (4, 9), (8, 13)), 1) == ((), (3,), (7,))
    assert leads(3, (0, 4, 4), ((0, 4), (4, 8), (6, 10)), 1) == ((), (4,), (4, 5))
    assert leads(1, (0, 0), ((0, 7), (6, 13)), 2) == leads(2, (0, 0), ((0, 7), (6, 13)), 2) == ((), (5,))
    assert leads(3, (0, 0), ((0, 7), (6, 13)), 2) == ((), (4, 5))
    assert leads(0, (0, 4), ((0, 4), (4, 8)), 1) == ((), ())


def test_memory_is_asked_for_a_lead_too(tiny):
    loaded = tiny("wan21")
    timeline = plan(loaded)
    for lead_frames in (0, 1, 2):
        model = ttt.attach_timeline(loaded.model, timeline, lead_frames)
        assert model.model_options["context_handler"].window_frames == 4 + lead_frames
        assert model.model_options["context_handler"].for_new_run().window_frames == 4 + lead_frames


def test_a_shared_frame_carries_one_segment_into_the_next(tiny, family):
    """Two segments share two frames: what is there hears both, and what is beyond only through more than one block."""
    loaded = tiny(family)
    timeline = plan(loaded, shots=1, frames=10, segment=4, overlap=2)
    assert [(segment.start_frame, segment.end_frame) for segment in timeline.segments] == [
        (0, 4),
        (2, 6),
        (4, 8),
        (6, 10),
    ]
    conds, noise = encode(loaded, timeline), noise_for(timeline)
    changed = noise.clone()
    changed[:, :, 8:] += 1.0
    model = ttt.attach_timeline(loaded.model, timeline)
    difference = (denoise(model, conds, noise) - denoise(model, conds, changed)).abs().amax(dim=(0, 1, 3, 4))
    assert difference[6:8].min() > 1e-4  # in the same segment
    assert difference[4:6].min() > 0  # by way of frames 6 and 7


def test_each_segment_hears_its_own_prompt(tiny, family):
    loaded = tiny(family)
    texts = ["a red circle", "a green square", "a blue star"]
    timelines = [plan(loaded, prompts=texts), plan(loaded, prompts=[texts[0], "something else", texts[2]])]
    outs = [
        denoise(ttt.attach_timeline(loaded.model, timeline), encode(loaded, timeline), noise_for(timeline))
        for timeline in timelines
    ]
    same = [
        torch.equal(outs[0][:, :, frames_of(timelines[0], shot)], outs[1][:, :, frames_of(timelines[0], shot)])
        for shot in range(3)
    ]
    assert same == [True, False, True]


def test_a_prompt_without_a_shot_is_heard_by_all_segments(tiny):
    loaded = tiny("wan21")
    timeline = plan(loaded, prompts=["a fox"] * 3)
    noise = noise_for(timeline)
    plain = tiny_sampling.encode(loaded.clip, "a fox"), tiny_sampling.encode(loaded.clip, "blurry")
    model = ttt.attach_timeline(loaded.model, timeline)
    assert torch.equal(denoise(model, plain, noise), denoise(model, encode(loaded, timeline), noise))


def test_prompts_of_cond_and_uncond_with_other_lengths_are_told_apart(tiny, family):
    """Together as many tokens, but divided otherwise: never in one batch."""
    loaded = tiny(family)
    long = " ".join(f"word{number}" for number in range(40))
    timeline = plan(loaded, shots=2, prompts=["a", long])
    positive, _ = encode(loaded, timeline)
    swapped = [
        node_helpers.conditioning_set_values([entry], {"longreel_shot": shot})[0]
        for shot, entry in enumerate(reversed(positive))
    ]
    conds, noise = (positive, swapped), noise_for(timeline)
    whole = denoise(ttt.attach_timeline(loaded.model, timeline), conds, noise)
    for shot in range(2):
        frames = frames_of(timeline, shot)
        alone = denoise(loaded.model, of_shot(conds, shot), noise[:, :, frames])
        torch.testing.assert_close(whole[:, :, frames], alone, atol=2e-4, rtol=1e-4)


def test_a_shots_strength_scales_its_guidance_alone(tiny):
    loaded = tiny("wan21")
    plain, weak = (plan(loaded, **shot) for shot in ({}, {"strength": 0.0}))
    conds, noise = encode(loaded, plain), noise_for(plain)
    first, second = (denoise(ttt.attach_timeline(loaded.model, timeline), conds, noise) for timeline in (plain, weak))
    unguided = denoise(ttt.attach_timeline(loaded.model, plain), (conds[1], conds[1]), noise)
    for shot, expected in ((0, first), (1, unguided), (2, first)):
        frames = frames_of(plain, shot)
        torch.testing.assert_close(second[:, :, frames], expected[:, :, frames], atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="shot 2: strength 0 .* 1 of the 2 prompts"):
        denoise(ttt.attach_timeline(loaded.model, weak), conds, noise, cfg=1.0)


def test_masks_of_frames_go_with_their_segment(tiny):
    """Wan 2.2 5B and LTXV see masked frames at timestep 0."""
    for name in ("wan22_5b", "ltxv"):
        loaded = tiny(name)
        timeline = plan(loaded, shots=2)
        conds, noise = encode(loaded, timeline), noise_for(timeline)
        mask = torch.ones(1, 1, *noise.shape[2:])
        mask[:, :, 4] = 0
        whole = denoise(ttt.attach_timeline(loaded.model, timeline), conds, noise, mask=mask)
        frames = frames_of(timeline, 1)
        alone = denoise(loaded.model, of_shot(conds, 1), noise[:, :, frames], mask=mask[:, :, frames])
        torch.testing.assert_close(whole[:, :, frames], alone, atol=2e-4, rtol=1e-4)


def test_memory_of_a_block_is_one_tensor_of_the_video_and_one_segment(tiny, family, monkeypatch):
    loaded = tiny(family)
    kind, beyond = ttt_forward.segments_of(loaded.model), []
    evaluate, weights = kind.evaluate, [*loaded.model.model.diffusion_model.parameters()]

    def measured(self, block, original, layer, *args, **kwargs):
        given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
        with LiveBytes(*given, *weights, *layer.parameters()) as memory:
            out = evaluate(self, block, original, layer, *args, **kwargs)
        beyond.append(memory.peak - sum(part.nbytes for part in tree_leaves(out)))
        return out

    monkeypatch.setattr(kind, "evaluate", measured)
    model = ttt.apply(loaded.model, layers(loaded.model))
    peaks = []
    for shots in (2, 8):
        timeline = plan(loaded, shots=shots)
        denoise(ttt.attach_timeline(model, timeline), encode(loaded, timeline), noise_for(timeline))
        peaks.append(max(beyond))
        beyond.clear()
    assert peaks[1] < 1.1 * peaks[0]


def test_layers_read_every_frame_once_and_joined_texts(tiny, family, monkeypatch):
    loaded, read = tiny(family), []
    timeline = plan(loaded, shots=1, frames=10, segment=4, overlap=2)
    conds = encode(loaded, timeline)
    forward = TTTBlock.forward

    def note(self, x, layout, *args, **kwargs):
        read.append((x.shape[1], layout))
        return forward(self, x, layout, *args, **kwargs)

    monkeypatch.setattr(TTTBlock, "forward", note)
    denoise(ttt.attach_timeline(ttt.apply(loaded.model, None), timeline), conds, noise_for(timeline))
    text = conds[0][0][0].shape[1] if ttt_forward.segments_of(loaded.model).joint else 0
    windows = ((0, 2), (1, 3), (2, 4), (3, 5)) if family == "cogvideox15" else ((0, 4), (2, 6), (4, 8), (6, 10))
    side = 2 if family == "ltxv" else 4
    expected = Layout((text,) * 4, windows, side, side)
    assert len(read) == block_count(loaded.model) and set(read) == {(expected.tokens, expected)}


def test_token_frames_that_two_segments_share():
    assert ttt_forward.token_windows(((0, 13), (12, 25)), 2) == ((0, 7), (6, 13))
    assert ttt_forward.token_windows(((0, 5), (5, 9)), 2) == ((0, 3), (2, 5))
    assert ttt_forward.token_windows(((4, 8), (5, 9)), 2) == ((2, 4), (3, 5))
    assert ttt_forward.token_windows(((0, 4), (3, 7)), 1) == ((0, 4), (3, 7))


def test_memory_is_asked_for_one_segment_and_what_is_kept(tiny, family, monkeypatch):
    loaded, asked = tiny(family), {}
    facts, network = family_of(loaded.model), loaded.model.model.diffusion_model
    sizes = zip(noise_for(plan(loaded)).shape[3:], facts.patch_size(network)[1:], strict=False)
    of_frame = math.prod(size // patch for size, patch in sizes) * facts.width(network) * 4
    # Core takes a frame of a tiny model for thousands of times what is kept of it; let it be as in a large one.
    monkeypatch.setattr(
        loaded.model.model, "memory_required", lambda input_shape, cond_shapes=None: 10 * of_frame * input_shape[2]
    )
    for layered in (False, True):
        for shots in (1, 2, 64):
            timeline = plan(loaded, shots=shots)
            model = ttt.attach_timeline(ttt.apply(loaded.model, None) if layered else loaded.model, timeline)

            def note(executor, patcher, shape, *rest, asked_for=(layered, shots), **more):
                asked[asked_for] = shape[2]
                return executor(patcher, shape, *rest, **more)

            model.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, "note", note)
            comfy.sampler_helpers.prepare_model_patcher(model, {}, options := model.clone().model_options)
            with torch.inference_mode():
                comfy.sampler_helpers.prepare_sampling(model, [1, *noise_for(timeline).shape[1:]], {}, options)
    assert asked[False, 1] <= asked[False, 2] < asked[False, 64] < 64 * 4
    assert all(asked[True, shots] > asked[False, shots] for shots in (1, 2, 64))


def test_an_interrupted_run_leaves_the_network_as_it_was(tiny, family, monkeypatch):
    loaded = tiny(family)
    timeline = plan(loaded)
    conds, noise = encode(loaded, timeline), noise_for(timeline)
    model = ttt.attach_timeline(ttt.apply(loaded.model, layers(loaded.model)), timeline)
    expected, plain = denoise(model, conds, noise), denoise(loaded.model, of_shot(conds, 0), noise)
    kind, evaluate, count = ttt_forward.segments_of(model), ttt_forward.segments_of(model).evaluate, []

    def interrupting(self, *args, **kwargs):
        count.append(1)
        if len(count) == 2:
            comfy.model_management.interrupt_current_processing()
        return evaluate(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "evaluate", interrupting)
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            denoise(model, conds, noise)
    assert len(count) == 2  # in the middle of a block
    assert torch.equal(denoise(loaded.model, of_shot(conds, 0), noise), plain)
    assert torch.equal(denoise(model, conds, noise), expected)


def test_other_nodes_keep_their_place_in_a_timeline(tiny):
    loaded = tiny("wan21")
    timeline = plan(loaded)
    conds, noise = encode(loaded, timeline), noise_for(timeline)
    plain = denoise(ttt.attach_timeline(loaded.model, timeline), conds, noise)
    seen = []

    def override(func, *args, **kwargs):
        seen.append(args[0].shape[1])
        return func(*args, **kwargs)

    def around(args, extra):
        seen.append(("block", args["img"].shape[1]))
        return extra["original_block"](args)

    model = loaded.model.clone()
    model.model_options["transformer_options"]["optimized_attention_override"] = override
    model.set_model_patch_replace(around, "dit", "double_block", 1)
    assert torch.equal(denoise(ttt.attach_timeline(model, timeline), conds, noise), plain)
    # 3 segments of 4 frames of 16 tokens: each block's self-attention, then its cross attention.
    assert seen == [64] * 6 + [("block", 192)] + [64] * 18


def test_a_hunyuan_patch_behind_attention_acts_once_for_each_segment(tiny):
    loaded = tiny("hunyuan_video")
    timeline = plan(loaded)
    conds, noise = encode(loaded, timeline), noise_for(timeline)
    seen = []
    model = loaded.model.clone()

    def twice(attention, options):
        seen.append(attention.shape[1])
        return attention * 2

    model.set_model_patch(twice, "attn1_output_patch")
    out = denoise(ttt.attach_timeline(model, timeline), conds, noise)
    assert len(seen) == 3 * 4
    for shot in range(3):
        frames = frames_of(timeline, shot)
        alone = denoise(model, of_shot(conds, shot), noise[:, :, frames])
        torch.testing.assert_close(out[:, :, frames], alone, atol=2e-4, rtol=1e-4)


def test_a_shot_with_a_seed_draws_its_own_noise(tiny):
    loaded = tiny("wan21")
    timeline = plan(loaded, seed=5)
    conds, first, second = encode(loaded, timeline), noise_for(timeline), noise_for(timeline, seed=1)
    model = ttt.attach_timeline(loaded.model, timeline)
    outs = denoise(model, conds, first), denoise(model, conds, second)
    same = [
        torch.equal(outs[0][:, :, frames_of(timeline, shot)], outs[1][:, :, frames_of(timeline, shot)])
        for shot in range(3)
    ]
    assert same == [False, True, False]


def test_sample_ttt_gives_a_latent_and_honours_its_mask(tiny, family):
    loaded = tiny(family)
    timeline = plan(loaded, transition="blend")
    conds, latent = encode(loaded, timeline), planning.empty_latent(timeline)
    sigmas = comfy.samplers.calculate_sigmas(loaded.model.get_model_object("model_sampling"), "simple", 2)
    kept, mask = torch.full_like(latent["samples"], 0.25), torch.ones(1, 1, *latent["samples"].shape[2:])
    mask[:, :, :2] = 0
    with torch.inference_mode():
        out = sample_ttt(
            ttt.apply(loaded.model, layers(loaded.model)),
            timeline,
            {**latent, "samples": kept, "noise_mask": mask, "note": "kept"},
            sampling_of(conds, sigmas),
        )
    assert out["note"] == "kept" and out["samples"].shape == kept.shape and torch.isfinite(out["samples"]).all()
    torch.testing.assert_close(out["samples"][:, :, :2], kept[:, :, :2], atol=1e-3, rtol=1e-3)
    assert (out["samples"][:, :, 2:] - 0.25).abs().mean() > 0.05


def test_segments_of_another_length_than_trained_are_told_in_the_log(tiny, caplog):
    loaded = tiny("wan21")
    timeline, model = plan(loaded), ttt.apply(loaded.model, layers(loaded.model, segment_latent_frames=13))
    denoise(ttt.attach_timeline(model, timeline), encode(loaded, timeline), noise_for(timeline))
    assert [record.getMessage() for record in caplog.records if "TTT" in record.getMessage()] == [
        "Longreel: these TTT layers were trained on segments of 13 latent frames, and the timeline's longest has 4"
    ]
    caplog.clear()
    denoise(
        ttt.attach_timeline(ttt.apply(loaded.model, layers(loaded.model)), timeline),
        encode(loaded, timeline),
        noise_for(timeline),
    )
    assert not [record for record in caplog.records if "TTT" in record.getMessage()]


def test_what_cannot_be_shown_in_one_evaluation_is_refused_by_name(tiny):
    loaded = tiny("wan21")
    timeline = plan(loaded)
    (positive, negative), noise = encode(loaded, timeline), noise_for(timeline)
    model = ttt.attach_timeline(loaded.model, timeline)
    with pytest.raises(ValueError, match="the latent has 11 frames and the timeline 12"):
        denoise(model, (positive, negative), noise[:, :, 1:])
    with pytest.raises(ValueError, match="segment 1 has 2 conditioning entries, and TTT reads one text for each"):
        denoise(model, (positive + positive, negative), noise)
    with pytest.raises(ValueError, match="no prompt for shot 3 in a conditioning of 2 entries"):
        denoise(model, (positive[:2], negative), noise)
    weak = node_helpers.conditioning_set_values(positive[1:2], {"strength": 0.5})
    with pytest.raises(ValueError, match="segment 2 differs from that of segment 1 in strength"):
        denoise(model, ([positive[0], *weak, positive[2]], negative), noise)
    with pytest.raises(ValueError, match="Watcher works on one segment at a time"):
        denoise(patching.attach(model, Watcher()), (positive, negative), noise)
    with pytest.raises(ValueError, match=r"a node on this model shows it a latent in parts \(WholeTimeline\)"):
        ttt.attach_timeline(model, timeline)
    with pytest.raises(ValueError, match=r"latent in parts \(TimelineHandler\)"):
        ttt.attach_timeline(latent_blend.attach(loaded.model, timeline, "cut"), timeline)


def test_tokens_that_belong_to_no_segment_are_refused(tiny):
    loaded = tiny("wan21")
    timeline = plan(loaded)
    (positive, negative), noise = encode(loaded, timeline), noise_for(timeline)
    extra = {"time_dim_concat": torch.zeros(1, 16, 1, 8, 8)}
    given = tuple(node_helpers.conditioning_set_values(conds, extra) for conds in (positive, negative))
    with pytest.raises(ValueError, match="blocks read 208 tokens and the timeline has 192"):
        denoise(ttt.attach_timeline(loaded.model, timeline), given, noise)
    loaded = tiny("hunyuan_video")
    timeline = plan(loaded)
    conds, noise = encode(loaded, timeline), noise_for(timeline)
    guided = tuple(node_helpers.conditioning_set_values(part, {"guiding_frame_index": 0}) for part in conds)
    with pytest.raises(ValueError, match="a guiding frame in the conditioning cannot be divided between 3 segments"):
        denoise(ttt.attach_timeline(loaded.model, timeline), guided, noise)
