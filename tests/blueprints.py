"""Builds the pack's subgraph blueprints: a storyboard to a video in one box, as ComfyUI's node library offers them.

    python -m tests.blueprints      writes subgraphs/*.json, as ComfyUI's node definitions say today

A blueprint is a workflow of a single node whose type is a subgraph (core's app/subgraph_manager.py serves the files).
Its sockets are the loaders' and the storyboard's, its widgets those that people set; what is inside can be opened.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

from longreel import dev
from tests.comfy_process import ComfyProcess
from tests.pack_identity import stamp
from tests.ready_workflows.graph import SOCKET, TITLE, WIDGET, Graph, Node, Wire

FOLDER = dev.ROOT / "subgraphs"
BOX = 1000  # id of the one node
INPUT, OUTPUT = -10, -20  # ids of a subgraph's two ends, fixed by the editor
SOCKETS = {"model": "MODEL", "clip": "CLIP", "vae": "VAE", "storyboard": "LONGREEL_STORYBOARD"}
WIDGETS: dict[str, tuple[str, Any]] = {  # name: type and value; what the model wants stands on the page of Plan
    "steps": ("INT", 20),
    "cfg": ("FLOAT", 5.0),
    "sampler_name": ("COMBO", "euler"),
    "scheduler": ("COMBO", "simple"),
    "segment_frames": ("INT", 0),
    "overlap_frames": ("INT", -1),
}
Build = Callable[["Blueprint"], None]


class Blueprint:
    """A subgraph that grows: `graph` takes the nodes inside, `given` the box's own inputs."""

    def __init__(self, object_info: dict, sockets: dict[str, str], widgets: dict[str, tuple[str, Any]]):
        self.graph = Graph(object_info)
        self.sockets, self.widgets = sockets, widgets
        self.kinds = {**sockets, **{name: kind for name, (kind, _) in widgets.items()}}
        self.outputs: dict[str, Wire] = {}

    def given(self, name: str) -> Wire:
        """Return the box's input of a name, to be given to a node inside."""
        return Wire(INPUT, list(self.kinds).index(name), self.kinds[name])

    def as_json(self, name: str, description: str, aliases: list[str]) -> dict:
        """Return the blueprint; ids are made from `name` and stay when it is made anew."""
        number = len(self.graph.links)
        links = [*self.graph.links]
        for slot, (_, wire) in enumerate(self.outputs.items()):
            number += 1
            links.append([number, wire.node, wire.slot, OUTPUT, slot, wire.kind])
        bodies = {node.number: node.body for node in self.graph.nodes}
        for link in links:
            if link[1] != INPUT:
                bodies[link[1]]["outputs"][link[2]]["links"].append(link[0])
        right = max(body["pos"][0] + body["size"][0] for body in bodies.values())
        kind = identity(name, "box")
        subgraph = {
            "id": kind, "version": 1,
            "state": {"lastGroupId": 0, "lastNodeId": BOX, "lastLinkId": number, "lastRerouteId": 0},
            "revision": 0, "config": {}, "name": name,
            "inputNode": {"id": INPUT, "bounding": [-220, 0, 140, 20 * len(self.kinds) + 40]},
            "outputNode": {"id": OUTPUT, "bounding": [right + 80, 0, 120, 20 * len(self.outputs) + 40]},
            "inputs": [
                {
                    "id": identity(name, f"input {key}"), "name": key, "type": of,
                    "linkIds": [link[0] for link in links if (link[1], link[2]) == (INPUT, slot)],
                    "pos": [-100, 20 * slot + 20],
                }
                for slot, (key, of) in enumerate(self.kinds.items())
            ],
            "outputs": [
                {
                    "id": identity(name, f"output {key}"), "name": key, "type": wire.kind,
                    "linkIds": [link[0] for link in links if (link[3], link[4]) == (OUTPUT, slot)],
                    "pos": [right + 100, 20 * slot + 20],
                }
                for slot, (key, wire) in enumerate(self.outputs.items())
            ],
            "widgets": [], "nodes": list(bodies.values()), "groups": [],
            "links": [
                dict(zip(("id", "origin_id", "origin_slot", "target_id", "target_slot", "type"), link, strict=True))
                for link in links
            ],
            "extra": {}, "category": "Longreel", "description": description,
        }  # fmt: skip
        box = {
            "id": BOX, "type": kind, "pos": [0, 0], "size": [340, self._height()], "flags": {}, "order": 0, "mode": 0,
            "inputs": [
                {"name": key, "type": of, "link": None, **({"widget": {"name": key}} if key in self.widgets else {})}
                for key, of in self.kinds.items()
            ],
            "outputs": [{"name": key, "type": wire.kind, "links": []} for key, wire in self.outputs.items()],
            "title": name,
            "properties": {"proxyWidgets": [["-1", key] for key in self.widgets]},
            "widgets_values": [value for _, value in self.widgets.values()],
        }  # fmt: skip
        return stamp({
            "id": identity(name, "file"), "revision": 0, "last_node_id": BOX, "last_link_id": 0, "nodes": [box],
            "links": [], "groups": [], "definitions": {"subgraphs": [subgraph]}, "config": {},
            "extra": {"BlueprintDescription": description, "BlueprintSearchAliases": aliases}, "version": 0.4,
        })  # fmt: skip

    def _height(self) -> int:
        return SOCKET * len(self.sockets) + WIDGET * len(self.widgets) + TITLE


