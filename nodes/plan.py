"""Longreel Plan: the dry run of a storyboard for one model."""

from comfy_api.latest import io, ui

from ..engine.plan.asked import Asked, plan_as_asked
from ..engine.plan.report import plan_report
from ..engine.plan.rows import plan_rows
from ..hosts.families import facts_of
from ..hosts.families.usual import usual_of
from ..hosts.sampling import planning
from .ranges import ANY_FAMILY, check_ranges, check_segments
from .sockets import StoryboardSocket, TimelineSocket

PLAN_DATA = "longreel_plan"  # of the node's ui output, which web/js draws


class LongreelPlan(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongreelPlan",
            display_name="Longreel Plan",
            category="Longreel/storyboard",
            description="Turns a storyboard into frames and segments for a model, shows the table and the cost before "
            "anything is sampled, and makes the empty latent.",
            search_aliases=[
                "timeline",
                "storyboard",
                "empty latent video",
                "dry run",
                "long video",
                "segments",
                "empty latent",
                "frame count",
            ],
            is_output_node=True,
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip=(
                        "The video model that will sample: Wan 2.1/2.2, CogVideoX, HunyuanVideo, LTXV, LTX-2 or "
                        "Kandinsky 5. Wired from behind KV Share, Prompt Edit or the memories, the report says what "
                        "those need too."
                    ),
                ),
                StoryboardSocket.Input("storyboard", tooltip="From Longreel Storyboard or Longreel Load Storyboard."),
                io.Int.Input(
                    "width",
                    default=0,
                    min=0,
                    max=16384,
                    step=16,
                    tooltip="Pixels, rounded to what the model can make; 0 takes the storyboard's width.",
                ),
                io.Int.Input(
                    "height",
                    default=0,
                    min=0,
                    max=16384,
                    step=16,
                    tooltip="Pixels, rounded to what the model can make; 0 takes the storyboard's height.",
                ),
                io.Int.Input(
                    "segment_frames",
                    default=0,
                    min=0,
                    max=4097,
                    tooltip=(
                        "Pixel frames that the model sees at once, 4n+1 (LTXV 8n+1); 0 takes the clip length that the "
                        "model family was trained on, e.g. 81 for Wan, or the shortest shot that shares a take with "
                        "others."
                    ),
                ),
                io.Int.Input(
                    "overlap_frames",
                    default=-1,
                    min=-1,
                    max=4096,
                    tooltip=(
                        "Pixel frames that neighbouring segments share, rounded to latent frames; -1 takes just under "
                        "half a segment. A shot's own overlap_seconds wins at its transition."
                    ),
                ),
                io.Int.Input(
                    "transition_prompts",
                    default=1,
                    min=0,
                    max=16,
                    tooltip=(
                        "Segments with an in-between prompt at each 'blend' transition, 0 to 16. More is smoother and "
                        "slower."
                    ),
                ),
                io.Int.Input(
                    "steps",
                    default=20,
                    min=1,
                    max=10000,
                    advanced=True,
                    tooltip="Sampling steps, for the cost estimate in the report only.",
                ),
                io.Boolean.Input(
                    "guidance",
                    default=True,
                    advanced=True,
                    tooltip=("Whether sampling uses cfg above 1, for the cost estimate in the report only."),
                ),
            ],
            outputs=[
                TimelineSocket.Output(display_name="timeline"),
                io.Latent.Output(display_name="latent", tooltip="Empty, for the whole video."),
                io.String.Output(display_name="report"),
                io.Float.Output(display_name="fps", tooltip="For Longreel Decode to Video or Create Video."),
                io.Int.Output(display_name="seed", tooltip="The storyboard's seed, 0 when it has none."),
                io.Latent.Output(
                    display_name="segment_latent",
                    tooltip=(
                        "Empty, for one segment: for schedulers that count the tokens of a latent (LTXVScheduler, "
                        "ModelSamplingLTXV). Not for sampling."
                    ),
                ),
                io.Int.Output(display_name="width", tooltip="Of the video as planned, in pixels."),
                io.Int.Output(display_name="height", tooltip="Of the video as planned, in pixels."),
                io.Int.Output(
                    display_name="frames",
                    tooltip=(
                        "Pixel frames of the whole video: the length of core's nodes that bring sound, poses, control "
                        "or VACE."
                    ),
                ),
            ],
        )

    @classmethod
    def validate_inputs(
        cls,
        width: int | None = None,
        height: int | None = None,
        segment_frames: int | None = None,
        overlap_frames: int | None = None,
    ) -> bool:
        check_ranges(
            width=(width, 0, 16384),
            height=(height, 0, 16384),
            segment_frames=(segment_frames, 0, 4097),
            overlap_frames=(overlap_frames, -1, 4096),
        )
        check_segments("frames", segment_frames, overlap_frames, shortest=5)
        ANY_FAMILY.latent_frames(segment_frames or 1)
        return True

    @classmethod
    def execute(
        cls, model, storyboard, width, height, segment_frames, overlap_frames, transition_prompts, steps, guidance
    ):
        facts = facts_of(model)
        asked = Asked(
            width=width,
            height=height,
            segment_frames=segment_frames,
            overlap_frames=overlap_frames,
            transition_prompts=transition_prompts,
        )
        timeline = plan_as_asked(storyboard, facts, asked, planning.check_interrupt)
        size, usual = asked.size(storyboard), usual_of(model.model)
        report = plan_report(
            timeline, steps, guidance, planning.memory_of(model, timeline, guidance), asked_size=size, usual=usual
        )
        return io.NodeOutput(
            timeline,
            planning.empty_latent(timeline),
            report,
            float(timeline.fps),
            storyboard.seed or 0,
            planning.segment_latent(timeline),
            timeline.width,
            timeline.height,
            timeline.pixel_frames,
            ui={**ui.PreviewText(report).as_dict(), PLAN_DATA: [plan_rows(timeline, size, usual)]},
        )
