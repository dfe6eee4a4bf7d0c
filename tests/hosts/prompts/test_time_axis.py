"""What is cut along with the video is what lies on its time axis, whatever else is as long by chance."""

import pytest
import torch

import comfy.conds

from longreel.engine.plan.rollout_chunks import plan_chunks
from longreel.engine.plan.timeline import Timeline, plan_timeline
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.hosts import facts_of
from longreel.hosts.prompts.chunk_conditioning import for_chunk
from longreel.hosts.sampling import joint, refine, rollout
from longreel.hosts.windows.context_pass import entry_of_length
from longreel.hosts.windows.latent_blend import TimelineHandler
from tests.hosts.rollout_cases import sampler_for, sigmas_of
from tests.hosts.sampling_cases import sampling_of
from tests.hosts.windows.test_latent_blend import Recorder, encode

TEXT_CHANNELS, ROWS, COLUMNS = 32, 8, 12


def of_frames(model, frames: int, segment: int = 9) -> Timeline:
    """Two shots of so many latent frames together, 8 rows and 12 columns."""
    facts = facts_of(model)
    seconds = facts.pixel_frames(frames) / 32
    board = Storyboard(
        (Shot("scene 0", seconds), Shot("scene 1", seconds)),
        width=COLUMNS * facts.spatial_stride,
        height=ROWS * facts.spatial_stride,
        fps=16.0,
    )
    timeline = plan_timeline(board, facts, segment_frames=segment, overlap_frames=1)
    assert timeline.latent_frames == frames
    return timeline


def latent_of(timeline: Timeline, batch: int = 1) -> dict:
    shape = (batch, timeline.facts.latent_channels, timeline.latent_frames, ROWS, COLUMNS)
    return {"samples": torch.full(shape, 0.1)}


def sample(mode: str, model, timeline: Timeline, conds, batch: int = 1, steps: int = 1) -> torch.Tensor:
    settings, latent = sampling_of(conds, sigmas_of(model, steps), sampler_for(model)), latent_of(timeline, batch)
    with torch.inference_mode():
        if mode == "joint":
            return joint.sample_timeline(model, timeline, latent, settings, blend="triangle")["samples"]
        if mode == "rollout":
            return rollout.sample_rollout(model, timeline, latent, settings)[0]["samples"]
        return refine.refine(model, latent, settings, strength=1.0, blend=mode, timeline=timeline)["samples"]


@pytest.mark.parametrize("mode", ["joint", "rollout", "x0", "step"])
def test_a_video_with_as_many_frames_as_its_text_has_channels_hears_the_whole_text(tiny, mode: str):
    loaded = tiny("wan21")
    timeline, recorder = of_frames(loaded.model, TEXT_CHANNELS), Recorder(loaded.model)
    conds = encode(loaded, timeline)
    assert conds[0][0][0].shape[-1] == TEXT_CHANNELS
    out = sample(mode, recorder.model, timeline, conds)
    assert out.isfinite().all() and out.shape[2] == TEXT_CHANNELS
    heard = [text for _, _, of_prompts, _ in recorder.calls for texts in of_prompts for text in texts or ()]
    assert heard and {text.shape[-1] for text in heard} == {TEXT_CHANNELS}
    own = [text for prompt in conds for text, _ in prompt]
    assert all(any(torch.equal(text, known) for known in own) for text in heard[:2])


def test_on_every_family(tiny, every_tiny):
    loaded = tiny(every_tiny.name)
    timeline = of_frames(loaded.model, TEXT_CHANNELS)
    assert sample("joint", loaded.model, timeline, encode(loaded, timeline)).isfinite().all()


def test_frames_as_many_as_anything_else_make_the_same_of_each_segment(tiny):
    """Text tokens, latent channels, rows, columns and rows of a batch: the network hears what it always hears."""
    loaded = tiny("wan21")
    tokens = encode(loaded, of_frames(loaded.model, 10, 5))[0][0][0].shape[1]
    heard = {}
    for frames, batch in ((9, 1), (16, 1), (ROWS, 1), (COLUMNS, 1), (tokens, 1), (6, 6)):
        timeline, recorder = of_frames(loaded.model, max(frames, 6), 5), Recorder(loaded.model)
        assert sample("joint", recorder.model, timeline, encode(loaded, timeline), batch).isfinite().all()
        heard[frames, batch] = recorder.calls[0][2]
    for texts in heard.values():
        for ours, theirs in zip(texts, heard[9, 1], strict=True):
            assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def entry(frames: int, **more) -> dict:
    regular = comfy.conds.CONDRegular
    return {
        "model_conds": {
            "c_crossattn": comfy.conds.CONDCrossAttn(torch.rand(1, 7, frames)),
            "attention_mask": regular(torch.ones(frames, 7)),
            "y": regular(torch.rand(frames, 24)),
            "guidance": regular(torch.rand(frames)),
            "clip_fea": regular(torch.rand(1, 5, frames)),
            "reference_latent": regular(torch.rand(1, 16, frames, 4)),
            "time_dim_concat": regular(torch.rand(1, 16, frames, 4, 4)),
            "c_concat": comfy.conds.CONDNoiseShape(torch.rand(1, 20, frames, 4, 4)),
            "denoise_mask": regular(torch.rand(1, 1, frames, 4, 4)),
        },
        "cross_attn": torch.rand(1, 7, frames),
        "pooled_output": torch.rand(frames, 24),
        **more,
    }


