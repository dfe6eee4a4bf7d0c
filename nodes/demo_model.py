"""Longreel Demo Model: the embedded model that runs on any computer."""

from comfy_api.latest import io

from ..hosts import demo_model


class LongreelDemoModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongreelDemoModel",
            display_name="Longreel Demo Model",
            category="Longreel",
            description="The embedded demo model: one coloured shape that moves on a plain background, 64 x 64 pixels, "
            "16 frames per second, in Wan 2.1's architecture. Runs on any CPU; made for trying the nodes and "
            "for measuring them, not for beauty.",
            search_aliases=["shape world", "tiny model", "example model", "test model"],
            inputs=[],
            outputs=[io.Model.Output(), io.Clip.Output(), io.Vae.Output()],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(*demo_model.load_demo_model())
