"""Read the frames of a video file a few at a time, so that memory stays the same however long it is.

PyAV, which comes with ComfyUI, decodes; nothing is kept. Frames come as they are shown: turned where the file says so,
without sound and transparency. What they are for is not known here.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch import Tensor

Source = str | Path | io.BytesIO
MOST_BYTES = 32 * 2**20  # of the frames that are handed over at once
MOST_FRAMES = 16
SLACK = 0.5  # of a frame: times in files are rounded


@dataclass(frozen=True)
class VideoFacts:
    """These are a file's frames per second, its size in pixels as stored, and how many frames its header promises for
    the chosen stretch; 0 where it promises none.
    """

    fps: float
    width: int
    height: int
    frames: int


def facts_of_video(source: Source, start_seconds: float = 0.0, seconds: float = 0.0) -> VideoFacts:
    """Return what the header of a video file says; `start_seconds` and `seconds` choose a stretch, 0 seconds the rest.

    Raises ValueError for what is no video, naming the file.
    """
    with _opened(source) as container:
        stream = container.streams.video[0]
        fps = float(stream.average_rate or 0)
        if fps <= 0:
            raise ValueError(f"{_name(source)} does not say how many frames it has per second; save it again as .mp4")
        whole = stream.frames or round(float(container.duration or 0) / av.time_base * fps)
        rest = max(0, whole - round(start_seconds * fps))
        frames = min(rest, round(seconds * fps)) if seconds else rest
        return VideoFacts(fps, stream.width, stream.height, frames)


def frames_of_file(source: Source, start_seconds: float = 0.0, seconds: float = 0.0) -> Iterator[Tensor]:
    """Yield the frames of a video file in order, [f, H, W, 3] uint8, f as many as fit into MOST_BYTES, MOST_FRAMES at
    most; those of the stretch alone where one is chosen.

    Raises ValueError for what is no video, is damaged, or changes its size, naming the file and the frame.
    """
    batch: list[np.ndarray] = []
    count = 0
    with _opened(source) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        half = SLACK / float(stream.average_rate or 1)
        first = float((stream.start_time or 0) * stream.time_base)
        if start_seconds:
            container.seek(int((first + start_seconds) / stream.time_base), stream=stream)
        try:
            for frame in container.decode(stream):
                at = None if frame.time is None else frame.time - first
                if at is not None and at < start_seconds - half:
                    continue
                if seconds and at is not None and at >= start_seconds + seconds - half:
                    break
                picture = _picture(frame)
                if batch and picture.shape != batch[0].shape:
                    raise ValueError(
                        f"{_name(source)}: frame {count + 1} has {picture.shape[1]}x{picture.shape[0]} pixels, the one "
                        f"before {batch[0].shape[1]}x{batch[0].shape[0]}; one video has one size, save it again"
                    )
                batch.append(picture)
                count += 1
                if len(batch) >= min(MOST_FRAMES, max(1, MOST_BYTES // picture.nbytes)):
                    yield torch.from_numpy(np.stack(batch))
                    batch = []
        except av.error.FFmpegError as error:
            raise ValueError(
                f"{_name(source)} cannot be read behind frame {count} ({error}); it is damaged or unfinished: make it "
                f"again"
            ) from error
    if batch:
        yield torch.from_numpy(np.stack(batch))


def _picture(frame: av.VideoFrame) -> np.ndarray:
    """Return a frame as it is shown, [H, W, 3] uint8."""
    picture = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90)
    return np.ascontiguousarray(np.rot90(picture, turns)) if turns % 4 else picture


def _opened(source: Source) -> Any:
    if isinstance(source, io.BytesIO):
        source.seek(0)
    try:
        container = av.open(source if isinstance(source, io.BytesIO) else str(source))
    except (av.error.FFmpegError, OSError) as error:
        raise ValueError(f"{_name(source)} cannot be opened as a video ({error}); choose another file") from error
    if not container.streams.video:
        container.close()
        raise ValueError(f"{_name(source)} holds no video; choose another file")
    return container


def _name(source: Source) -> str:
    return "the video" if isinstance(source, io.BytesIO) else Path(source).name
