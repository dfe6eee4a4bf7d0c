"""Core's context windows and step caches beside Longreel's own windows: they work inside, or are refused by name before
the network is evaluated, whichever node comes first."""

import inspect

import pytest
import torch

import comfy.patcher_extension as extension
from comfy_extras.nodes_context_windows import (
    ContextWindowsManualNode,
    LTXVContextWindowsNode,
    WanContextWindowsManualNode,
)
from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode

from longreel.engine.plan.timeline import plan_timeline
from longreel.engine.runs.folder import open_run
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.hosts import facts_of
from longreel.hosts.attention import patching
from longreel.hosts.features import prompt_edit
from longreel.hosts.memory import long_memory, short_memory
from longreel.hosts.sampling import joint, planning, refine, rollout, whole
from longreel.hosts.windows import latent_blend
from tests import tiny_sampling
from tests.hosts.features.test_kv_share import PLAIN
from tests.hosts.rollout_cases import sampler_for, sigmas_of, story
from tests.hosts.sampling_cases import sampling_of
from tests.hosts.windows.test_latent_blend import Recorder, encode

STEPS = 6
WINDOWS = {
    ContextWindowsManualNode: {"context_length": 3, "context_overlap": 1, "dim": 2},
    WanContextWindowsManualNode: {"context_length": 9, "context_overlap": 4},
    LTXVContextWindowsNode: {"context_length": 17, "context_overlap": 8},
}
COMMON = {
    "context_schedule": "standard_static",
    "context_stride": 1,
    "closed_loop": False,
    "fuse_method": "pyramid",
    "freenoise": False,
}
KEYS = short_memory.KeysAndValues(frames=2, strength=1.0, decay=0.0, layers=frozenset(range(4)))
ANCHORED = long_memory.LongMemory(long_memory.VIDEO, 2, long_memory.BEFORE, 1.0, frozenset(range(4)), 0.0)


def windowed(model, node=WanContextWindowsManualNode, **more):
    """The MODEL behind one of core's nodes."""
    takes = inspect.signature(node.execute).parameters
    given = {**COMMON, **WINDOWS[node], **more}
    return node.execute(model, **{name: value for name, value in given.items() if name in takes}).args[0]


def easy(model):
    return EasyCacheNode.execute(model, 3.0, 0.0, 1.0, False).args[0]


def lazy(model):
    return LazyCacheNode.execute(model, 3.0, 0.0, 1.0, False).args[0]


def settings(model, conds, steps=STEPS):
    return sampling_of(conds, sigmas_of(model, steps), sampler_for(model))


def sample(mode: str, loaded, model, timeline, steps=STEPS, run=None) -> tuple[torch.Tensor, str]:
    """The latent, and a rollout's report."""
    latent, conds = planning.empty_latent(timeline), encode(loaded, timeline)
    with torch.inference_mode():
        asked = settings(model, conds, steps)
        if mode == "rollout":
            out, report = rollout.sample_rollout(model, timeline, latent, asked, run=run)
            return out["samples"], report
        if mode == "joint":
            return joint.sample_timeline(model, timeline, latent, asked, blend="triangle")["samples"], ""
        if mode == "whole":
            return whole.sample_ttt(model, timeline, latent, asked)["samples"], ""
        full = {"samples": latent["samples"] + 0.1}
        return refine.refine(model, full, asked, strength=1.0, blend=mode, timeline=timeline)["samples"], ""


@pytest.mark.parametrize("freenoise", [False, True])
@pytest.mark.parametrize("node", WINDOWS)
@pytest.mark.parametrize("mode", ["joint", "rollout", "x0", "step"])
def test_cores_windows_work_inside_each_of_ours(tiny, mode: str, node, freenoise: bool):
    loaded = tiny("ltxv" if node is LTXVContextWindowsNode else "wan21")
    timeline = story(loaded.model, frames=5, segment=5, overlap=1)
    recorder = Recorder(loaded.model)
    inside, _ = sample(mode, loaded, windowed(recorder.model, node, freenoise=freenoise), timeline, 1)
    seen = {shown[0].shape[2] for shown in recorder.calls}
    assert inside.isfinite().all() and max(seen) <= 4, "3 frames, and core's own one in front"
    assert not torch.equal(inside, sample(mode, loaded, loaded.model, timeline, 1)[0])


def test_windows_that_are_longer_than_a_chunk_change_nothing(tiny):
    loaded = tiny("wan21")
    timeline = story(loaded.model, frames=5)
    model = windowed(loaded.model, context_length=81, context_overlap=0)
    assert torch.equal(
        sample("rollout", loaded, model, timeline, 2)[0], sample("rollout", loaded, loaded.model, timeline, 2)[0]
    )


def test_a_run_behind_cores_windows_goes_on_with_a_new_node(tiny, tmp_path):
    """What sampling leaves in core's handler is none of what a chunk depends on."""
    loaded = tiny("wan21")
    timeline = story(loaded.model, frames=5)
    reports = []
    for model in (windowed(loaded.model), windowed(loaded.model)):
        for _ in range(2):
            with open_run(tmp_path / "run") as run:
                reports.append(sample("rollout", loaded, model, timeline, 2, run)[1])
    assert "made" in reports[0] and not any("made" in report for report in reports[1:])
    with open_run(tmp_path / "run") as run:
        other = windowed(loaded.model, context_length=13)
        assert "the model changed" in sample("rollout", loaded, other, timeline, 2, run)[1]


