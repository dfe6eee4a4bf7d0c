"""A test-only node pack: it gives a real ComfyUI process the text encoder of the tiny models.

Link this folder into custom_nodes (the name there does not matter) and use node `TinyClip` where a workflow has
its CLIP loader. It is no part of what users install and knows nothing about the pack.
"""

from comfy_api.latest import ComfyExtension, io

from .tiny_clip import FAMILIES, make_tiny_clip


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


class TinyNodes(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [TinyClip]


async def comfy_entrypoint() -> TinyNodes:
    return TinyNodes()
