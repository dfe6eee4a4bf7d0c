"""Rollouts of the tiny models for the tests of hosts/sampling/rollout.py and of the memories."""

import torch

import comfy.samplers

from longreel.engine.plan.timeline import Timeline, plan_timeline
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.hosts import facts_of
from longreel.hosts.sampling import rollout
from longreel.hosts.sampling.alpha_space import AlphaSpaceSampler
from tests.hosts.sampling_cases import sampling_of
from tests.hosts.windows.test_latent_blend import empty, encode

STEPS = 2


def story(model, transitions=("continue", "continue"), frames=8, segment=5, overlap=1, shots=None, **shot) -> Timeline:
    """Shots of `frames` latent frames; keywords are of the second one. `shots` are (prompt, seconds) to use instead."""
    facts = facts_of(model)
    seconds = frames * facts.temporal_stride / 16
    made = tuple(
        Shot(f"scene {i}", seconds, transition=t, **(shot if i == 1 else {})) for i, t in enumerate(transitions)
    )
    board = Storyboard(shots=shots or made, width=64, height=64, fps=16.0, negative="blurry")
    return plan_timeline(board, facts, segment_frames=segment, overlap_frames=overlap)


def sampler_for(model):
    """What suits the family: CogVideoX is sampled in alpha space."""
    if facts_of(model).family.startswith("CogVideoX"):
        return AlphaSpaceSampler("ddim", 0.0)
    return comfy.samplers.sampler_object("euler")


def sigmas_of(model, steps: int = STEPS) -> torch.Tensor:
    return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", steps)


def roll(
    loaded,
    timeline: Timeline,
    model=None,
    latent=None,
    conds=None,
    steps=STEPS,
    sigmas=None,
    cfg=3.0,
    seed=7,
    **options,
) -> torch.Tensor:
    """The latent [B, C, F, H, W] of a rollout."""
    return rolled(loaded, timeline, model, latent, conds, steps, sigmas, cfg, seed, **options)[0]


def rolled(
    loaded,
    timeline,
    model=None,
    latent=None,
    conds=None,
    steps=STEPS,
    sigmas=None,
    cfg=3.0,
    seed=7,
    add_noise=True,
    **options,
) -> tuple[torch.Tensor, str]:
    """The latent and the report."""
    model = loaded.model if model is None else model
    positive, negative = conds or encode(loaded, timeline)
    latent = {"samples": empty(timeline)} if latent is None else latent
    sigmas = sigmas_of(model, steps) if sigmas is None else sigmas
    with torch.inference_mode():
        out, report = rollout.sample_rollout(
            model,
            timeline,
            latent,
            sampling_of((positive, negative), sigmas, sampler_for(model), cfg, seed, add_noise),
            **options,
        )
    return out["samples"], report