@pytest.mark.parametrize("add_noise", [True, False])
def test_freenoise_shuffles_noise_alone(tiny, add_noise: bool):
    """Nothing that an earlier sampler or expert left is moved to other frames."""
    loaded = tiny("wan22_14b_high")
    timeline = story(loaded.model, ("continue",), frames=5, segment=5)
    latent = {"samples": torch.randn(planning.empty_shape(timeline), generator=torch.Generator().manual_seed(1))}
    outs = []
    for freenoise in (False, True):
        model = windowed(loaded.model, freenoise=freenoise)
        sigmas = sigmas_of(model, 4)
        asked = sampling_of(encode(loaded, timeline), sigmas if add_noise else sigmas[2:], add_noise=add_noise)
        with torch.inference_mode():
            outs.append(rollout.sample_rollout(model, timeline, latent, asked)[0]["samples"])
    assert torch.equal(*outs) == (not add_noise)


def unreached(model):
    """A clone whose network must not be evaluated."""

    def evaluated(executor, *args, **kwargs):
        raise AssertionError("the network was evaluated")

    model = model.clone()
    model.add_wrapper_with_key(extension.WrappersMP.DIFFUSION_MODEL, "unreached", evaluated)
    return model


def test_cores_windows_behind_latent_blend_are_refused(tiny):
    loaded = tiny("wan21")
    timeline = story(loaded.model)
    model = windowed(latent_blend.attach(unreached(loaded.model), timeline, "triangle"))
    with pytest.raises(ValueError, match="put the context windows node in front of Longreel Latent Blend"):
        tiny_sampling.sample(model, *encode(loaded, timeline), planning.empty_latent(timeline))


def test_ttt_refuses_cores_windows(tiny):
    loaded = tiny("wan21")
    timeline = story(loaded.model)
    with pytest.raises(ValueError, match=r"shows it a latent in parts \(IndexListContextHandler\)"):
        sample("whole", loaded, windowed(unreached(loaded.model)), timeline)


FEATURES = {
    "KV Share": ("joint", lambda model: patching.attach(model, PLAIN)),
    "Short Memory": ("rollout", lambda model: short_memory.attach(model, KEYS)),
    "Long Memory": ("rollout", lambda model: patching.attach(model, ANCHORED)),
}


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("other", ["windows", "EasyCache"])
def test_a_feature_of_whole_windows_refuses_what_cuts_or_skips_them(tiny, feature: str, other: str, first: bool):
    loaded = tiny("wan21")
    timeline = story(loaded.model)
    mode, ours = FEATURES[feature]
    theirs = windowed if other == "windows" else easy
    one, two = (theirs, ours) if first else (ours, theirs)
    said = "cuts it" if other == "windows" else "EasyCache on this model skips some; use LazyCache"
    with pytest.raises(ValueError, match=f"Longreel {feature}.*{said}"):
        sample(mode, loaded, two(one(unreached(loaded.model))), timeline)


@pytest.mark.parametrize("cache", [easy, lazy])
def test_prompt_edit_refuses_caches_of_steps(tiny, cache):
    loaded = tiny("wan21")
    timeline = story(loaded.model)
    layout = prompt_edit.Layout(encode(loaded, timeline)[0], 0.0, 1.0)
    model = prompt_edit.attach(cache(unreached(loaded.model)), prompt_edit.PromptEdit(frozenset({0}), layout=layout))
    with pytest.raises(ValueError, match="Longreel Prompt Edit.*EasyCache, LazyCache.*remove that node"):
        sample("joint", loaded, model, timeline)


@pytest.mark.parametrize("mode", ["joint", "rollout", "whole", "x0", "step", "latent blend", "latent blend first"])
@pytest.mark.parametrize("cache", [easy, lazy])
def test_caches_of_steps_work_with_segments_of_different_length(tiny, mode: str, cache):
    """Steps are skipped, each segment's from its own; a second queue makes the same."""
    loaded = tiny("wan21")
    timeline = story(loaded.model, frames=8, segment=5, overlap=1)
    recorder, outs, calls = Recorder(loaded.model), [], []
    for _ in range(2):
        recorder.calls.clear()
        if mode.startswith("latent blend"):
            model = (
                cache(latent_blend.attach(recorder.model, timeline, "triangle"))
                if mode.endswith("first")
                else latent_blend.attach(cache(recorder.model), timeline, "triangle")
            )
            outs.append(
                tiny_sampling.sample(model, *encode(loaded, timeline), planning.empty_latent(timeline), steps=STEPS)
            )
        else:
            outs.append(sample(mode, loaded, cache(recorder.model), timeline)[0])
        calls.append(len(recorder.calls))
    assert torch.equal(*outs) and outs[0].isfinite().all()


def test_each_segment_is_skipped_from_its_own_steps(tiny):
    """A shot between cuts comes out as it does alone, where core's one cache has no other segment to remember."""
    loaded, facts = tiny("wan21"), facts_of(tiny("wan21").model)
    shots = tuple(Shot(f"scene {i}", 1.25, transition="cut", seed=i) for i in range(3))
    outs, forwards = [], []

    def count(executor, x, *args, **kwargs):
        forwards[-1] += 1
        return executor(x, *args, **kwargs)

    for count_of in (1, 3):
        board = Storyboard(shots[:count_of], width=64, height=64, fps=16.0)
        timeline = plan_timeline(board, facts, segment_frames=6, overlap_frames=1)
        model = EasyCacheNode.execute(loaded.model, 0.5, 0.0, 1.0, False).args[0]
        model.add_wrapper_with_key(extension.WrappersMP.DIFFUSION_MODEL, "count", count)  # behind core's: not skipped
        forwards.append(0)
        outs.append(sample("joint", loaded, model, timeline, 8)[0][:, :, : timeline.shots[0].end_frame])
    assert 0 < forwards[0] < 8 and forwards[1] < 3 * 8
    assert torch.allclose(*outs, atol=1e-4)
