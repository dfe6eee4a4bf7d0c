"""Read the data set: a folder of clips, each beside a storyboard that gives every segment its prompt.

For each `name.json` (the pack's storyboard, or ttt-video's scene list with one video; also .csv and .jsonl) there is
one clip: `name.mp4` (.mov, .mkv, .webm), a folder `name` of pictures in the order of their names, or
`name.safetensors` with one tensor `latent` [C, F, h, w] that was encoded before. A segment is `segment_latent_frames`
latent frames and shares the last one with the next, as in One-Minute Video Generation with Test-Time Training (arXiv
2504.05298, section 3): n segments are n (S - 1) + 1 latent frames. A shot may last several segments, which then follow
the same prompt.

A stage of n segments trains on every run of n segments that stand at a multiple of n, cut from the pictures; of a
latent only the first n segments, because a latent that is cut in its middle does not begin as videos do. Everything is
checked before anything is encoded. What latents are made with is not known here (training/cache.py), and nothing is
resized or resampled: a clip has the size and the frames per second that are said, or is refused.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open

from ..engine.finite import not_finite
from ..engine.plan.facts import ModelFacts
from ..engine.storyboard.board import Shot, Storyboard
from ..engine.storyboard.files import EXTENSIONS, read_storyboards
from ..engine.ttt.order import Range
from .clip_files import (
    LATENT,
    LATENT_NAME,
    VIDEOS,
    digest_of,
    latent_shape_of,
    picture_facts,
    picture_frames,
    pictures_of,
    video_facts,
    video_frames,
)

SHARED_FRAMES = 1  # latent frames of neighbouring segments, as published
FPS_TOLERANCE = 0.01


@dataclass(frozen=True)
class Geometry:
    """This is the geometry of all clips. width, height: pixels of every clip. segment_latent_frames: 2 or more, 13 as
    published.
    """

    facts: ModelFacts
    width: int
    height: int
    segment_latent_frames: int

    def __post_init__(self) -> None:
        self.facts.check_size(self.width, self.height)
        if self.segment_latent_frames <= SHARED_FRAMES:
            raise ValueError(
                f"a segment of {self.segment_latent_frames} latent frames shares {SHARED_FRAMES} with the "
                f"next; use {SHARED_FRAMES + 1} or more, {self.facts.native_latent_frames} as the family "
                f"was trained"
            )

    @property
    def step_latent_frames(self) -> int:
        """Return the latent frames from the start of one segment to that of the next."""
        return self.segment_latent_frames - SHARED_FRAMES

    @property
    def step_pixel_frames(self) -> int:
        return self.step_latent_frames * self.facts.temporal_stride

    def latent_frames(self, segments: int) -> int:
        return segments * self.step_latent_frames + SHARED_FRAMES

    def pixel_frames(self, segments: int) -> int:
        return self.facts.pixel_frames(self.latent_frames(segments))

    def latent_shape(self, segments: int) -> tuple[int, int, int, int]:
        """Return [C, F, h, w]."""
        stride = self.facts.spatial_stride
        return (self.facts.latent_channels, self.latent_frames(segments), self.height // stride, self.width // stride)

    def windows(self, segments: int) -> tuple[Range, ...]:
        """Return the latent frames of each segment."""
        return tuple(
            (self.step_latent_frames * number, self.step_latent_frames * number + self.segment_latent_frames)
            for number in range(segments)
        )


@dataclass(frozen=True)
class Clip:
    """This is a clip of the folder. path: a video, a folder of pictures, or a latent. digest: of all its bytes.
    prompts: one for each segment. told_fps: frames per second, of a network that is told them; else None.
    """

    name: str
    path: Path
    digest: str
    bytes: int
    prompts: tuple[str, ...]
    told_fps: float | None = None

    @property
    def is_latent(self) -> bool:
        return self.path.suffix.lower() == LATENT and self.path.is_file()

    @property
    def segments(self) -> int:
        return len(self.prompts)


@dataclass(frozen=True)
class Part:
    """A part is the segments [first, first + segments) of a clip."""

    clip: Clip
    first: int
    segments: int

    @property
    def prompts(self) -> tuple[str, ...]:
        return self.clip.prompts[self.first : self.first + self.segments]


def read_dataset(folder: Path, geometry: Geometry) -> tuple[Clip, ...]:
    """Return the clips of a folder, by name. Every file is read once, for its digest.

    Raises ValueError, naming the clip, two numbers and the remedy: as find_clips does, and for a clip of another size,
    frame rate or length than is said, a latent that holds NaN or infinity, prompts that are missing, shots that are no
    whole number of segments.
    """
    return tuple(_read_clip(name, path, board, geometry) for name, (path, board) in find_clips(folder).items())


def find_clips(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Return {name: (clip, its storyboard)} in the order of the names; nothing is read.

    Raises ValueError, naming the clip and the remedy: no clips at all, a clip without storyboard or the other way
    round, two clips for one storyboard.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; put clips and their storyboards into one and name it")
    boards = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in EXTENSIONS}
    clips: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in (*VIDEOS, LATENT) or (path.is_dir() and pictures_of(path)):
            clips.setdefault(path.name if path.is_dir() else path.stem, []).append(path)
    if not boards and not clips:
        raise ValueError(f"{folder} holds no clips and no storyboards; put name.mp4 and name.json into it")
    unsaid, unseen = sorted(set(clips) - set(boards)), sorted(set(boards) - set(clips))
    if unsaid:
        raise ValueError(
            f"{len(unsaid)} of {len(clips)} clips have no prompts, first {clips[unsaid[0]][0].name}; "
            f"write {unsaid[0]}.json beside it, a storyboard with a prompt for each segment"
        )
    if unseen:
        raise ValueError(
            f"{len(unseen)} of {len(boards)} storyboards have no clip, first {boards[unseen[0]].name}; "
            f"put {unseen[0]}.mp4 beside it, or take it out"
        )
    for name, paths in clips.items():
        if len(paths) > 1:
            raise ValueError(
                f"{name} has {len(paths)} clips, {' and '.join(path.name for path in paths)}, for one "
                f"storyboard; keep one of them"
            )
    return {name: (clips[name][0], boards[name]) for name in sorted(clips)}


def size_of(path: Path, facts: ModelFacts) -> tuple[int, int]:
    """Return the pixels (width, height) of a clip. Raises ValueError where it cannot be read."""
    if path.is_dir():
        return picture_facts(path)[2:]
    if path.suffix.lower() != LATENT:
        return video_facts(path)[2:]
    _, _, rows, columns = latent_shape_of(path)
    return columns * facts.spatial_stride, rows * facts.spatial_stride


def set_apart(clips: tuple[Clip, ...], held_out: int) -> tuple[tuple[Clip, ...], tuple[Clip, ...]]:
    """Return the clips to train on, and the last `held_out`, to measure on. Raises ValueError where none is left to
    train on.
    """
    if held_out >= len(clips):
        raise ValueError(
            f"data.held_out is {held_out} and the data set has {len(clips)} clips; leave at least one to train on"
        )
    trained = len(clips) - held_out
    return clips[:trained], clips[trained:]


def parts_of(clips: Iterable[Clip], segments: int) -> tuple[Part, ...]:
    """Return what a stage of so many segments trains on, in the order of the clips.

    Raises ValueError where a clip has fewer segments than the stage.
    """
    parts = []
    for clip in clips:
        if clip.segments < segments:
            raise ValueError(
                f"{clip.path.name} has {clip.segments} segments and the stage trains on {segments}; take "
                f"the clip out, or end the recipe at a stage of {clip.segments}"
            )
        starts = range(0, clip.segments - segments + 1, segments)
        parts += [Part(clip, first, segments) for first in (starts[:1] if clip.is_latent else starts)]
    return tuple(parts)


def read_pixels(part: Part, geometry: Geometry) -> torch.Tensor:
    """Return the pixel frames of a part [pixel frames, H, W, 3] in 0..1, float32; not for latents."""
    first = part.first * geometry.step_pixel_frames
    wanted = range(first, first + geometry.pixel_frames(part.segments))
    path = part.clip.path
    frames = picture_frames(path, wanted) if path.is_dir() else video_frames(path, wanted)
    return torch.stack([torch.from_numpy(frame) for frame in frames]).float() / 255


def read_latent(part: Part, geometry: Geometry) -> torch.Tensor:
    """Return the latent frames of a part [C, F, h, w] of a clip that is a latent, float32.

    Raises ValueError, naming the file, where some of them are no numbers.
    """
    with safe_open(part.clip.path, "pt") as file:
        latent = file.get_slice(LATENT_NAME)[:, : geometry.latent_frames(part.segments)].float()
    _check_numbers(part.clip.path, latent)
    return latent


def manifest(clips: Iterable[Clip]) -> dict[str, dict]:
    """Return what a data set is, as JSON can hold it: of each clip its bytes, their digest, that of its prompts, and
    its frames per second where the network is told them.
    """
    return {
        clip.name: {
            "bytes": clip.bytes,
            "digest": clip.digest,
            "prompts": hashlib.sha256(json.dumps(clip.prompts).encode()).hexdigest(),
            **({} if clip.told_fps is None else {"fps": clip.told_fps}),
        }
        for clip in clips
    }


def check_unchanged(before: Mapping[str, dict], clips: Iterable[Clip]) -> None:
    """Raise ValueError, by name and numbers, where the data set is no longer that of `before` (a manifest).

    A run that began when no network was told a frame rate goes on, and is told it from here on.
    """
    now = {
        name: {part: value for part, value in clip.items() if part in before.get(name, clip)}
        for name, clip in manifest(clips).items()
    }
    changed = [name for name in sorted(set(before) & set(now)) if before[name] != now[name]]
    gone, new = sorted(set(before) - set(now)), sorted(set(now) - set(before))
    if not changed and not gone and not new:
        return
    said = []
    if changed:
        old, fresh = before[changed[0]], now[changed[0]]
        how = (
            f"{old['bytes']:,} bytes then, {fresh['bytes']:,} now"
            if old["bytes"] != fresh["bytes"]
            else "other bytes of the same number"
            if old["digest"] != fresh["digest"]
            else "other prompts"
            if old["prompts"] != fresh["prompts"]
            else f"{old['fps']:g} frames per second then, {fresh['fps']:g} now"
        )
        said.append(f"{len(changed)} of {len(before)} clips have changed, first {changed[0]} ({how})")
    said += [f"{len(gone)} of {len(before)} clips are gone, first {gone[0]}"] if gone else []
    said += [f"{len(new)} clips are new beside {len(before)}, first {new[0]}"] if new else []
    raise ValueError(
        f"the data set is not the one that this run began with: {'; '.join(said)}; bring it back to go "
        f"on, or start a new run folder"
    )


def _read_clip(name: str, path: Path, board: Path, geometry: Geometry) -> Clip:
    storyboards = read_storyboards(board)
    if len(storyboards) != 1:
        raise ValueError(
            f"{board.name} holds {len(storyboards)} videos and stands beside one clip; write one file for each clip"
        )
    prompts = _prompts(storyboards[0], board.name, geometry)
    told_fps = None if geometry.facts.unsaid_frame_rate is None else storyboards[0].fps
    clip = Clip(name, path, *digest_of(path), prompts, told_fps)
    if clip.is_latent:
        _check_latent(path, len(prompts), geometry)
    else:
        fps, frames, width, height = picture_facts(path) if path.is_dir() else video_facts(path)
        if (width, height) != (geometry.width, geometry.height):
            raise ValueError(
                f"{path.name} has {width}x{height} pixels and the data set {geometry.width}x"
                f"{geometry.height}; resize the clip, or take it out"
            )
        if fps is not None and abs(fps - storyboards[0].fps) > FPS_TOLERANCE:
            raise ValueError(
                f"{path.name} runs at {fps:g} frames per second and {board.name} says "
                f"{storyboards[0].fps:g}; convert the clip, or correct fps"
            )
        _check_length(path.name, frames, geometry.pixel_frames, len(prompts), "pixel frames")
    return clip


def _prompts(storyboard: Storyboard, file: str, geometry: Geometry) -> tuple[str, ...]:
    """Return one prompt for each segment: a shot's is said as often as it has segments."""
    found: list[str] = []
    for index, shot in enumerate(storyboard.shots):
        found += [storyboard.prompt_of(shot)] * _segments_of(shot, index, storyboard.fps, file, geometry)
    return tuple(found)


