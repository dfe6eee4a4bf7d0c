"""A test-only node pack: it gives a real ComfyUI process the text encoder of the tiny models, and a loop.

Link this folder into custom_nodes (the name there does not matter) and use node `TinyClip` where a workflow has
its CLIP loader. It is no part of what users install and knows nothing about the pack.
"""

import json

from comfy_api.latest import ComfyExtension, io
from comfy_execution.graph_utils import GraphBuilder

from .tiny_clip import FAMILIES, make_tiny_clip
from .tiny_hearing import HUMO, S2V, Encoder


class TinyClip(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TinyClip",
            display_name="Tiny CLIP (tests)",
            category="Longreel tests",
            inputs=[io.Combo.Input("family", options=list(FAMILIES), tooltip="Model family whose text it encodes.")],
            outputs=[io.Clip.Output()],
        )

    @classmethod
    def execute(cls, family: str) -> io.NodeOutput:
        return io.NodeOutput(make_tiny_clip(family))


class TinyAudioEncoder(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TinyAudioEncoder",
            display_name="Tiny audio encoder (tests)",
            category="Longreel tests",
            inputs=[io.Combo.Input("network", options=["s2v", "humo"], tooltip="Network that hears it.")],
            outputs=[io.AudioEncoder.Output()],
        )

    @classmethod
    def execute(cls, network: str) -> io.NodeOutput:
        return io.NodeOutput(Encoder(*{"s2v": S2V, "humo": HUMO}[network]))


class TinyLoop(io.ComfyNode):
    """A loop whose body is one node, copied for each turn as core's loops of 0.31 and newer copy theirs."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TinyLoop",
            display_name="Tiny loop (tests)",
            category="Longreel tests",
            enable_expand=True,
            inputs=[
                io.String.Input("body", tooltip="Class of the node."),
                io.String.Input("settings", tooltip="Its other inputs, as JSON."),
                io.Int.Input("turns", default=2, min=1, max=8),
                io.Model.Input("model"),
                io.AnyType.Input("timeline"),
                io.Conditioning.Input("positive"),
                io.Conditioning.Input("negative"),
                io.Latent.Input("latent"),
                io.Sampler.Input("sampler"),
                io.Sigmas.Input("sigmas"),
            ],
            outputs=[io.String.Output(), io.String.Output()],
        )

    @classmethod
    def execute(cls, body: str, settings: str, turns: int, **wired) -> io.NodeOutput:
        graph = GraphBuilder()
        made = [graph.node(body, **wired, **json.loads(settings), seed=turn) for turn in range(turns)]
        return io.NodeOutput(made[0].out(1), made[-1].out(1), expand=graph.finalize())


class TinyNodes(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [TinyClip, TinyAudioEncoder, TinyLoop]


async def comfy_entrypoint() -> TinyNodes:
    return TinyNodes()
