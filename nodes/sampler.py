"""Longreel Sampler: one sampler for a whole storyboard."""

from comfy_api.latest import io

from ..engine.latent_blend import BLENDS
from ..hosts import sampling
from .sockets import TimelineSocket


class LongreelSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongreelSampler",
            display_name="Longreel Sampler",
            category="Longreel",
            description="Samples a storyboard: all segments together, step by step, blended where they overlap. The "
                        "preview walks through the shots.",
            search_aliases=["storyboard sampler", "long video sampler", "multi shot"],
            inputs=[
                io.Model.Input("model", tooltip="A supported video model without Longreel Latent Blend; this node brings its own."),
                TimelineSocket.Input("timeline", tooltip="From Longreel Plan."),
                io.Conditioning.Input("positive", tooltip="From Longreel Encode."),
                io.Conditioning.Input("negative", tooltip="From Longreel Encode; shapes the result when cfg is above 1."),
                io.Latent.Input("latent", tooltip="From Longreel Plan, or a latent of the same size to start from."),
                io.Sampler.Input("sampler", tooltip="Any core sampler; Longreel Alpha-Space Sampler for CogVideoX."),
                io.Sigmas.Input("sigmas", tooltip="From Basic Scheduler or any other."),
                io.Int.Input("seed", default=0, min=0, max=2**64 - 1, control_after_generate=True, tooltip=(
                    "Noise of the shots that have no seed of their own, and the cuts of the randomized blend.")),
                io.Float.Input("cfg", default=5.0, min=0.0, max=100.0, step=0.1,
                               tooltip="Guidance scale; 1 leaves the negative prompts out and halves the time."),
                io.Combo.Input("blend", options=list(BLENDS), default="triangle", tooltip=(
                    "How overlapping segments meet: triangle (DiTCtrl), randomized (StreamingT2V), linear, or cut.")),
                io.Boolean.Input("add_noise", default=True, optional=True, advanced=True, tooltip=(
                    "Off when the latent comes noisy from an earlier sampler: the low-noise expert of Wan 2.2 14B.")),
            ],
            outputs=[io.Latent.Output()],
        )

    @classmethod
    def execute(cls, model, timeline, positive, negative, latent, sampler, sigmas, seed, cfg, blend,
                add_noise=True):
        return io.NodeOutput(sampling.sample_timeline(model, timeline, positive, negative, latent, sampler, sigmas, cfg,
                                                      seed, blend, add_noise))
