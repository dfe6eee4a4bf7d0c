"""hosts/sampling/experts.py: two experts in one joint sampling are core's two samplers, what is kept stays clean for
both, and what the second one refuses stops before the first one begins."""

from dataclasses import replace

import pytest
import torch

import comfy.samplers
import latent_preview
import nodes
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_custom_sampler import SplitSigmas

from longreel.engine.plan.anchor import CLEAN, INPAINT, place_anchor
from longreel.engine.plan.card_memory import Card
from longreel.engine.plan.timeline import plan_timeline
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.hosts import facts_of
from longreel.hosts.anchor import frame as anchor_frame
from longreel.hosts.attention import card, patching
from longreel.hosts.features.prompt_edit import Layout, PromptEdit
from longreel.hosts.memory.long_memory import BEFORE, VIDEO, LongMemory
from longreel.hosts.sampling import experts as experts_file
from longreel.hosts.sampling import joint, rollout
from longreel.hosts.sampling.experts import HIGH_NOISE, LOW_NOISE
from longreel.hosts.windows import latent_blend
from tests.hosts.rollout_cases import sigmas_of
from tests.hosts.sampling_cases import sampling_of
from tests.hosts.windows.test_latent_blend import Recorder, empty, encode

STEPS = 4  # of core's simple schedule at Wan's shift: 1, 0.96, 0.89, 0.73; the last one is below 0.875
HIGH_STEPS = 3
EVERY = frozenset(range(4))
SHOTS = (Shot("a", 1.0), Shot("b", 1.0, "blend"), Shot("c", 1.0, "cut", seed=5))


@pytest.fixture
def high(tiny):
    return tiny("wan22_14b_high")


@pytest.fixture
def low(tiny):
    return tiny("wan22_14b_low")


@pytest.fixture
def timeline(high):
    return plan_timeline(Storyboard(SHOTS, width=64, height=64), facts_of(high.model), segment_frames=5)


def sample(loaded, timeline, model=None, latent=None, blend="triangle", steps=STEPS, **options):
    settings = sampling_of(encode(loaded, timeline), sigmas_of(loaded.model, steps))
    latent = {"samples": empty(timeline)} if latent is None else latent
    with torch.inference_mode():
        model = loaded.model if model is None else model
        return joint.sample_timeline(model, timeline, latent, settings, blend=blend, **options)["samples"]


@pytest.mark.parametrize("blend", ["triangle", "randomized"])
def test_it_is_the_templates_two_samplers_on_two_blended_models(high, low, timeline, blend):
    out = sample(high, timeline, low_noise_model=low.model, blend=blend)
    first, second = (latent_blend.attach(one.model, timeline, blend, 7) for one in (high, low))
    conds, core = encode(high, timeline), nodes.KSamplerAdvanced()
    with torch.inference_mode():
        (left,) = core.sample(
            first, "enable", 7, STEPS, 3.0, "euler", "simple", *conds, {"samples": empty(timeline)}, 0, 3, "enable"
        )
        (two,) = core.sample(
            second, "disable", 7, STEPS, 3.0, "euler", "simple", *conds, left, HIGH_STEPS, 10000, "disable"
        )
    assert torch.equal(out, two["samples"])
    assert not torch.allclose(out, sample(high, timeline, blend=blend), atol=1e-2)


def test_it_is_two_of_these_samplers_with_split_sigmas(high, low, timeline):
    out = sample(high, timeline, low_noise_model=low.model)
    settings = sampling_of(encode(high, timeline), sigmas_of(high.model, STEPS))
    parts = SplitSigmas.execute(settings.sigmas, HIGH_STEPS).result
    latent = {"samples": empty(timeline)}
    with torch.inference_mode():
        for one, part, noise in ((high, parts[0], True), (low, parts[1], False)):
            of_part = replace(settings, sigmas=part, add_noise=noise)
            latent = joint.sample_timeline(one.model, timeline, latent, of_part, blend="triangle")
    assert torch.equal(out, latent["samples"])


