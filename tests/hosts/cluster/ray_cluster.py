"""A Longreel Cluster of two workers on loopback, real ones, for the tests of hosts/cluster: Ray, two ComfyUI processes
with the pack, and this process as the ComfyUI that asks.

Ray lies in a folder of its own (dev.provide_ray); it is on the path of this process and of what it starts while the
cluster runs. The workers get what `python -m longreel.cluster join` gives them.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import nodes as core
from comfy_extras.nodes_custom_sampler import BasicScheduler, KSamplerSelect

from longreel import dev
from longreel.hosts.cluster import pool
from longreel.nodes import NODES
from tests.bench_support import call
from tests.comfy_inprocess import find_comfyui
from tests.comfy_process import PACK_FOLDER_NAME, lay_out

ARGUMENTS = ("--cpu", "--use-pytorch-cross-attention", "--disable-api-nodes")
KINDS = {
    **{node.define_schema().node_id: node for node in NODES},
    "BasicScheduler": BasicScheduler,
    "KSamplerSelect": KSamplerSelect,
}


@contextmanager
def ray_at_hand() -> Iterator[Path]:
    """Let Ray be found, and give workers a base folder with the pack, which is yielded."""
    home = str(dev.provide_ray())
    with tempfile.TemporaryDirectory(prefix="longreel-cluster-") as folder:
        lay_out(Path(folder), {PACK_FOLDER_NAME: dev.ROOT})
        before = dict(os.environ)
        sys.path.insert(0, home)
        os.environ |= {
            "PYTHONPATH": home,
            "LONGREEL_CLUSTER_COMFYUI": str(find_comfyui()),
            "LONGREEL_CLUSTER_ARGUMENTS": json.dumps([*ARGUMENTS, "--base-directory", folder]),
        }
        try:
            yield Path(folder)
        finally:
            pool.close()
            sys.path.remove(home)
            os.environ.clear()
            os.environ.update(before)
            (Path(folder) / "custom_nodes" / PACK_FOLDER_NAME).unlink()


def evaluate(prompt: dict[str, dict[str, Any]], node_id: str, known: dict[str, tuple]) -> tuple:
    """The outputs of a node, with those before it, as ComfyUI's executor would make them; `known` has them by id."""
    if node_id not in known:
        made = {}
        for name, value in prompt[node_id]["inputs"].items():
            made[name] = evaluate(prompt, value[0], known)[value[1]] if isinstance(value, list) else value
        kind = prompt[node_id]["class_type"]
        with torch.inference_mode():
            known[node_id] = call(KINDS.get(kind) or core.NODE_CLASS_MAPPINGS[kind], **made)
    return known[node_id]