def _segments_of(shot: Shot, index: int, fps: float, file: str, geometry: Geometry) -> int:
    frames, step = shot.seconds * fps, geometry.step_pixel_frames
    count = round(frames / step)
    if count < 1 or abs(frames - count * step) > 0.5:
        raise ValueError(
            f"{file}: shot {index + 1} lasts {shot.seconds:g} seconds, {frames:g} frames, and a segment has "
            f"{step}; use {max(1, count) * step / fps:g} seconds, or another segment_latent_frames"
        )
    return count


def _check_length(file: str, frames: int, frames_of, segments: int, what: str) -> None:
    """Check that a clip holds all segments that have prompts, and no whole segment more."""
    if frames < frames_of(segments):
        raise ValueError(
            f"{file} has {frames} {what} and its {segments} prompts need {frames_of(segments)}; give a "
            f"longer clip, or take prompts out of its storyboard"
        )
    if frames >= frames_of(segments + 1):
        whole = segments
        while frames >= frames_of(whole + 1):
            whole += 1
        raise ValueError(
            f"{file} has {whole} segments ({frames} {what}) and its storyboard {segments} prompts; write "
            f"a prompt for each segment, or cut the clip"
        )


def _check_latent(path: Path, segments: int, geometry: Geometry) -> None:
    shape, wanted = latent_shape_of(path), geometry.latent_shape(segments)
    if (shape[0], *shape[2:]) != (wanted[0], *wanted[2:]):
        raise ValueError(
            f"{path.name} has a latent {list(shape)} and the data set [{wanted[0]}, frames, {wanted[2]}, "
            f"{wanted[3]}]; encode it again at {geometry.width}x{geometry.height}, or take it out"
        )
    _check_length(path.name, shape[1], geometry.latent_frames, segments, "latent frames")
    with safe_open(path, "pt") as file:
        _check_numbers(path, file.get_tensor(LATENT_NAME))


def _check_numbers(path: Path, latent: torch.Tensor) -> None:
    if (wrong := not_finite({LATENT_NAME: latent})) is not None:
        raise ValueError(f"{path.name}: {wrong}; encode it again in float32 (--fp32-vae), or take it out")
