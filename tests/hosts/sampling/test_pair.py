"""hosts/sampling/pair.py: the second expert is given what the first one carries, to the bit what wiring it by hand
gives; what belongs to one network is refused by name."""

import importlib
import pkgutil

import pytest
import torch

import longreel.hosts
from longreel.engine.attention.kv_share import PREVIOUS
from longreel.engine.plan.anchor import CLEAN, place_anchor
from longreel.engine.plan.timeline import plan_timeline
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.hosts import facts_of
from longreel.hosts.anchor import frame as anchor_frame
from longreel.hosts.attention import patching
from longreel.hosts.features import focus_preview, kv_share, prompt_edit
from longreel.hosts.features.prompt_edit import PromptEdit, Reweight
from longreel.hosts.memory import apm, cam, long_memory, short_memory
from longreel.hosts.sampling.pair import pair, unlike
from longreel.hosts.ttt import apply as ttt
from longreel.hosts.windows import latent_blend
from tests import tiny_sampling
from tests.hosts.rollout_cases import roll
from tests.hosts.sampling.test_experts import sample
from tests.hosts.windows.test_latent_blend import empty, encode

EVERY = frozenset(range(4))
SHARE = kv_share.KVShare("fast", PREVIOUS, 1, (), True, "replace", "aligned", 1.0, True, EVERY, 0.0, 1.0, None)


def with_anchor(model):
    place = place_anchor(1.0, 16.0, facts_of(model), CLEAN, 1.0)
    return anchor_frame.attach(model, [anchor_frame.Anchored(place, torch.full((1, 16, place.frames, 8, 8), 0.5))])


JOINT = {
    "kv share": lambda model: patching.attach(model, SHARE),
    "prompt edit": lambda model: prompt_edit.attach(
        model, PromptEdit(EVERY, Reweight(("a",), 3.0, "logits", 0.0, 1.0))
    ),
    "anchor": with_anchor,
}
KNOWN = short_memory.KnownFrames(short_memory.CLEAN, 0, 1.0, 0.0)
IN_ROLLOUT = {
    "known frames": lambda model: short_memory.attach(model, KNOWN),
    "keys and values": lambda model: short_memory.attach(model, short_memory.KeysAndValues(2, 1.0, 0.0, EVERY)),
    "long memory": lambda model: patching.attach(
        model, long_memory.LongMemory(long_memory.VIDEO, 2, long_memory.BEFORE, 1.0, EVERY, 0.0)
    ),
}
CARRIED = {kv_share.KVShare, PromptEdit, short_memory.KnownFrames, short_memory.KeysAndValues, long_memory.LongMemory}
REFUSED = {cam.CAMFeature, apm.APMFeature}
NEVER_ON_A_MODEL_OF_THE_GRAPH = {focus_preview.LookForWords}


@pytest.fixture
def experts(tiny):
    return tiny("wan22_14b_high"), tiny("wan22_14b_low")


@pytest.fixture
def timeline(experts):
    shots = Shot("a", 1.0), Shot("b", 1.0, "blend"), Shot("c", 1.0, "continue")
    return plan_timeline(Storyboard(shots, width=64, height=64), facts_of(experts[0].model), segment_frames=5)


def rolled(loaded, timeline, model, low_noise_model):
    return roll(loaded, timeline, model, steps=4, low_noise_model=low_noise_model)


@pytest.mark.parametrize("name", [*JOINT, *IN_ROLLOUT])
def test_a_pair_is_what_wiring_each_expert_by_hand_is(experts, timeline, name):
    high, low = experts
    add = (JOINT | IN_ROLLOUT)[name]
    first, by_hand = add(high.model), add(low.model)
    paired, report = pair(first, low.model)

    def run(second):
        if name in JOINT:
            return sample(high, timeline, first, low_noise_model=second)
        return rolled(high, timeline, first, second)

    out = run(paired)
    assert torch.equal(out, run(by_hand)) and report.startswith("carried onto the second model: ")
    assert unlike(first, paired) is None and not low.model.attachments
    assert not patching.features_of(low.model.model_options)
    if name != "anchor":  # one expert without anchors is refused
        assert not torch.equal(out, run(low.model)) and "Longreel Pair gives both" in unlike(first, low.model)


