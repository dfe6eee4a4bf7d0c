"""hosts/sampling/planning.py: memory of one segment by ComfyUI's own estimate, and the empty latent."""

import pytest
import torch

import comfy.sample
from comfy_extras.nodes_lt import LTXVScheduler

from longreel.engine.plan.card_memory import WORKING_COPIES, Card
from longreel.engine.plan.rows import latent_bytes
from longreel.engine.plan.timeline import plan_timeline
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.hosts import facts_of
from longreel.hosts.attention import card, patching
from longreel.hosts.features.prompt_edit import Layout, PromptEdit
from longreel.hosts.sampling import planning

EVERY, LAYOUT = frozenset(range(4)), Layout(None, 0.0, 1.0)


def timeline_for(model, seconds=4.0, width=64, segment=5):
    board = Storyboard((Shot("a", seconds),), width=width, height=64)
    return plan_timeline(board, facts_of(model), segment_frames=segment, overlap_frames=2)


def test_memory_of_a_segment_is_comfyuis_own_estimate(tiny, every_tiny):
    model = tiny(every_tiny.name).model
    timeline = timeline_for(model)
    channels, side = every_tiny.latent_channels, 64 // every_tiny.spatial_stride
    assert planning.segment_bytes(model, timeline, True) == int(
        model.model.memory_required([2, channels, 6, side, side])
    )
    assert planning.segment_bytes(model, timeline, False) == int(
        model.model.memory_required([1, channels, 6, side, side])
    )


def test_memory_of_a_segment_does_not_grow_with_the_video_but_with_the_segment_and_the_size(tiny):
    model = tiny("wan21").model
    short = planning.segment_bytes(model, timeline_for(model), True)
    assert planning.segment_bytes(model, timeline_for(model, seconds=40.0), True) == short
    assert planning.segment_bytes(model, timeline_for(model, segment=9), True) > short
    assert planning.segment_bytes(model, timeline_for(model, width=128), True) > short


def test_memory_of_the_latent_grows_with_the_video(tiny):
    model = tiny("wan21").model
    timeline = timeline_for(model)
    assert latent_bytes(timeline) == 16 * timeline.latent_frames * 8 * 8 * 4 * WORKING_COPIES
    assert latent_bytes(timeline_for(model, seconds=40.0)) > 9 * latent_bytes(timeline)


def test_the_memory_table_knows_the_features_on_the_model_and_what_does_not_fit(tiny, monkeypatch):
    loaded = tiny("wan21")
    timeline, model = timeline_for(loaded.model), patching.attach(loaded.model, PromptEdit(EVERY, layout=LAYOUT))
    plain, table = (planning.memory_of(one, timeline, True) for one in (loaded.model, model))
    assert not any("Longreel Prompt Edit" in line for line in plain)
    assert any(line.strip().startswith("Longreel Prompt Edit") for line in table) and "fits" in table[-1]
    monkeypatch.setattr(card, "card_of", lambda model: Card("cuda:0", 2**20, 2**20, 0))
    refused = planning.memory_of(model, timeline, True)[-1]
    assert refused.startswith("  does not fit: Longreel Prompt Edit needs") and "1.0 MiB are free on cuda:0" in refused


def test_the_empty_latent_is_what_the_model_samples(tiny, every_tiny):
    loaded = tiny(every_tiny.name)
    timeline = timeline_for(loaded.model)
    latent = planning.empty_latent(timeline)
    samples = latent["samples"]
    assert tuple(samples.shape) == every_tiny.latent_shape(timeline.latent_frames) and not samples.any()
    fixed = comfy.sample.fix_empty_latent_channels(loaded.model, samples, latent["downscale_ratio_spacial"])
    assert fixed.shape == samples.shape  # core has nothing to repair


@pytest.mark.parametrize("name", ["wan21", "wan22_5b", "cogvideox10", "cogvideox15", "hunyuan_video", "ltxv"])
def test_facts_are_those_of_the_models_latents(tiny, tiny_models, name):
    facts, known = facts_of(tiny(name).model), tiny_models[name]
    assert (facts.latent_channels, facts.spatial_stride, facts.temporal_stride) == (
        known.latent_channels,
        known.spatial_stride,
        known.temporal_stride,
    )


def test_schedulers_that_count_tokens_shift_for_the_segment_however_long_the_video(tiny):
    """Core's LTXVScheduler on the plan's segment gives the sigmas of a single clip; on the whole timeline, NaN."""
    facts = facts_of(tiny("ltxv").model)
    minute = plan_timeline(Storyboard((Shot("a", 60.0),), width=768, height=512, fps=25.0), facts)
    segment, clip = (
        planning.segment_latent(minute),
        {"samples": torch.zeros(1, 128, facts.native_latent_frames, 16, 24)},
    )
    of_segment, of_clip, of_timeline = (
        LTXVScheduler.execute(30, 2.05, 0.95, True, 0.1, latent=latent).result[0]
        for latent in (segment, clip, planning.empty_latent(minute))
    )
    assert torch.equal(of_segment, of_clip) and of_segment.isfinite().all() and of_timeline.isnan().any()


def test_the_latent_of_a_segment_is_as_long_as_the_longest_one(tiny):
    model = tiny("wan21").model
    for timeline in (timeline_for(model), timeline_for(model, seconds=0.5)):
        longest = max(segment.latent_frames for segment in timeline.segments)
        latent = planning.segment_latent(timeline)["samples"]
        assert latent.shape == (1, 16, longest, 8, 8) and not latent.any()
        assert longest == min(timeline.latent_frames, timeline.segment_frames)
