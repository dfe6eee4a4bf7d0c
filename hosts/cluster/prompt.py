"""Cut the graph that the user queued down to what makes one sampler's inputs, for a worker to execute.

A worker rebuilds model, LoRAs, patches and conditioning with the nodes that the user wired, so that what is sampled is
what is wired, whichever packs the nodes are from. Everything in front of the sampler runs once on each worker.
"""

from collections.abc import Mapping
from typing import Any

from .settings import ClusterError

Prompt = Mapping[str, Mapping[str, Any]]  # ComfyUI's API format: node id -> class_type and inputs
TAKE = "LongreelClusterTake"
SAMPLER, CLUSTER = "LongreelSampler", "cluster"
TRAINERS = ("LongreelTrainTTT", "LongreelTrainAnchorLoRA")  # whose work is not to be done once more on each worker


def for_worker(prompt: Prompt | None, node_id: str) -> dict[str, dict[str, Any]]:
    """Return the nodes in front of a Longreel Sampler, and in its place the node that makes one take of it.

    Raises ClusterError for a sampler that does not stand in the queued graph, and for trainers in front of it.
    """
    sampler = None if prompt is None else prompt.get(node_id)
    if prompt is None or sampler is None or sampler.get("class_type") != SAMPLER:
        raise ClusterError(
            f"Longreel Cluster finds no Longreel Sampler {node_id} in the graph that was queued, as in a loop whose "
            f"turns are made while it runs; unwire cluster from this sampler"
        )
    inputs = {name: value for name, value in sampler["inputs"].items() if name != CLUSTER}
    found = {node_id: {"class_type": TAKE, "inputs": inputs}}
    waiting = [node_id]
    while waiting:
        for value in found[waiting.pop()]["inputs"].values():
            if _is_link(value) and value[0] not in found and value[0] in prompt:
                node = prompt[value[0]]
                if node["class_type"] in TRAINERS:
                    raise ClusterError(
                        f"node {value[0]} ({node['class_type']}) stands in front of Longreel Sampler, and each worker "
                        f"would train once more; save what it trains, and load the file"
                    )
                found[value[0]] = {"class_type": node["class_type"], "inputs": dict(node["inputs"])}
                waiting.append(value[0])
    return found


def _is_link(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)