def identity(name: str, part: str) -> str:
    """Return an id that is the same whenever a blueprint is made."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"longreel/blueprint/{name}/{part}"))


def _plan(box: Blueprint, model: Wire) -> tuple[Node, Node]:
    """Add the plan and the prompts of the storyboard."""
    graph = box.graph
    graph.column("Story")
    plan = graph.add(
        "LongreelPlan", model=model, storyboard=box.given("storyboard"), steps=box.given("steps"),
        segment_frames=box.given("segment_frames"), overlap_frames=box.given("overlap_frames"),
    )  # fmt: skip
    return plan, graph.add("LongreelEncode", clip=box.given("clip"), timeline=plan.out("timeline"))


def _film(box: Blueprint, model: Wire, plan: Node, encode: Node, **mode: Any) -> None:
    """Add sampler and decoder; the box's outputs are the video and what was made."""
    graph = box.graph
    graph.column("Sampling")
    chosen = graph.add("KSamplerSelect", sampler_name=box.given("sampler_name"))
    sigmas = graph.add(
        "BasicScheduler", model=model, scheduler=box.given("scheduler"), steps=box.given("steps"), denoise=1.0
    )  # fmt: skip
    graph.column("Sampling")
    sampled = graph.add(
        "LongreelSampler", model=model, timeline=plan.out("timeline"), positive=encode.out("positive"),
        negative=encode.out("negative"), latent=plan.out("latent"), sampler=chosen.out(), sigmas=sigmas.out(),
        seed=plan.out("seed"), cfg=box.given("cfg"), **mode,
    )  # fmt: skip
    graph.column("Video")
    video = graph.add(
        "LongreelDecodeToVideo", vae=box.given("vae"), samples=sampled.out("LATENT"), fps=plan.out("fps"),
        timeline=plan.out("timeline"),
    )  # fmt: skip
    box.outputs = {"video": video.out("video"), "plan": plan.out("report"), "report": sampled.out("report")}


def _storyboard(box: Blueprint) -> None:
    plan, encode = _plan(box, box.given("model"))
    _film(box, box.given("model"), plan, encode)


def _rollout(box: Blueprint) -> None:
    box.graph.column("Model")
    short = box.graph.add(
        "LongreelShortMemory", model=box.given("model"), method="known frames", method__shown="clean"
    )  # fmt: skip
    model = box.graph.add("LongreelLongMemory", model=short.out(), preset="same scene throughout").out()
    plan, encode = _plan(box, model)
    _film(box, model, plan, encode, mode="rollout", mode__run_name=box.given("run_name"))


def _anchored(box: Blueprint) -> None:
    plan, encode = _plan(box, box.given("model"))
    box.graph.column("Sampling")
    anchor = box.graph.add(
        "LongreelAnchorFrame", model=box.given("model"), picture="image", picture__image=box.given("image"),
        picture__vae=box.given("vae"), timeline=plan.out("timeline"),
    )  # fmt: skip
    _film(box, anchor.out("MODEL"), plan, encode)


BLUEPRINTS: dict[str, tuple[Build, dict[str, str], dict[str, tuple[str, Any]], str, list[str]]] = {
    "Longreel Storyboard to Video": (
        _storyboard, SOCKETS, WIDGETS,
        "Samples all shots of a storyboard together, blends them where they overlap, and writes the video.",
        ["storyboard", "long video", "multi shot", "prompt travel", "text to video"],
    ),
    "Longreel Rollout to Video": (
        _rollout, SOCKETS, {**WIDGETS, "run_name": ("STRING", "")},
        "Samples a storyboard chunk after chunk, with short and long memory, kept on disk under run_name, and writes "
        "the video.",
        ["rollout", "infinite video", "extend video", "endless video", "resume"],
    ),
    "Longreel Anchored Video": (
        _anchored, {**SOCKETS, "image": "IMAGE"}, WIDGETS,
        "Samples a storyboard that begins with a picture, also on a model that was made for text alone, and writes the "
        "video.",
        ["image to video", "first frame", "start image", "anchor frame", "reference image"],
    ),
}  # fmt: skip


def build(name: str, object_info: dict) -> dict:
    """Return a blueprint, with a server's /object_info."""
    make, sockets, widgets, description, aliases = BLUEPRINTS[name]
    box = Blueprint(object_info, sockets, widgets)
    make(box)
    return box.as_json(name, description, aliases)


def main() -> None:
    with ComfyProcess() as comfy:
        definitions = comfy.object_info()
    FOLDER.mkdir(exist_ok=True)
    for name in BLUEPRINTS:
        text = json.dumps(build(name, definitions), indent=1, ensure_ascii=False) + "\n"
        (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
