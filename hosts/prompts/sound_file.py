"""Read the sound files that shots name, by PyAV and within bounds.

A file lies below the input folder, is opened as what its ending says (FFmpeg would take a playlist for a sound and open
what it names), and is read up to MOST_SECONDS; what lies behind is left where it is. Numbers are those of core's Load
Audio. What a network hears in them is hosts/prompts/shot_audio.py.
"""

from pathlib import Path
from typing import NamedTuple

import av
import torch

import folder_paths

from ...engine.storyboard.faults import StoryboardError
from ...engine.storyboard.media import resolve_media
from ...engine.storyboard.rules import show

MOST_SECONDS = 600  # of one file; its features are 100 KiB for each fiftieth of a second
FORMATS = {  # by ending, FFmpeg's name of it
    ".wav": "wav",
    ".mp3": "mp3",
    ".flac": "flac",
    ".aac": "aac",
    **dict.fromkeys((".ogg", ".oga", ".opus"), "ogg"),
    **dict.fromkeys((".m4a", ".mp4", ".mov"), "mp4"),
    **dict.fromkeys((".mka", ".mkv", ".webm"), "matroska"),
}


class Sound(NamedTuple):
    """waveform: [channels, samples] float of -1..1. whole: the file was read to its end."""

    waveform: torch.Tensor
    rate: int
    whole: bool

    @property
    def seconds(self) -> float:
        """Return how long it is."""
        return self.waveform.shape[1] / self.rate


def find_audio(name: str) -> Path:
    """Return the path of a sound file below the input folder. Raises StoryboardError where it is none that is read."""
    path = resolve_media(name, folder_paths.get_input_directory(), "file")
    if path.suffix.lower() not in FORMATS:
        raise StoryboardError(f"file is {show(name)}, and sound is read from {', '.join(FORMATS)}; convert it")
    return path


def read_sound(path: Path, most_seconds: float = MOST_SECONDS) -> Sound:
    """Return the first `most_seconds` of a file. Raises ValueError, naming it, for one without sound, or damaged."""
    parts: list[torch.Tensor] = []
    length, rate = 0, 0
    try:
        with av.open(str(path), format=FORMATS[path.suffix.lower()]) as file:
            if not file.streams.audio:
                raise ValueError(f"{path.name} has no sound in it; choose another file")
            stream = file.streams.audio[0]
            rate = stream.codec_context.sample_rate
            for frame in file.decode(stream):
                parts.append(_samples(frame))
                length += parts[-1].shape[1]
                if length >= most_seconds * rate:
                    break
    except av.FFmpegError as error:
        raise ValueError(
            f"{path.name} is damaged, or not what its ending says ({error.strerror}); copy it again, or convert it"
        ) from error
    if not length:
        raise ValueError(f"{path.name} has a sound of no length; choose another file")
    most = int(most_seconds * rate)
    return Sound(torch.cat(parts, 1)[:, :most], rate, length < most)


def _samples(frame: av.AudioFrame) -> torch.Tensor:
    """Return [channels, samples] of a frame, whole numbers as parts of the largest."""
    found = torch.from_numpy(frame.to_ndarray())
    if not frame.format.is_planar:
        found = found.view(-1, frame.layout.nb_channels).t()
    if found.dtype.is_floating_point:
        return found.float()
    middle = 128 if found.dtype == torch.uint8 else 0  # 8 bits have no sign
    return (found.float() - middle) / 2.0 ** (8 * found.element_size() - 1)
