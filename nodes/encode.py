"""Longreel Encode: one prompt per shot."""

from comfy_api.latest import io

from ..hosts.prompts import conditioning
from .sockets import TimelineSocket


class LongreelEncode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongreelEncode",
            display_name="Longreel Encode",
            category="Longreel/storyboard",
            description="Encodes every shot's prompt and negative prompt. Each entry carries its shot, so the "
            "conditioning may pass through core nodes before Longreel Latent Blend or Longreel Sampler uses it.",
            search_aliases=[
                "storyboard prompt",
                "multi prompt",
                "clip text encode timeline",
                "prompt travel",
                "prompt schedule",
                "prompt relay",
                "prompt per shot",
            ],
            inputs=[
                io.Clip.Input("clip", tooltip="The model's text encoder."),
                TimelineSocket.Input("timeline", tooltip="From Longreel Plan."),
                io.AudioEncoder.Input(
                    "audio_encoder",
                    optional=True,
                    tooltip=(
                        "From core's Load Audio Encoder, for shots that have an audio: wav2vec2 large for Wan 2.2 S2V, "
                        "whisper large v3 for HuMo."
                    ),
                ),
            ],
            outputs=[io.Conditioning.Output(display_name="positive"), io.Conditioning.Output(display_name="negative")],
        )

    @classmethod
    def execute(cls, clip, timeline, audio_encoder=None):
        return io.NodeOutput(*conditioning.encode_timeline(clip, timeline, audio_encoder))
