"""Read the files of clips: videos, folders of pictures, latents; what is in them, and their frames.

Which clips there are and what must be true of them is not known here (training/dataset.py).
"""

import hashlib
from pathlib import Path

import av
import numpy as np
from PIL import Image
from safetensors import SafetensorError, safe_open

VIDEOS = (".mp4", ".mov", ".mkv", ".webm")
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
LATENT = ".safetensors"
LATENT_NAME = "latent"


def latent_shape_of(path: Path) -> tuple[int, int, int, int]:
    """Return [C, F, h, w] of a file with one tensor `latent`. Raises ValueError where it is no such file."""
    try:
        with safe_open(path, "pt") as file:
            names = list(file.keys())
            if LATENT_NAME not in names:
                raise ValueError(
                    f"{path.name} holds {len(names)} tensors and no {LATENT_NAME!r}; save the latent [C, F, h, w] "
                    f"under this name"
                )
            shape = list(file.get_slice(LATENT_NAME).get_shape())
    except SafetensorError as error:
        raise ValueError(
            f"{path.name} is no whole safetensors file ({error}, {path.stat().st_size} bytes); save it again"
        ) from error
    if len(shape) != 4:
        raise ValueError(f"{path.name} has a latent of {len(shape)} axes, {shape}, not 4; save it as [C, F, h, w]")
    channels, frames, rows, columns = shape
    return channels, frames, rows, columns


def digest_of(path: Path) -> tuple[str, int]:
    """Return the SHA-256 of a file, or of a folder's pictures one after the other; and the number of bytes."""
    found, count = hashlib.sha256(), 0
    for file in pictures_of(path) if path.is_dir() else [path]:
        with open(file, "rb") as stream:
            while part := stream.read(2**20):
                found.update(part)
                count += len(part)
    return found.hexdigest(), count


def pictures_of(folder: Path) -> list[Path]:
    """Return the pictures of a folder, in the order of their names."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)


def picture_facts(folder: Path) -> tuple[None, int, int, int]:
    """Return (no frame rate, frames, width, height). Raises ValueError where pictures differ in size."""
    pictures = pictures_of(folder)
    with Image.open(pictures[0]) as picture:
        width, height = picture.size
    for path in pictures:
        with Image.open(path) as picture:
            if picture.size != (width, height):
                raise ValueError(
                    f"{folder.name}/{path.name} has {picture.size[0]}x{picture.size[1]} pixels and the "
                    f"first picture {width}x{height}; resize it"
                )
    return None, len(pictures), width, height


def video_facts(path: Path) -> tuple[float, int, int, int]:
    """Return (frames per second, frames, width, height); frames are counted where the container does not say.

    Raises ValueError where it is no video.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError(f"{path.name} has no video stream; take it out, or convert it")
            stream = container.streams.video[0]
            count = stream.frames or sum(1 for _ in container.decode(stream))
            if stream.average_rate is None:
                raise ValueError(f"{path.name} does not say its frames per second; convert it, or take it out")
            return float(stream.average_rate), count, stream.width, stream.height
    except av.FFmpegError as error:
        raise ValueError(
            f"{path.name} is no video that can be read ({error}, {path.stat().st_size} bytes); convert it, or take it "
            f"out"
        ) from error


def video_frames(path: Path, wanted: range) -> list[np.ndarray]:
    """Return [H, W, 3] uint8 each, of the frames with these numbers from 0. Decoded from the start: clips are short,
    and seeking is not exact in every container.
    """
    frames = []
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(container.streams.video[0])):
            if number >= wanted.stop:
                break
            if number in wanted:
                frames.append(frame.to_ndarray(format="rgb24"))
    if len(frames) != len(wanted):
        raise ValueError(
            f"{path.name} gave {len(frames)} of the {len(wanted)} frames {wanted.start} to "
            f"{wanted.stop - 1}; the file was cut short: convert it again"
        )
    return frames


def picture_frames(folder: Path, wanted: range) -> list[np.ndarray]:
    """Return [H, W, 3] uint8 each, of the pictures with these numbers from 0."""
    pictures = pictures_of(folder)[wanted.start : wanted.stop]
    return [np.array(Image.open(path).convert("RGB")) for path in pictures]
