"""Longreel Latent Blend: joint sampling of a timeline with any sampler."""

from comfy_api.latest import io

from ..engine.plan.timeline import with_segments
from ..engine.sampling.latent_blend import BLENDS
from ..hosts.windows import latent_blend
from .ranges import check_ranges, check_segments
from .sockets import TimelineSocket


class LongreelLatentBlend(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongreelLatentBlend",
            display_name="Longreel Latent Blend",
            category="Longreel/sampling",
            description="Lets any sampler denoise all segments of a timeline together and blends them where they "
            "overlap (DiTCtrl, StreamingT2V). Use the latent of Longreel Plan and the conditioning of Longreel Encode.",
            search_aliases=[
                "context windows",
                "ditctrl",
                "streamingt2v",
                "randomized blending",
                "long video",
                "crossfade",
                "smooth transition",
                "prompt travel",
                "sliding window",
                "overlap",
            ],
            inputs=[
                io.Model.Input("model", tooltip="Any supported video model, with LoRAs and other patches as usual."),
                TimelineSocket.Input("timeline", tooltip="From Longreel Plan."),
                io.Combo.Input(
                    "blend",
                    options=list(BLENDS),
                    default="triangle",
                    tooltip=(
                        "triangle: weights of a whole-segment triangle (DiTCtrl). randomized: a new hard cut in every "
                        "overlap at every evaluation (StreamingT2V). linear: a ramp over the overlap. cut: a hard "
                        "switch mid-overlap."
                    ),
                ),
                io.Int.Input(
                    "blend_seed",
                    default=0,
                    min=0,
                    max=2**64 - 1,
                    tooltip="Draws the cuts of the randomized blend; 0 to 2^64-1.",
                ),
                io.Int.Input(
                    "segment_latent_frames",
                    default=0,
                    min=0,
                    max=1024,
                    advanced=True,
                    tooltip="Latent frames per segment, 2 or more; 0 keeps the plan's.",
                ),
                io.Int.Input(
                    "overlap_latent_frames",
                    default=-1,
                    min=-1,
                    max=1023,
                    advanced=True,
                    tooltip=(
                        "Latent frames that neighbouring segments share; -1 keeps the plan's, or takes just under half "
                        "of a segment whose length is set here."
                    ),
                ),
                io.Int.Input(
                    "transition_prompts",
                    default=-1,
                    min=-1,
                    max=16,
                    advanced=True,
                    tooltip="In-between prompts per 'blend' transition, 0 to 16; -1 keeps the plan's.",
                ),
                io.Boolean.Input(
                    "lead_frame",
                    default=True,
                    advanced=True,
                    tooltip=(
                        "Shows each later segment one more latent frame in front, which is dropped again: video VAEs "
                        "make their first latent frame from a single picture and models expect one there. Costs one "
                        "frame per segment."
                    ),
                ),
            ],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def validate_inputs(
        cls, segment_latent_frames: int | None = None, overlap_latent_frames: int | None = None
    ) -> bool:
        check_ranges(
            segment_latent_frames=(segment_latent_frames, 0, 1024),
            overlap_latent_frames=(overlap_latent_frames, -1, 1023),
        )
        check_segments("latent_frames", segment_latent_frames, overlap_latent_frames, shortest=2)
        return True

    @classmethod
    def execute(
        cls,
        model,
        timeline,
        blend,
        blend_seed,
        segment_latent_frames,
        overlap_latent_frames,
        transition_prompts,
        lead_frame,
    ):
        timeline = with_segments(
            timeline,
            segment_latent_frames or None,
            overlap_latent_frames if overlap_latent_frames >= 0 else None,
            transition_prompts if transition_prompts >= 0 else None,
        )
        return io.NodeOutput(latent_blend.attach(model, timeline, blend, blend_seed, lead_frame))
