"""Make a data set folder of clips that are in memory, such as ComfyUI's own data set nodes hand on.

Frames are written as PNG pictures, which lose nothing, each clip beside the storyboard that its text says
(training/dataset.py reads both again). The folder's name ends in a digest of all that it holds: one that is there is
whole and is taken as it is, and another content gets another folder. Where frames come from is not known here.
"""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from ..engine.runs.disk import stopped
from ..engine.runs.unfinished import growing_folder
from ..engine.storyboard.board import Shot, Storyboard, parse_storyboard
from ..engine.storyboard.ttt_video import parse_ttt

DIGITS = 12  # of the digest in a folder's name
QUICK = 1  # PNG's lowest compression: a clip is written once and read a few times


@dataclass(frozen=True)
class Spoken:
    """This is a clip with its text. frames [F, H, W, 3] in 0..1. fps: frames per second. text: see
    `storyboard_of`.
    """

    frames: torch.Tensor
    fps: float
    text: str


def storyboard_of(text: str, fps: float, segment_seconds: float, width: int, height: int) -> Storyboard:
    """Return what a clip's text says: a storyboard's JSON, a ttt-video scene list of one video, or else one prompt in
    each line, of a segment each, `segment_seconds` long.

    Raises ValueError where there is no prompt, or what looks like JSON is no storyboard.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise ValueError("the text has no prompts; write one for each segment, in a line of its own")
    if lines[0].startswith("{"):
        return parse_storyboard(text)
    if lines[0].startswith("["):
        boards = parse_ttt(text)
        if len(boards) != 1:
            raise ValueError(
                f"the text is a list of {len(boards)} videos and belongs to one clip; give each clip a text of its own"
            )
        return boards[0]
    return Storyboard(tuple(Shot(line, segment_seconds) for line in lines), fps=fps, width=width, height=height)


def collect(root: Path, name: str, clips: Iterable[Spoken], segment_seconds: float) -> Path:
    """Write clips below `root`, and return the folder, `<name>-<digest>`.

    Raises ValueError, with the number of the clip, as storyboard_of does, and WriteError, naming the bytes, where the
    disk is full; an unfinished folder does not stay, nor one that a killed process left.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with growing_folder(root) as unfinished:
            return _collected(root, unfinished, name, clips, segment_seconds)
    except OSError as error:
        raise stopped(f"the data set {name}", "is not whole", root, error) from error


def _collected(root: Path, unfinished: Path, name: str, clips: Iterable[Spoken], segment_seconds: float) -> Path:
    """Write clips into the folder `unfinished`, give it its name, and return it."""
    found = hashlib.sha256()
    for number, clip in enumerate(clips):
        height, width = clip.frames.shape[1:3]
        try:
            board = storyboard_of(clip.text, clip.fps, segment_seconds, width, height).to_json()
        except ValueError as error:
            raise ValueError(f"clip {number + 1}: {error}") from error
        _write(unfinished / f"clip_{number:05}", clip.frames, board, found)
    folder = root / f"{name}-{found.hexdigest()[:DIGITS]}"
    if not folder.exists():
        os.replace(unfinished, folder)
    return folder


def _write(path: Path, frames: torch.Tensor, board: str, found) -> None:
    """Write pictures into the folder `path`, the storyboard beside it, and all of it into the digest."""
    path.mkdir()
    path.with_suffix(".json").write_text(board, encoding="utf-8")
    found.update(f"{path.name} {list(frames.shape)} {board}".encode())
    for number, frame in enumerate(frames):
        pixels = (frame[..., :3].float().clamp(0, 1) * 255).round().byte().cpu().numpy()
        found.update(pixels.tobytes())
        Image.fromarray(pixels).save(path / f"{number:06}.png", compress_level=QUICK)
