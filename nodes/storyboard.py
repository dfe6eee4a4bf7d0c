"""Write, load and save a storyboard: JSON, CSV and the scene lists of ttt-video."""

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path

import folder_paths
from comfy_api.latest import io, ui

from ..engine.runs.numbered_file import write_numbered
from ..engine.storyboard.board import Storyboard, parse_storyboard
from ..engine.storyboard.carried import CheckFiles
from ..engine.storyboard.files import EXTENSIONS, FORMATS, open_storyboards, write_storyboard
from ..engine.storyboard.media import resolve_anchors, resolve_media
from ..engine.storyboard.rules import StoryboardError
from ..hosts.anchor.picture_file import picture_check
from ..hosts.prompts.shot_lora import find_lora
from ..hosts.prompts.sound_file import find_audio
from .folders import check_prefix, numbered_place
from .sockets import StoryboardSocket
from .validation import verdict, verdict_aside

EXAMPLE = """{
  "longreel": 1,
  "title": "Three shots for the demo model",
  "fps": 16,
  "width": 64,
  "height": 64,
  "seed": 7,
  "shots": [
    {"prompt": "a big red circle moves right on a teal background", "seconds": 1.1},
    {"prompt": "a big red circle moves up on a teal background", "seconds": 1.1, "transition": "blend"},
    {"prompt": "a small yellow star bounces on a black background", "seconds": 1.1, "transition": "cut"}
  ]
}
"""


class LongreelStoryboard(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongreelStoryboard",
            display_name="Longreel Storyboard",
            category="Longreel/storyboard",
            description="A storyboard as text: shots with prompts, seconds and transitions.",
            search_aliases=[
                "shots",
                "scenes",
                "prompts",
                "timeline",
                "long video",
                "multi prompt",
                "shot list",
                "scene list",
                "script",
                "director",
                "prompt travel",
                "prompt schedule",
                "prompt relay",
                "transition",
                "multi scene",
                "story",
                "shot",
            ],
            inputs=[
                io.String.Input(
                    "text",
                    multiline=True,
                    default=EXAMPLE,
                    tooltip=(
                        "The storyboard as JSON, version 1: 1 to 1000 shots, seconds above 0 and up to 3600 each. "
                        "Checked before anything is loaded."
                    ),
                )
            ],
            outputs=[
                StoryboardSocket.Output(display_name="storyboard"),
                io.String.Output(display_name="summary", tooltip="One line for the video, one for each shot."),
            ],
        )

    @classmethod
    async def validate_inputs(cls, text: str | None = None) -> bool | str:
        return (
            True if text is None else await verdict_aside(lambda: _parsed(text))
        )  # None: the text comes through a wire

    @classmethod
    def fingerprint_inputs(cls, text: str | None = None) -> str:
        return "" if text is None else _fingerprint(parse_storyboard(text))

    @classmethod
    def execute(cls, text: str) -> io.NodeOutput:
        storyboard = _parsed(text)
        return io.NodeOutput(storyboard, storyboard.to_text())


class LongreelLoadStoryboard(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongreelLoadStoryboard",
            display_name="Longreel Load Storyboard",
            category="Longreel/storyboard",
            description="A storyboard from a file in ComfyUI's input folder: JSON, CSV, a ttt-video scene list, or a "
            "story of ViStoryBench or MSVBench.",
            search_aliases=[
                "import storyboard",
                "csv",
                "spreadsheet",
                "ttt-video",
                "shots",
                "scenes",
                "scene list",
                "shot list",
            ],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=_input_files(),
                    tooltip=(
                        "A .json, .csv or .jsonl file of the input folder; the content tells a storyboard from a scene "
                        "list. An edited file is read again."
                    ),
                ),
                io.Int.Input(
                    "video",
                    default=0,
                    min=0,
                    max=999,
                    tooltip=("Which video of a ttt-video scene list, counted from 0; other files hold video 0 alone."),
                ),
            ],
            outputs=[
                StoryboardSocket.Output(display_name="storyboard"),
                io.String.Output(display_name="summary", tooltip="One line for the video, one for each shot."),
            ],
        )

    @classmethod
    async def validate_inputs(cls, file: str | None = None, video: int | None = None) -> bool:
        if file is not None:  # else it comes through a wire
            await asyncio.to_thread(lambda: _chosen(file, video or 0, _read(file)))
        return True

    @classmethod
    def fingerprint_inputs(cls, file: str | None = None, video: int | None = None) -> str | float:
        if file is None:
            return float("nan")  # unlike itself: a file that comes through a wire is read on every run
        board = hashlib.sha256(_input_file(file).read_bytes()).hexdigest()
        return board + _fingerprint(_chosen(file, video or 0, open_storyboards(_input_file(file))))

    @classmethod
    def execute(cls, file: str, video: int) -> io.NodeOutput:
        storyboard = _chosen(file, video, _read(file))
        return io.NodeOutput(storyboard, storyboard.to_text())


