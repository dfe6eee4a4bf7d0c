"""Longreel Report: what a finished video is like, shot by shot and joint by joint, in figures."""

import json
from pathlib import Path

import folder_paths
from comfy_api.latest import io, ui

from ..engine.runs.numbered_file import write_numbered
from ..hosts.measure.film import film_of_images, film_of_video
from ..hosts.measure.report import Wired, measure_film
from .folders import output_folder
from .pictures import image_of
from .sockets import TimelineSocket

FOLDER = "longreel"  # below ComfyUI's output, for reports on what is no file there
ENDING = ".json"
MOST_STEM_BYTES = 200  # of a video's name in its report's: what is added has to fit as well
FPS = 16.0  # of images that nothing says it of


class LongreelReport(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongreelReport",
            display_name="Longreel Report",
            category="Longreel/sampling",
            description="Measures a finished video of any length: broken and frozen frames, loops, drift, seams where "
            "shots meet, motion, MAWE, cuts, CSCV and text alignment; per shot and per joint, as text, as a plot and "
            "as JSON beside the video.",
            search_aliases=[
                "metrics",
                "measure video",
                "video quality",
                "benchmark",
                "evaluation",
                "cscv",
                "mawe",
                "scuts",
                "clip score",
                "flicker",
                "drift",
                "seam",
                "warp error",
            ],
            inputs=[
                io.Video.Input(
                    "video",
                    optional=True,
                    tooltip="A video file of any length, from Longreel Decode to Video or Load Video; its frames are "
                    "read one after the other. Either this or images.",
                ),
                TimelineSocket.Input(
                    "timeline",
                    optional=True,
                    tooltip="From Longreel Plan, of the plan that the video was made from: figures per shot and per "
                    "joint, and planned cuts are left out. Without it the video is measured as a whole.",
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="For CSCV: any model of Load CLIP Vision. The report names it; figures compare within one "
                    "model.",
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="For text alignment: the text encoder of the same CLIP as clip_vision, e.g. CLIP-L with "
                    "CLIP ViT-L. Not T5.",
                ),
                io.Image.Input(
                    "images", optional=True, tooltip="Frames in memory, at least 5; instead of video, for short clips."
                ),
                io.Float.Input(
                    "fps",
                    default=0.0,
                    min=0.0,
                    max=240.0,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="Frames per second of images, 0 to 240; 0 takes the timeline's, and 16 without one. A "
                    "video says its own.",
                ),
                io.Boolean.Input(
                    "motion",
                    default=True,
                    optional=True,
                    advanced=True,
                    tooltip="Motion and MAWE by OpenCV's optical flow, where OpenCV is installed. Off is faster.",
                ),
                io.Boolean.Input(
                    "cuts",
                    default=True,
                    optional=True,
                    advanced=True,
                    tooltip="Cuts by PySceneDetect and TransNet V2, where they are installed. Off is faster.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="report", tooltip="The figures as text."),
                io.Image.Output(display_name="plot", tooltip="The measures over time, one picture."),
                io.String.Output(display_name="json", tooltip="All figures, as in the file beside the video."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls, video=None, timeline=None, clip_vision=None, clip=None, images=None, fps=0.0, motion=True, cuts=True
    ) -> io.NodeOutput:
        if (video is None) == (images is None):
            raise ValueError(
                "neither video nor images is wired; wire one of them"
                if video is None
                else "video and images are both wired; leave one out"
            )
        if images is not None:
            rate = fps or (FPS if timeline is None else float(timeline.fps))
            film, path = film_of_images(images, rate), None
        else:
            film, path = film_of_video(video)
        report = measure_film(film, Wired(timeline, clip_vision, clip, motion, cuts))
        text = json.dumps(report.figures, indent=1, ensure_ascii=False, allow_nan=False)
        file = write_numbered(*_place(path, film.name), 1, ENDING, (text + "\n").encode())
        plot = image_of(report.picture)
        said = f"{report.text}\n\nJSON: {file}"
        shown = {**ui.PreviewImage(plot, cls=cls).as_dict(), **ui.PreviewText(said).as_dict()}
        return io.NodeOutput(said, plot, text, ui=shown)


def _place(path: Path | None, name: str) -> tuple[Path, str]:
    """-> the folder of the report, which is made, and its name without number: beside a video of the output folder,
    else in its folder longreel."""
    output = Path(folder_paths.get_output_directory()).resolve()
    inside = path is not None and path.resolve().is_relative_to(output)
    folder = path.resolve().parent if inside else output_folder(FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    stem = Path(name).stem.strip("_ .") or "video"
    return folder, f"{stem.encode()[:MOST_STEM_BYTES].decode(errors='ignore')}_report"