def test_latent_blend_is_carried_for_cores_two_samplers(experts, timeline):
    high, low = experts
    blended = latent_blend.attach(patching.attach(high.model, SHARE), timeline, "randomized", 3, lead_frame=False)
    paired, report = pair(blended, low.model)
    by_hand = latent_blend.attach(patching.attach(low.model, SHARE), timeline, "randomized", 3, lead_frame=False)
    assert report == "carried onto the second model: Longreel KV Share, Longreel Latent Blend"
    conds, latent = encode(low, timeline), empty(timeline)
    one, other = (tiny_sampling.sample(model, *conds, latent, steps=1) for model in (paired, by_hand))
    assert torch.equal(one, other)


def test_every_feature_of_the_pack_is_carried_or_refused():
    """One that is added must be thought of here."""
    found = set()
    for module in pkgutil.walk_packages(longreel.hosts.__path__, "longreel.hosts."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and {"start", "need"} <= {name for one in value.__mro__ for name in vars(one)}:
                found.add(value)
    found = {one for one in found if not getattr(one, "_is_protocol", False)}
    assert found == CARRIED | REFUSED | NEVER_ON_A_MODEL_OF_THE_GRAPH


def test_what_was_trained_for_one_network_is_refused_by_name(experts):
    high, low = experts
    for add, name in ((ttt.apply, "TTT layers"), (cam.attach, "a trained CAM"), (apm.attach, "a trained APM")):
        carrying = add(high.model, None)
        with pytest.raises(
            ValueError, match=f"carries {name}, and what was trained for one network .* behind Longreel"
        ):
            pair(carrying, low.model)
        with pytest.raises(
            ValueError, match=f"carries {name}, and what was trained for one network .* behind Longreel"
        ):
            pair(high.model, add(low.model, None))


@pytest.mark.parametrize(
    ("add", "name"),
    [
        (JOINT["kv share"], "Longreel KV Share"),
        (with_anchor, "Longreel Anchor Frame"),
        (lambda model: latent_blend.attach(model, _timeline(model), "cut"), "Longreel Latent Blend"),
    ],
)
def test_a_second_model_that_carries_something_is_refused(experts, add, name):
    high, low = experts
    with pytest.raises(ValueError, match=f"the second model carries {name} already, .* wire it from before that node"):
        pair(high.model, add(low.model))


def _timeline(model):
    return plan_timeline(Storyboard((Shot("a", 1.0),), width=64, height=64), facts_of(model))


def test_models_of_two_kinds_are_refused(tiny, experts, monkeypatch):
    high, low = experts
    with pytest.raises(ValueError, match="the first model is Wan .* and the second is LTXV .* experts of one"):
        pair(high.model, tiny("ltxv").model)
    shorter = low.model.clone()
    monkeypatch.setattr("longreel.hosts.sampling.pair.block_count", lambda model: 3 if model is shorter else 4)
    with pytest.raises(ValueError, match="the first model has 4 blocks and the second 3, so their features"):
        pair(high.model, shorter)


def test_loras_are_not_carried_and_the_report_says_so(experts):
    high, low = experts
    key = "diffusion_model.blocks.0.self_attn.q.weight"
    patched = JOINT["kv share"](high.model)
    assert patched.add_patches({key: (torch.zeros(64, 64),)})
    paired, report = pair(patched, low.model)
    assert (
        "not carried: the first model's LoRAs and other patches, of 1 weights; the second model has patches of 0"
        in report
    )
    assert not paired.patches
    assert pair(high.model, low.model)[1].startswith("nothing is carried: the first model has no feature of Longreel")