def masked(timeline):
    """A finished video of which the first frames are kept, and the rest drawn again."""
    given = torch.randn(empty(timeline).shape, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(1, 1, timeline.latent_frames, 1, 1)
    mask[:, :, :5] = 0
    return {"samples": given, "noise_mask": mask}


def with_anchor(model, timeline, mode):
    place = place_anchor(1.0, timeline.fps, timeline.facts, mode, 1.0)
    picture = torch.full((1, 16, place.frames, 8, 8), 0.5)
    return anchor_frame.attach(model, [anchor_frame.Anchored(place, picture)])


@pytest.mark.parametrize("kept", ["mask", "clean anchor", "inpainted anchor"])
def test_two_experts_of_the_same_weights_are_one_model_whatever_is_kept(high, timeline, kept):
    """Core's second sampler would take the noise that is left for what the mask keeps."""
    model, latent = high.model, None
    if kept == "mask":
        latent = masked(timeline)
    else:
        model = with_anchor(model, timeline, CLEAN if kept == "clean anchor" else INPAINT)
    one = sample(high, timeline, model, latent)
    two = sample(high, timeline, model, latent, low_noise_model=model.clone())
    drawn = (latent["noise_mask"] == 1).flatten() if latent else torch.ones(timeline.latent_frames, dtype=torch.bool)
    torch.testing.assert_close(two[:, :, drawn], one[:, :, drawn], atol=2e-3, rtol=2e-3)
    if latent:
        torch.testing.assert_close(two[:, :, :5], latent["samples"][:, :, :5], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("meet", "seen"), [(0.0, "high"), (1.1, "low")])
def test_an_expert_without_steps_is_never_shown_anything(high, low, timeline, meet, seen):
    one, other = Recorder(high.model), Recorder(low.model)
    out = sample(high, timeline, one.model, low_noise_model=other.model, low_noise_from=meet)
    assert (bool(one.calls), bool(other.calls)) == (seen == "high", seen == "low")
    assert torch.equal(out, sample(high, timeline, (high if seen == "high" else low).model))


def test_progress_is_one_bar_over_both_and_names_the_expert_at_work(high, low, timeline, monkeypatch):
    bars, texts, models = [], [], []

    def prepare(model, steps):
        models.append(model.model)
        return lambda step, x0, x, total: bars.append((step, x0.shape[2], total))

    monkeypatch.setattr(latent_preview, "prepare_callback", prepare)
    monkeypatch.setattr(joint.ProgressText, "show", lambda self, text: texts.append(text))
    sample(high, timeline, low_noise_model=low.model)
    assert bars == [(step, 1, STEPS) for step in range(STEPS)] and models == [high.model.model, low.model.model]
    steps = [text for text in texts if text.startswith("step")]
    names = [HIGH_NOISE] * HIGH_STEPS + [LOW_NOISE]
    assert steps == [f"step {i + 1}/4, {name}, preview of shot {i % 3 + 1}/3" for i, name in enumerate(names)]


MEMORY = LongMemory(VIDEO, 2, BEFORE, 1.0, EVERY, 0.0)


def sample_in(mode, loaded, timeline, model, low_noise_model):
    if mode == "joint":
        return sample(loaded, timeline, model, low_noise_model=low_noise_model)
    settings = sampling_of(encode(loaded, timeline), sigmas_of(loaded.model, STEPS))
    with torch.inference_mode():
        return rollout.sample_rollout(
            model, timeline, {"samples": empty(timeline)}, settings, low_noise_model=low_noise_model
        )


@pytest.mark.parametrize("mode", ["joint", "rollout"])
@pytest.mark.parametrize("features", [True, False])
def test_a_second_expert_that_does_not_fit_is_refused_before_the_first_begins(
    high, low, timeline, monkeypatch, mode, features
):
    feature = MEMORY if mode == "rollout" else PromptEdit(EVERY, layout=Layout(None, 0.0, 1.0))
    second = patching.attach(low.model, feature) if features else low.model
    if mode == "rollout" and not features:
        second = patching.attach(low.model, replace(MEMORY, strength=0.0, statistics=0.1))
    room, card_of = Card("cuda:0", 2**16, 2**16, 0), card.card_of
    monkeypatch.setattr(card, "card_of", lambda model: room if model.model is low.model.model else card_of(model))
    watched = Recorder(high.model)
    with pytest.raises(ValueError, match=r"(MiB|KiB|bytes|GiB).* free on cuda:0"):
        sample_in(mode, high, timeline, watched.model, second)
    assert not watched.calls


@pytest.mark.parametrize("mode", ["joint", "rollout"])
def test_a_feature_of_the_second_expert_that_cannot_work_is_refused_before_the_first_begins(
    high, low, timeline, mode, monkeypatch
):
    def refuse(self, start):
        raise ValueError("not with this one")

    class Refusing(LongMemory):
        start = refuse

    second = patching.attach(low.model, Refusing(VIDEO, 2, BEFORE, 1.0, EVERY, 0.0))
    watched = Recorder(high.model)
    with pytest.raises(ValueError, match="not with this one"):
        sample_in(mode, high, timeline, watched.model, second)
    assert not watched.calls


def test_asking_loads_nothing_and_leaves_nothing_behind(high, low, timeline, monkeypatch):
    model = patching.attach(latent_blend.attach(low.model, timeline, "triangle"), MEMORY)
    before = dict(model.model_options["transformer_options"]), model.wrappers
    monkeypatch.setattr(comfy.samplers.CFGGuider, "outer_sample", None)  # it would load the model
    with pytest.raises(ValueError, match="remembers finished chunks"):
        conds, settings = encode(low, timeline), sampling_of(encode(low, timeline), sigmas_of(low.model))
        inputs = torch.ones_like(empty(timeline)), empty(timeline), None
        experts_file.ask(model, conds, settings, settings.sigmas, inputs)
    plain = latent_blend.attach(low.model, timeline, "triangle")
    experts_file.ask(plain, conds, settings, settings.sigmas, inputs)
    assert (dict(model.model_options["transformer_options"]), model.wrappers) == before
    assert WrappersMP.OUTER_SAMPLE in plain.wrappers


def test_what_cannot_be_a_second_expert_is_refused(tiny, high, low, timeline):
    with pytest.raises(ValueError, match="the timeline is planned for Wan .* and the model is LTXV"):
        sample(high, timeline, low_noise_model=tiny("ltxv").model)
    with pytest.raises(ValueError, match="first expert carries 1 anchors and the second carries 0"):
        sample(high, timeline, with_anchor(high.model, timeline, CLEAN), low_noise_model=low.model)
    with pytest.raises(ValueError, match="carries a Longreel Latent Blend; wire the model from before"):
        sample(high, timeline, low_noise_model=latent_blend.attach(low.model, timeline, "triangle"))
    cog = tiny("cogvideox10")
    of_cog = plan_timeline(Storyboard(SHOTS[:1], width=64, height=64), facts_of(cog.model))
    with pytest.raises(ValueError, match="CogVideoX is no flow model, and only flow models"):
        sample(cog, of_cog, low_noise_model=cog.model)
