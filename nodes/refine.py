"""Longreel Refine: a finished video of any length made again in part, chunk by chunk."""

from comfy_api.latest import io

from ..engine.sampling.refine import CUT_RANGES
from ..hosts.sampling.refine import BLENDS, refine
from ..hosts.sampling.settings import Sampling
from .ranges import check_ranges
from .sockets import TimelineSocket


class LongreelRefine(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongreelRefine",
            display_name="Longreel Refine",
            category="Longreel/sampling",
            description="Adds noise to a finished latent of any length, upscaled or not, and denoises it in "
            "overlapping chunks that randomized blending joins (StreamingT2V), "
            "with the memory of one chunk.",
            search_aliases=[
                "streamingt2v",
                "video upscale",
                "vid2vid",
                "enhance",
                "randomized blending",
                "img2img",
                "long video",
                "hires fix",
                "seam repair",
            ],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip=(
                        "The model that refines: the one that made the video, or another with the same VAE. Without "
                        "Longreel Latent Blend; this node brings its own."
                    ),
                ),
                io.Latent.Input(
                    "latent",
                    tooltip=(
                        "The finished video, of any length: from a sampler, Upscale Latent, or VAE Encode. A noise "
                        "mask on it is honoured: 0 keeps."
                    ),
                ),
                io.Conditioning.Input("positive", tooltip="From CLIP Text Encode, or from Longreel Encode."),
                io.Conditioning.Input("negative", tooltip="As positive; shapes the result when cfg is above 1."),
                io.Sampler.Input(
                    "sampler",
                    tooltip=(
                        "Any core sampler; Longreel Alpha Space Sampler for CogVideoX. With blend step one that begins "
                        "each step anew, such as euler."
                    ),
                ),
                io.Sigmas.Input(
                    "sigmas",
                    tooltip=(
                        "The whole schedule, from Basic Scheduler with denoise 1. If it is cut already, set strength "
                        "to 1."
                    ),
                ),
                io.Float.Input(
                    "strength",
                    default=0.6,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip=(
                        "Part of the schedule that is run, counted from its end: 0 gives the video back, 1 begins as "
                        "good as from noise alone. 20 steps at 0.6 run 12. StreamingT2V uses 0.6."
                    ),
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**64 - 1,
                    control_after_generate=True,
                    tooltip=("Noise, drawn once for the whole video, and the places where overlaps are cut."),
                ),
                io.Float.Input(
                    "cfg",
                    default=5.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="Guidance scale; 1 leaves the negative prompt out and halves the time.",
                ),
                io.Combo.Input(
                    "blend",
                    options=list(BLENDS),
                    default=BLENDS[0],
                    tooltip=(
                        "x0: chunks are joined as the clean video that they predict, before the sampler moves it; any "
                        "sampler. step: every chunk moves by a solver step of its own and is joined afterwards."
                    ),
                ),
                io.Int.Input(
                    "chunk_latent_frames",
                    default=0,
                    min=0,
                    max=1024,
                    tooltip=(
                        "Latent frames per chunk, 2 or more; 0 takes the model's own clip length, or the segments of "
                        "the timeline if one is wired."
                    ),
                ),
                io.Int.Input(
                    "overlap_latent_frames",
                    default=-1,
                    min=-1,
                    max=1023,
                    tooltip=(
                        "Latent frames that neighbouring chunks share, less than a chunk; -1 takes a third of a chunk "
                        "(StreamingT2V's 8 of 24), 0 only puts them side by side."
                    ),
                ),
                io.Combo.Input(
                    "cut_range",
                    options=list(CUT_RANGES),
                    default=CUT_RANGES[0],
                    advanced=True,
                    tooltip=(
                        "Where an overlap may be cut. paper: anywhere in it. code: never behind its last frame, as "
                        "StreamingT2V's code does."
                    ),
                ),
                io.Boolean.Input(
                    "lead_frame",
                    default=True,
                    advanced=True,
                    tooltip=(
                        "Shows each later chunk one more latent frame in front, which is dropped again: models expect "
                        "their first latent frame to stand for a single picture. Costs one frame per chunk."
                    ),
                ),
                TimelineSocket.Input(
                    "timeline",
                    optional=True,
                    tooltip=(
                        "From Longreel Plan, together with the conditioning of Longreel Encode: every shot is refined "
                        "with its own prompt, and no chunk crosses a cut."
                    ),
                ),
            ],
            outputs=[io.Latent.Output()],
        )

    @classmethod
    def validate_inputs(cls, chunk_latent_frames: int | None = None, overlap_latent_frames: int | None = None) -> bool:
        chunk, overlap = chunk_latent_frames, overlap_latent_frames
        check_ranges(chunk_latent_frames=(chunk, 0, 1024), overlap_latent_frames=(overlap, -1, 1023))
        if chunk == 1:
            raise ValueError("chunk_latent_frames is 1, and a chunk needs 2 or more; use 0 for the model's own clip")
        if chunk and overlap is not None and overlap >= chunk:
            raise ValueError(
                f"overlap_latent_frames is {overlap}, which does not fit into chunk_latent_frames {chunk}; use up "
                f"to {chunk - 1}, or longer chunks"
            )
        return True

    @classmethod
    def execute(
        cls,
        model,
        latent,
        positive,
        negative,
        sampler,
        sigmas,
        strength,
        seed,
        cfg,
        blend,
        chunk_latent_frames,
        overlap_latent_frames,
        cut_range,
        lead_frame,
        timeline=None,
    ):
        latent = refine(
            model,
            latent,
            Sampling(positive=positive, negative=negative, sampler=sampler, sigmas=sigmas, cfg=cfg, seed=seed),
            strength=strength,
            chunk_latent_frames=chunk_latent_frames or None,
            overlap_latent_frames=overlap_latent_frames if overlap_latent_frames >= 0 else None,
            blend=blend,
            cut_range=cut_range,
            lead_frame=lead_frame,
            timeline=timeline,
        )
        return io.NodeOutput(latent)
