"""nodes/pair.py, and the second expert of nodes/sampler.py in mode joint, in a running ComfyUI."""

import pytest
import torch

from tests.nodes.graphs import EULER, change, latent, node, refusals, sampled, shared
from tests.nodes.test_rollout import LONG, long, rollout

JOINT = {"mode": "joint", "mode.low_noise_model": ["low", 0]}  # as a graph of the API that leaves low_noise_from out


@pytest.fixture(scope="module")
def base(tiny_models):
    """Longreel Sampler on the first expert, and the second one's loader."""
    prompt = sampled(tiny_models["wan22_14b_high"], EULER)
    steps = change(prompt, "sigmas", steps=4)  # at noise levels 1, 0.96, 0.89 and 0.73
    return {**steps, "low": tiny_models["wan22_14b_low"].prompt_nodes()["model"]}


def paired(prompt):
    """With Longreel Pair in front of both inputs of the sampler, and what its report says."""
    first = prompt["sample"]["inputs"]["model"]
    with_pair = {**prompt, "pair": node("LongreelPair", model=first, low_noise_model=["low", 0])}
    both = change(with_pair, "sample", model=["pair", 0], **{"mode.low_noise_model": ["pair", 1]})
    return {**both, "say": node("PreviewAny", source=["pair", 2])}


def test_a_second_expert_in_mode_joint_is_two_samplers_and_its_level_matters(server, base):
    one = change(base, "sample", **JOINT)
    halves = {
        **base,
        "split": node("SplitSigmas", sigmas=["sigmas", 0], step=3),
        "first": change(base, "sample", sigmas=["split", 0])["sample"],
        "second": change(base, "sample", model=["low", 0], sigmas=["split", 1], latent=["first", 0], add_noise=False)[
            "sample"
        ],
    }
    two = latent(server, change({key: halves[key] for key in halves if key != "sample"}, "save", samples=["second", 0]))
    assert torch.equal(latent(server, one), two)
    late = latent(server, change(one, "sample", **{"mode.low_noise_from": 0.7}))
    assert torch.equal(late, latent(server, base)) and not torch.equal(late, two)


def test_a_pair_gives_the_second_expert_the_features_of_the_first(server, base):
    share = shared(change(base, "sample", **JOINT), end_percent=1.0)
    both = paired(share)
    said = server.run(both)["say"]["text"][0]
    assert said == "carried onto the second model: Longreel KV Share"
    assert not torch.equal(latent(server, both), latent(server, share))
    unlike = {**share, "say": node("PreviewAny", source=["sample", 1])}
    assert "low_noise_model nothing of Longreel's; Longreel Pair gives" in server.run(unlike)["say"]["text"][0]


def test_a_pair_carries_memories_of_a_rollout(server, base):
    remembering = long(rollout(base, low_noise_model=["low", 0]), **LONG)
    both = paired(remembering)
    assert not torch.equal(latent(server, both), latent(server, remembering))
    assert "Longreel Long Memory" in server.run(both)["say"]["text"][0]


def test_a_level_out_of_range_is_refused(server, base):
    wrong = change(base, "sample", **JOINT, **{"mode.low_noise_from": 2.0})
    assert any("low_noise_from is 2.0; use 0.0 to 1.0" in message for message in refusals(server, wrong))