class LongreelSaveStoryboard(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongreelSaveStoryboard",
            display_name="Longreel Save Storyboard",
            category="Longreel/storyboard",
            description="Writes a storyboard to a new file in ComfyUI's output folder; no file is ever overwritten.",
            search_aliases=["export storyboard", "csv", "spreadsheet", "ttt-video"],
            is_output_node=True,
            inputs=[
                StoryboardSocket.Input("storyboard", tooltip="From Longreel Storyboard or Longreel Load Storyboard."),
                io.String.Input(
                    "filename_prefix",
                    default="longreel/storyboard",
                    tooltip=(
                        "Folder and name below the output folder; a number of five digits and the extension are added. "
                        "%year%, %month%, %day%, %hour%, %minute%, %second% are filled in."
                    ),
                ),
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    default="json",
                    tooltip=(
                        "json holds everything; csv is a table for spreadsheets and holds everything; ttt-video holds "
                        "prompts, negatives and cuts of 3n seconds and refuses a storyboard with more."
                    ),
                ),
            ],
            outputs=[
                StoryboardSocket.Output(display_name="storyboard"),
                io.String.Output(display_name="path", tooltip="The file that was written."),
            ],
        )

    @classmethod
    def validate_inputs(cls, filename_prefix: str | None = None) -> bool | str:
        return True if filename_prefix is None else verdict(lambda: _check_prefix(filename_prefix))

    @classmethod
    def execute(cls, storyboard: Storyboard, filename_prefix: str, format: str) -> io.NodeOutput:
        data, text, extension = write_storyboard(storyboard, format)
        path = _new_file(filename_prefix, extension, data)
        lost = "the shots' ids are not in it: ttt-video has no place for them\n\n"
        note = lost if format.startswith("ttt-video") and any(shot.id for shot in storyboard.shots) else ""
        return io.NodeOutput(storyboard, str(path), ui=ui.PreviewText(f"{path}\n\n{note}{text}"))


def _checks() -> CheckFiles:
    """Return what looks up the files that shots name."""
    return {"anchors": picture_check(folder_paths.get_input_directory()), "lora": find_lora, "audio": find_audio}


def _fingerprint(storyboard: Storyboard) -> str:
    """Of the files that shots name: one that was made anew under its old name is another. Pictures are read; LoRAs and
    sounds are large, and known by their size and the time of their last change.
    """
    pictures = resolve_anchors(storyboard, folder_paths.get_input_directory())
    files = {find_lora(one.file) for shot in storyboard.shots for one in shot.lora}
    files |= {find_audio(shot.audio.file) for shot in storyboard.shots if shot.audio}
    marks = [hashlib.sha256(path.read_bytes()).digest() for path in pictures.values()]
    marks += [f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}".encode() for file in sorted(files)]
    return hashlib.sha256(b"".join(marks)).hexdigest()


def _parsed(text: str) -> Storyboard:
    return parse_storyboard(text, _checks())


def _input_files() -> list[str]:
    folder = Path(folder_paths.get_input_directory())
    files = folder.iterdir() if folder.is_dir() else ()
    return sorted(file.name for file in files if file.suffix.lower() in EXTENSIONS and file.is_file())


def _input_file(file: str) -> Path:
    return resolve_media(file, folder_paths.get_input_directory(), "file")


def _read(file: str) -> Sequence[Storyboard]:
    return open_storyboards(_input_file(file), _checks())


def _chosen(file: str, video: int, storyboards: Sequence[Storyboard]) -> Storyboard:
    if not 0 <= video < len(storyboards):
        held = "video 0 alone" if len(storyboards) == 1 else f"videos 0 to {len(storyboards) - 1}"
        raise StoryboardError(f"video is {video}, but {file} holds {held}; choose one of these")
    return storyboards[video]


def _check_prefix(prefix: str) -> None:
    check_prefix(prefix, max(EXTENSIONS, key=len))


def _new_file(prefix: str, extension: str, data: bytes) -> Path:
    """Write to the next free number in core's naming, prefix_00001_.json; never to a file that exists."""
    _check_prefix(prefix)
    folder, name, counter, _ = numbered_place(prefix)
    return write_numbered(folder, name, counter, extension, data)