@pytest.mark.parametrize("lead_frame", [False, True])
def test_a_segment_takes_its_frames_of_what_has_frames_and_the_rest_whole(tiny, lead_frame: bool):
    model, frames = tiny("wan21").model, 12
    timeline = of_frames(model, frames, 5)
    given = entry(frames, mask=torch.rand(1, frames, frames, frames), area=(4, 2, 2, 6, 0, 0))
    handler, x = TimelineHandler(timeline, "triangle", 0, lead_frame), torch.zeros(1, 16, frames, 4, 4)
    handler._model, found = model.model, []
    for window in handler.get_context_windows(model.model, x, {}):
        if lead_frame and window.segment.start_frame:
            window.causal_anchor_index = 0
        at = list(range(window.segment.start_frame, window.segment.end_frame))
        if lead_frame and window.segment.start_frame:
            at.insert(0, window.lead_frame)
        for cut in handler.get_resized_cond([given], x, window):
            found += at
            for key, value in given["model_conds"].items():
                timed = key in ("c_concat", "denoise_mask")
                assert torch.equal(cut["model_conds"][key].cond, value.cond[:, :, at] if timed else value.cond), key
            assert torch.equal(cut["mask"], given["mask"][:, at])
            assert torch.equal(cut["cross_attn"], given["cross_attn"])
            assert torch.equal(cut["pooled_output"], given["pooled_output"])
            count, *_, start, _, _ = cut["area"]
            assert [frame for frame in at if 6 <= frame < 10] == at[start : start + count]
        if not set(at) & set(range(6, 10)):
            assert not handler.get_resized_cond([given], x, window), "its area is elsewhere"
    assert found


def test_an_areas_mask_of_other_frames_is_refused(tiny):
    loaded = tiny("wan21")
    timeline = of_frames(loaded.model, 12, 5)
    positive, negative = encode(loaded, timeline)
    for mode in ("joint", "rollout"):
        masked = [[text, {**options, "mask": torch.ones(5, ROWS, COLUMNS)}] for text, options in positive]
        with pytest.raises(ValueError, match="an area's mask of the conditioning has 5 frames and the latent 12"):
            sample(mode, loaded.model, timeline, (masked, negative))


@pytest.mark.parametrize("mode", ["joint", "rollout"])
def test_a_mask_that_moves_is_cut_along(tiny, mode: str):
    """Frames are as many as columns are, and half of each shot listens to a second prompt."""
    loaded = tiny("wan21")
    timeline = of_frames(loaded.model, COLUMNS, 5)
    positive, negative = encode(loaded, timeline)
    mask = torch.zeros(COLUMNS, ROWS, COLUMNS)
    mask[: COLUMNS // 2] = 1
    still = torch.ones(1, ROWS, COLUMNS)
    outs = [
        sample(mode, loaded.model, timeline, ([[t, {**o, "mask": m}] for t, o in positive], negative))
        for m in (still, torch.ones_like(mask), mask)
    ]
    assert torch.equal(outs[0], outs[1]), "one frame of a mask holds for all"
    assert not torch.equal(outs[0], outs[2]) and outs[2].isfinite().all()
    assert torch.allclose(outs[0][:, :, :4], outs[2][:, :, :4], atol=1e-5), "where the mask is 1"


def test_a_chunk_keeps_references_whole_and_takes_its_frames_of_pictures(tiny):
    loaded = tiny("wan21")
    timeline = of_frames(loaded.model, 12, 5)
    chunk = plan_chunks(timeline, 1)[1]
    window = slice(chunk.start_frame, chunk.end_frame)
    options = {
        "concat_latent_image": torch.rand(1, 16, 12, 4, 4),
        "reference_latents": [torch.rand(1, 16, 12, 4, 4)],
        "time_dim_concat": torch.rand(1, 16, 12, 4, 4),
        "pooled_output": torch.rand(12, 24),
    }
    [[text, cut]] = for_chunk([[torch.rand(1, 7, 12), options]], chunk, timeline, {0, 1})
    assert text.shape[-1] == 12
    assert torch.equal(cut["concat_latent_image"], options["concat_latent_image"][:, :, window])
    assert torch.equal(cut["reference_latents"][0], options["reference_latents"][0])
    assert torch.equal(cut["time_dim_concat"], options["time_dim_concat"])
    assert torch.equal(cut["pooled_output"], options["pooled_output"])


def test_a_chunk_behind_the_end_of_what_moves_along_is_refused(tiny):
    """Locked shots keep their frames, and the video that is made may be longer than the plan."""
    loaded = tiny("wan21")
    planned, made = of_frames(loaded.model, 12, 5), of_frames(loaded.model, 14, 5)
    entries = [[torch.rand(1, 7, 12), {"audio_embed": torch.rand(1, 25, 8, 4 * 12)}]]
    first, *_, last = plan_chunks(made, 1)
    [[_, cut]] = for_chunk(entries, first, planned, {0, 1})
    assert cut["audio_embed"].shape[3] == 4 * first.latent_frames
    with pytest.raises(ValueError, match="audio_embed for 12 latent frames and the video has 14; .* 53 pixel frames"):
        for_chunk(entries, last, planned, {0, 1})


def test_a_context_pass_takes_the_last_frames_of_what_has_frames():
    given = entry(12, mask=torch.rand(1, 12, 4, 4))
    cut = entry_of_length(given, torch.zeros(1, 16, 3, 4, 4))
    assert torch.equal(cut["model_conds"]["c_concat"].cond, given["model_conds"]["c_concat"].cond[:, :, 9:])
    assert "denoise_mask" not in cut["model_conds"]
    assert torch.equal(cut["mask"], given["mask"][:, 9:])
    for key in ("time_dim_concat", "reference_latent", "c_crossattn", "clip_fea"):
        assert torch.equal(cut["model_conds"][key].cond, given["model_conds"][key].cond), key
