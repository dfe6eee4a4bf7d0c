"""Longreel TTT Dataset: clips with a prompt for every segment, from a folder or from other data set nodes."""

from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io

from ..hosts.sampling.planning import check_interrupt
from ..training.collect import DIGITS, Spoken, collect
from ..training.dataset import find_clips
from .folders import check_name, clips_folder, input_folder, output_folder
from .sockets import TTTDatasetSocket
from .validation import check_values

DATASETS = "longreel/datasets"  # below ComfyUI's output folder
ADDED = 1 + DIGITS  # bytes behind the name of a folder
FROM_FOLDER, FROM_WIRES = "folder", "videos"


class LongreelTTTDataset(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongreelTTTDataset",
            display_name="Longreel TTT Dataset",
            category="Longreel/training",
            description="Clips with a prompt for every segment, for Longreel Train TTT: a folder, or what ComfyUI's "
            "own data set nodes load and cut.",
            search_aliases=["training data", "video dataset", "test-time training"],
            is_input_list=True,
            inputs=[
                io.DynamicCombo.Input(
                    "clips",
                    tooltip=(
                        "folder: clips and their storyboards in ComfyUI's input folder. videos: from Load Video-Text "
                        "(from Folder) or any nodes that hand on lists of videos and texts."
                    ),
                    options=[
                        io.DynamicCombo.Option(
                            FROM_FOLDER,
                            [
                                io.Combo.Input(
                                    "folder",
                                    options=folder_paths.get_input_subfolders(),
                                    tooltip=(
                                        "A folder below ComfyUI's input: name.mp4 (or a folder of pictures, or a "
                                        "latent) beside name.json, a storyboard."
                                    ),
                                )
                            ],
                        ),
                        io.DynamicCombo.Option(
                            FROM_WIRES,
                            [
                                io.Video.Input("videos", tooltip="One for each clip, all of one size and frame rate."),
                                io.String.Input(
                                    "texts",
                                    force_input=True,
                                    tooltip=(
                                        "One for each clip: a prompt in each line, one line for each segment; or a "
                                        "storyboard's JSON."
                                    ),
                                ),
                                io.Float.Input(
                                    "segment_seconds",
                                    default=3.0,
                                    min=0.01,
                                    max=3600.0,
                                    step=0.01,
                                    tooltip=("Length of the segment that one line speaks of; 3 as in the paper."),
                                ),
                                io.String.Input(
                                    "name",
                                    default="clips",
                                    tooltip=(
                                        "Name of the folder below output/longreel/datasets that the clips are written "
                                        "to."
                                    ),
                                ),
                            ],
                        ),
                    ],
                )
            ],
            outputs=[
                TTTDatasetSocket.Output(display_name="dataset"),
                io.String.Output(display_name="summary", tooltip="How many clips there are, and where they lie."),
            ],
        )

    @classmethod
    def validate_inputs(cls, **inputs) -> bool:
        clips = inputs.get("clips")
        if isinstance(clips, dict):
            clips = {name: _only(clips, name) for name in clips}
            if clips.get("name") is not None:
                check_name("name", clips["name"], ADDED)
        check_values(cls, {"clips": clips})
        return True

    @classmethod
    def fingerprint_inputs(cls, clips: dict[str, Any] | None = None) -> float | tuple[tuple[str, int, int], ...]:
        folder = _only(clips, "folder") if isinstance(clips, dict) else None
        if not folder:
            return float("nan")  # unlike itself: what comes through wires is looked at on every run
        files = sorted(path for path in input_folder(folder).rglob("*") if path.is_file())
        return tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files)

    @classmethod
    def execute(cls, clips: dict[str, Any]) -> io.NodeOutput:
        from_folder = _only(clips, "clips") == FROM_FOLDER
        folder = clips_folder(_only(clips, "folder")) if from_folder else _collected(clips)
        found = find_clips(folder)
        return io.NodeOutput(folder, f"{len(found)} clips in {folder}, first {next(iter(found))}")


def _only(clips: dict[str, Any], name: str) -> Any:
    """An input of a node whose inputs are lists, of which this one has one entry."""
    value = clips.get(name)
    return value[0] if isinstance(value, list) else value


def _collected(clips: dict[str, Any]) -> Path:
    """The folder below ComfyUI's output that clips from wires are written to. Raises ValueError as `collect` does."""
    videos, texts = clips["videos"], clips["texts"]
    if len(videos) != len(texts):
        raise ValueError(f"{len(videos)} videos come with {len(texts)} texts; wire one text for each video")
    name = check_name("name", _only(clips, "name"), ADDED)
    spoken = (_spoken(video, text) for video, text in zip(videos, texts, strict=True))
    return collect(output_folder(DATASETS), name, spoken, _only(clips, "segment_seconds"))


def _spoken(video: Any, text: str) -> Spoken:
    check_interrupt()
    parts = video.get_components()
    return Spoken(parts.images, float(parts.frame_rate), text)
