"""Longreel Cluster in a running ComfyUI that has no Ray, and what Longreel Sampler refuses of a cluster."""

import pytest

from tests.comfy_inprocess import import_comfyui
from tests.comfy_process import ComfyError
from tests.nodes.graphs import EULER, change, node, refusals, sampled
from tests.nodes.test_rollout import rollout

import_comfyui()

from longreel.hosts.cluster.settings import ClusterSettings
from longreel.nodes.sampler import LongreelSampler


def clustered(prompt, **inputs):
    """A prompt with Longreel Cluster wired to its sampler."""
    cluster = node("LongreelCluster", **{"address": "", "workers": 2, "keep_workers": True, **inputs})
    return change({**prompt, "cluster": cluster}, "sample", cluster=["cluster", 0])


def test_without_ray_one_line_says_what_to_install_and_nothing_else_needs_it(server, tiny_models):
    prompt = rollout(sampled(tiny_models["wan21"], EULER), run_name="cluster")
    with pytest.raises(ComfyError, match=r"Longreel Cluster needs Ray, and this Python has none .* -m pip install"):
        server.run(clustered(prompt))
    assert server.run(prompt)["save"]["latents"]


def test_more_workers_than_there_can_be_are_refused_when_the_prompt_is_posted(server, tiny_models):
    prompt = rollout(sampled(tiny_models["wan21"], EULER), run_name="cluster")
    assert refusals(server, clustered(prompt, workers=257)) == ["workers"]


@pytest.mark.parametrize("mode", [None, {"mode": "joint"}, {"mode": "rollout", "run_name": ""}])
def test_a_cluster_without_a_run_folder_is_refused_before_anything_is_sampled(mode):
    unread = dict.fromkeys(["model", "timeline", "positive", "negative", "latent", "sampler", "sigmas"])
    with pytest.raises(ValueError, match="choose mode rollout and give a run_name, or unwire cluster"):
        LongreelSampler.execute(**unread, seed=0, cfg=1.0, blend="cut", mode=mode, cluster=ClusterSettings())
