"""Take a VIDEO or an IMAGE of ComfyUI as a film of frames that come a few at a time.

A VIDEO that is a file is read as a stream, also where a node trimmed it; one that holds its frames in memory, and an
IMAGE, are in memory already. Sound is left out.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from comfy_api.latest import InputImpl

from ...engine.measure.frames_of_file import MOST_FRAMES, facts_of_video, frames_of_file
from ..types import Video
from .report import Film


def film_of_video(video: Video) -> tuple[Film, Path | None]:
    """Return a VIDEO as a film, and the file that it is, where it is one.

    Raises ValueError for a file that holds no video.
    """
    if not isinstance(video, InputImpl.VideoFromFile):
        parts = video.get_components()
        return film_of_images(parts.images, float(parts.frame_rate), "video"), None
    source, (start, seconds) = video.get_stream_source(), video.get_active_trim_window()
    path = Path(source) if isinstance(source, str) else None
    facts = facts_of_video(source, start, seconds)
    pictures = frames_of_file(source, start, seconds)
    name = path.name if path else "video"
    return Film(name, facts.fps, facts.width, facts.height, facts.frames, pictures), path


def film_of_images(images: Tensor, fps: float, name: str = "images") -> Film:
    """Return an IMAGE [F, H, W, 3 or more], 0..1, as a film."""
    return Film(name, fps, images.shape[2], images.shape[1], len(images), _bytes(images))


def _bytes(images: Tensor) -> Iterator[Tensor]:
    """Yield the frames as a file has them, [f, H, W, 3] uint8."""
    for part in images.split(MOST_FRAMES):
        levels = torch.nan_to_num(part[..., :3].float() * 255, nan=0.0)
        yield levels.round().clamp(0, 255).to(device="cpu", dtype=torch.uint8)
