"""Longreel Pair: the features of one expert on the other one, too."""

from comfy_api.latest import io

from ..hosts.sampling.pair import pair


class LongreelPair(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongreelPair",
            display_name="Longreel Pair",
            category="Longreel/sampling",
            description="Gives the second expert of Wan 2.2 14B what Longreel's nodes have put onto the first one, so "
            "that KV Share, Prompt Edit, memories, anchors and Latent Blend are wired once.",
            search_aliases=[
                "wan 2.2",
                "two experts",
                "high noise",
                "low noise",
                "apply to both models",
                "model pair",
                "mixture of experts",
            ],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The high-noise expert, from behind the last Longreel node that it passes; it stays so.",
                ),
                io.Model.Input(
                    "low_noise_model",
                    tooltip=(
                        "The low-noise expert as it is loaded, with its own LoRAs and shift, and without nodes of "
                        "Longreel."
                    ),
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="As it came in."),
                io.Model.Output(
                    display_name="low_noise_model",
                    tooltip="With the features of the first; to low_noise_model of Longreel Sampler, or to KSampler.",
                ),
                io.String.Output(display_name="report", tooltip="What was carried, and what was not."),
            ],
        )

    @classmethod
    def execute(cls, model, low_noise_model):
        paired, report = pair(model, low_noise_model)
        return io.NodeOutput(model, paired, report)
