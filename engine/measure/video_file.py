"""Write frames into an h264 .mp4, one after the other, and leave a finished file or none.

The file grows under a short name in its own folder and gets its real name when it is complete, the next free number if
another run took that meanwhile. Nothing is overwritten, and what a killed process left is removed
(engine/runs/unfinished.py). Colours are 8 bit, yuv420p, as core's Save Video
writes them, for every player. It knows nothing of where the frames come from.
"""

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import torch
from torch import Tensor

from ..runs.disk import stopped
from ..runs.name import check_bytes
from ..runs.numbered_file import publish
from ..runs.unfinished import growing_file
from .soundtrack import Soundtrack, SoundWriter

# The encoder keeps some frames per thread: a fixed number keeps its memory the same on every machine.
ENCODER_THREADS = 4
# x264's AVX-512 code reads on behind a row of 16 x 16 pixel blocks that does not fill its registers, so that at 64, 480
# or 832 pixels of width the file depends on what was in memory before. With AVX2 the same frames are the same bytes.
SAME_BYTES = {"x264-params": "asm=avx2"}
SMALLEST_CRF, LARGEST_CRF = 1, 51
ENDING = ".mp4"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WrittenVideo:
    """This is a finished file: where it is, frames in it, width and height in pixels."""

    path: Path
    frames: int
    width: int
    height: int


def refuse_odd_size(width: int, height: int) -> None:
    """Raise ValueError when h264 cannot hold the size: its colours are stored for 2x2 pixels."""
    if width % 2 or height % 2:
        raise ValueError(
            f"{width}x{height} pixels: an h264 video has even sizes; use {width + width % 2}x{height + height % 2}"
        )


def write_video(
    frames: Iterable[Tensor],
    folder: Path,
    stem: str,
    counter: int,
    fps: float,
    crf: int,
    metadata: dict[str, str] | None = None,
    sound: Soundtrack | None = None,
) -> WrittenVideo:
    """Encode `frames` to `folder/<stem>_<counter>_.mp4`, or the next free counter, and say where it is.

    Args:
        frames: tensors [f, H, W, 3], 0..1, f may differ; read one by one, so a generator keeps memory flat.
        folder: exists.
        fps: frames per second, above 0.
        crf: h264 quality, 1 (largest file) to 51 (smallest).
        metadata: tags of the container.
        sound: laid under all of it (soundtrack.py); None: the file has none.
    Raises:
        ValueError: no frame, an odd size, sizes that differ, fps or crf out of range, a name that is too long.
        WriteError: the disk is full or may not be written; it names the bytes. No file is left.
    """
    check_bytes("the name of the video", stem, len(f"_00001_{ENDING}"))
    if fps <= 0:
        raise ValueError(f"fps is {fps}; use a number above 0, for instance 16")
    if not SMALLEST_CRF <= crf <= LARGEST_CRF:
        raise ValueError(f"crf is {crf}; use {SMALLEST_CRF} (best) to {LARGEST_CRF} (smallest file)")
    written = 0
    try:
        with growing_file(folder) as part:
            try:
                rate = Fraction(fps).limit_denominator(1001)
                count, width, height = _encode(frames, part, rate, crf, metadata=metadata or {}, sound=sound)
                with open(part, "rb+") as file:
                    os.fsync(file.fileno())
                path = publish(part, folder, stem, counter, ENDING)
            finally:
                written = part.stat().st_size if part.exists() else 0
    except OSError as error:
        raise stopped(f"the video {stem}", f"has {written:,} bytes so far", folder, error) from error
    return WrittenVideo(path, count, width, height)


def _encode(
    frames: Iterable[Tensor],
    part: Path,
    rate: Fraction,
    crf: int,
    *,
    metadata: dict[str, str],
    sound: Soundtrack | None,
) -> tuple[int, int, int]:
    """Write all frames to `part`, and return their number, width and height."""
    pictures = _pictures(frames)
    first = next(pictures, None)
    if first is None:
        raise ValueError("no frames came in; give at least one")
    height, width = first.shape[:2]
    refuse_odd_size(width, height)
    # faststart puts the index in front, so that a browser plays while it loads; the tags need use_metadata_tags.
    options = {"movflags": "use_metadata_tags+faststart"}
    with av.open(str(part), mode="w", format="mp4", options=options) as container:
        container.metadata.update(metadata)
        stream = container.add_stream("h264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        # Only where there is AVX-512: x264 takes our word for it, and no processor has that without AVX2.
        stream.options = {
            "crf": str(crf),
            **(SAME_BYTES if torch.backends.cpu.get_cpu_capability() == "AVX512" else {}),
        }
        stream.codec_context.thread_count = ENCODER_THREADS
        writer = SoundWriter(container, sound) if sound else None
        count = 0
        picture: Tensor | None = first
        while picture is not None:
            if tuple(picture.shape[:2]) != (height, width):
                raise ValueError(
                    f"frame {count} has {picture.shape[1]}x{picture.shape[0]} pixels, "
                    f"the first has {width}x{height}; one video has one size"
                )
            frame = av.VideoFrame.from_ndarray(picture.numpy(), format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = count, 1 / rate
            container.mux(stream.encode(frame))
            count += 1
            if writer:
                writer.write_until(count / rate)
            picture = next(pictures, None)
        container.mux(stream.encode(None))
        if writer:
            writer.end()
    return count, width, height


def _pictures(frames: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield one [H, W, 3] uint8 after the other from [f, H, W, 3] in 0..1."""
    count = 0
    warned = False
    for chunk in frames:
        if not warned and bool(torch.isnan(chunk).any()):
            logger.warning(
                "Frames from number %d on hold values that are no numbers (NaN), which become black; the "
                "VAE overflowed, start ComfyUI with --fp32-vae.",
                count,
            )
            warned = True
        count += chunk.shape[0]
        levels = torch.nan_to_num(chunk * 255.0, nan=0.0).round().clamp(0, 255)
        yield from levels.to(device="cpu", dtype=torch.uint8).contiguous()
