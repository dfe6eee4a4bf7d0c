"""A LATENT's noise mask in joint and rollout: on a single clip as core's KSampler has it, in windows cut to their
frames at the network, and kept frames stay as they are whatever a feature does to finished chunks."""

import pytest
import torch

from longreel.engine.plan.rollout_chunks import plan_chunks
from longreel.engine.plan.timeline import plan_timeline
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.hosts import facts_of
from longreel.hosts.attention import patching
from longreel.hosts.memory.long_memory import BEFORE, VIDEO, LongMemory
from longreel.hosts.sampling import joint, rollout
from tests import tiny_sampling
from tests.hosts.rollout_cases import sigmas_of
from tests.hosts.sampling_cases import sampling_of
from tests.hosts.windows.test_latent_blend import empty, encode

CORE_CANNOT = {"hunyuan_video15", "kandinsky5"}  # its networks are given a mask of all channels and stop


def clip(loaded):
    """A storyboard of one shot that is one segment."""
    facts = facts_of(loaded.model)
    frames = 2 * facts.patch_frames + facts.patch_frames
    board = Storyboard((Shot("a", facts.pixel_frames(frames) / 16),), width=64, height=64, fps=16.0)
    return plan_timeline(board, facts, segment_frames=frames)


def given(timeline):
    return torch.randn(empty(timeline).shape, generator=torch.Generator().manual_seed(1))


def of_every_channel(samples):
    """What is kept differs by channel, frame and place; some of it by half."""
    mask = torch.rand(samples.shape, generator=torch.Generator().manual_seed(2)).mul(3).sub(1).clamp(0, 1)
    mask[:, :, 0] = 0
    return mask


def of_one_frame(samples):
    """One picture for all frames, as Set Latent Noise Mask makes it of a MASK."""
    mask = torch.ones(1, 1, *samples.shape[3:])
    mask[..., : samples.shape[4] // 2] = 0
    return mask


def sample(mode, loaded, timeline, latent, model=None, steps=2):
    settings = sampling_of(encode(loaded, timeline), sigmas_of(loaded.model, steps))
    model = loaded.model if model is None else model
    with torch.inference_mode():
        if mode == "joint":
            return joint.sample_timeline(model, timeline, latent, settings, blend="triangle")["samples"]
        return rollout.sample_rollout(model, timeline, latent, settings)[0]["samples"]


@pytest.mark.parametrize("mask_of", [of_every_channel, of_one_frame])
def test_a_single_clip_is_core_ksampler_with_the_same_mask(tiny, every_tiny, mask_of):
    loaded = tiny(every_tiny.name)
    timeline = clip(loaded)
    samples = given(timeline)
    latent = {"samples": samples, "noise_mask": mask_of(samples)}
    outs = [sample(mode, loaded, timeline, latent) for mode in ("joint", "rollout")]
    if every_tiny.name in CORE_CANNOT:
        kept = (latent["noise_mask"] == 0).expand(samples.shape)
        assert all(torch.allclose(out[kept], samples[kept], atol=1e-4) for out in outs)
        assert not any(torch.allclose(out[~kept], samples[~kept], atol=1e-2) for out in outs)
        return
    conds = encode(loaded, timeline)
    core = tiny_sampling.sample(loaded.model, *conds, latent, seed=7, cfg=3.0)
    plain = tiny_sampling.sample(loaded.model, *conds, samples, seed=7, cfg=3.0)
    assert all(torch.equal(out, core) for out in outs) and not torch.equal(core, plain)


@pytest.fixture
def seen(monkeypatch):
    """The noise level of each frame in each forward of a network, as a part of the highest; (loaded) -> list."""
    found = []

    def watch(loaded):
        network = loaded.model.model.diffusion_model
        forward = type(network).forward

        def noting(self, x, timestep, *args, **kwargs):
            times = timestep[0].reshape(x.shape[2], -1)[:, 0]
            found.append(times / times.max())
            return forward(self, x, timestep, *args, **kwargs)

        monkeypatch.setattr(type(network), "forward", noting)
        return found

    return watch


@pytest.mark.parametrize("name", ["wan22_5b", "ltxv"])
@pytest.mark.parametrize("mode", ["joint", "rollout"])
def test_the_network_is_shown_the_masks_of_the_windows_own_frames(tiny, seen, name, mode):
    """The mask of frame f is (f + 1) / F, and these networks take each frame's noise level from it."""
    loaded = tiny(name)
    facts = facts_of(loaded.model)
    shots = Shot("a", facts.pixel_frames(6) / 16), Shot("b", 4 * facts.temporal_stride / 16, "cut")
    timeline = plan_timeline(
        Storyboard(shots, width=64, height=64, fps=16.0), facts, segment_frames=4, overlap_frames=1
    )
    frames = timeline.latent_frames
    mask = (torch.arange(frames) + 1.0)[None, None, :, None, None] / frames
    found = seen(loaded)
    sample(mode, loaded, timeline, {"samples": given(timeline), "noise_mask": mask}, steps=1)
    if mode == "joint":
        starts = [(one.start_frame, one.end_frame) for one in timeline.segments]
        takes = timeline.take_starts
        led = [[max(start - 1, 0) if start not in takes[1:] else start] * (start > 0) for start, _ in starts]
        expected = [
            [*(mask.flatten()[lead]), *mask.flatten()[start:end]]
            for lead, (start, end) in zip(led, starts, strict=True)
        ]
    else:
        expected = [
            [0.0] * one.known_frames + mask.flatten()[one.first_new_frame : one.end_frame].tolist()
            for one in plan_chunks(timeline, timeline.overlap_frames)
        ]
    assert len(found) == len(expected) > 2
    for times, parts in zip(found, expected, strict=True):
        parts = torch.tensor(parts)
        torch.testing.assert_close(times.float().cpu(), parts / parts.max(), atol=1e-3, rtol=1e-3)


def test_statistics_of_a_memory_leave_what_the_mask_keeps_as_it_is(tiny):
    """Long Memory pulls finished chunks to the statistics of the first one, and pulled kept frames along."""
    loaded = tiny("wan21")
    board = Storyboard((Shot("a", 2.5),), width=64, height=64, fps=16.0)
    timeline = plan_timeline(board, facts_of(loaded.model), segment_frames=5, overlap_frames=1)
    samples, mask = given(timeline) * 3, torch.ones(1, 1, timeline.latent_frames, 8, 8)
    mask[:, :, 6:8], mask[..., :4] = 0, 0
    model = patching.attach(loaded.model, LongMemory(VIDEO, 1, BEFORE, 0.0, frozenset([0]), 1.0))
    latent = {"samples": samples, "noise_mask": mask}
    out, plain = sample("rollout", loaded, timeline, latent, model), sample("rollout", loaded, timeline, latent)
    kept = (mask == 0).expand(samples.shape)
    torch.testing.assert_close(out[kept], samples[kept], atol=1e-4, rtol=1e-4)
    later = ~kept & (torch.arange(timeline.latent_frames) >= 5)[:, None, None]
    assert not torch.allclose(out[later], plain[later], atol=1e-2)
