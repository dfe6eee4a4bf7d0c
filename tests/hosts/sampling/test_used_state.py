"""Nothing that a sampler or a core node uses up comes back into what ComfyUI caches or a run folder hashes."""

import pytest
import torch

import comfy.hooks
import comfy.k_diffusion.sampling
import comfy.samplers

from longreel.hosts.features import prompt_edit
from longreel.hosts.sampling import identity, joint, refine, rollout
from tests.hosts.rollout_cases import sigmas_of, story
from tests.hosts.sampling_cases import sampling_of
from tests.hosts.windows.test_latent_blend import empty, encode

STEPS = 4
WRITES_INTO_SIGMAS = ("uni_pc", "uni_pc_bh2")


def sample(loaded, timeline, sampler: str, sigmas: torch.Tensor, mode: str) -> torch.Tensor:
    settings = sampling_of(encode(loaded, timeline), sigmas, comfy.samplers.sampler_object(sampler), 3.0, 7)
    latent = {"samples": empty(timeline)}
    with torch.inference_mode():
        if mode == "joint":
            return joint.sample_timeline(loaded.model, timeline, latent, settings, blend="triangle")["samples"]
        return rollout.sample_rollout(loaded.model, timeline, latent, settings)[0]["samples"]


@pytest.mark.parametrize("mode", ["joint", "rollout"])
@pytest.mark.parametrize("sampler", WRITES_INTO_SIGMAS)
def test_sigmas_come_back_as_they_were_and_the_next_queue_is_the_same(tiny, sampler: str, mode: str):
    loaded = tiny("wan21")
    timeline, sigmas = story(loaded.model), sigmas_of(loaded.model, STEPS)
    before = sigmas.clone()
    first = sample(loaded, timeline, sampler, sigmas, mode)
    assert torch.equal(sigmas, before)
    assert torch.equal(sample(loaded, timeline, sampler, sigmas, mode), first)


@pytest.mark.parametrize("mode", ["joint", "rollout"])
def test_the_next_sampler_is_not_changed_by_the_one_before(tiny, mode: str):
    loaded = tiny("wan21")
    timeline, sigmas = story(loaded.model), sigmas_of(loaded.model, STEPS)
    alone = sample(loaded, timeline, "res_multistep", sigmas.clone(), mode)
    sample(loaded, timeline, "uni_pc", sigmas, mode)
    assert torch.equal(sample(loaded, timeline, "res_multistep", sigmas, mode), alone)


def test_core_still_writes_into_its_sigmas(tiny):
    """Otherwise the tests above show nothing, and the copies may go."""
    model = tiny("wan21").model
    noise, changed = torch.randn(1, 16, 2, 4, 4, generator=torch.Generator().manual_seed(0)), []
    for name in WRITES_INTO_SIGMAS:
        sigmas = sigmas_of(model, STEPS)
        before = sigmas.clone()
        function = comfy.samplers.sampler_object(name).sampler_function
        function(lambda x, sigma, **kwargs: x * 0.5, noise.clone(), sigmas, extra_args={}, callback=None, disable=True)
        changed.append(not torch.equal(sigmas, before))
    assert any(changed)


def keyframes(*percents: float) -> comfy.hooks.HookKeyframeGroup:
    group = comfy.hooks.HookKeyframeGroup()
    for percent in percents:
        group.add(comfy.hooks.HookKeyframe(strength=percent, start_percent=percent))
    return group


@pytest.mark.parametrize("percents", [(), (0.0, 0.5, 0.9)])
def test_hook_keyframes_are_known_by_what_was_set_and_not_by_how_far_they_have_come(percents):
    group = keyframes(*percents)
    before = identity.plain(group)
    group._curr_t, group._current_used_steps, group._current_index = 0.25, 3, len(percents)
    group._current_keyframe, group._current_strength = (group.keyframes[-1] if percents else None), 0.9
    assert identity.plain(group) == before
    assert group._curr_t == 0.25, "what is hashed must not be changed"
    assert identity.plain(keyframes(*percents, 0.95)) != before


def euler_that_writes():
    """Core's euler, and then over its sigmas, as uni_pc does on its way."""
    euler = comfy.k_diffusion.sampling.sample_euler

    def sample_euler(model, x, sigmas, *args, **kwargs):
        out = euler(model, x, sigmas, *args, **kwargs)
        sigmas[:-1] = 0.5  # core itself reads the last one afterwards
        return out

    return sample_euler


def test_refine_by_steps_lends_each_chunk_sigmas_of_its_own(tiny, monkeypatch):
    """None of core's solvers of one step writes into its sigmas today; uni_pc shows that one may."""
    loaded = tiny("wan21")
    timeline, sigmas = story(loaded.model), sigmas_of(loaded.model, 2)
    latent = {"samples": empty(timeline) + 0.1}

    def refined() -> torch.Tensor:
        settings = sampling_of(encode(loaded, timeline), sigmas, comfy.samplers.sampler_object("euler"), 3.0, 7)
        with torch.inference_mode():
            out = refine.refine(loaded.model, latent, settings, strength=1.0, blend="step", timeline=timeline)
        return out["samples"]

    right, before = refined(), sigmas.clone()
    monkeypatch.setattr(comfy.k_diffusion.sampling, "sample_euler", euler_that_writes())
    assert torch.equal(refined(), right)
    assert torch.equal(sigmas, before)


def test_the_edited_video_of_prompt_edit_has_the_sigmas_of_its_original(tiny):
    loaded = tiny("wan21")
    timeline, sigmas = story(loaded.model), sigmas_of(loaded.model, STEPS)
    before, conds = sigmas.clone(), encode(loaded, timeline)
    layout = prompt_edit.Layout(conds[0], 0.0, 1.0)
    model = prompt_edit.attach(loaded.model, prompt_edit.PromptEdit(frozenset(range(4)), layout=layout))

    def edited(sampler) -> torch.Tensor:
        settings = sampling_of(conds, sigmas, sampler, 3.0, 7)
        with torch.inference_mode():
            out = joint.sample_timeline(model, timeline, {"samples": empty(timeline)}, settings, blend="triangle")
        return out["samples"]

    right = edited(comfy.samplers.sampler_object("euler"))
    assert torch.equal(edited(comfy.samplers.KSAMPLER(euler_that_writes())), right)
    assert torch.equal(sigmas, before)
