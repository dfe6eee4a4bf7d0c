"""Lay sound under a video that is being written: from its first frame to its last, whatever length the sound has.

What is longer is cut and what is shorter goes on in silence, so that every player shows one length. Sound is written
beside the frames it belongs to, not behind them, so that the file plays while it loads and the muxer holds little. AAC,
as core's Save Video writes it, in blocks of 1,024 samples: the end is exact to one block. Loudness is left alone.
"""

import logging
from dataclasses import dataclass
from fractions import Fraction

import av
import torch
from av.container import OutputContainer
from torch import Tensor

LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}  # channels -> their name
OTHER_RATE = 48000  # samples per second of the file, where AAC does not know the sound's own rate
BLOCK = 1024  # samples that AAC encodes at once
logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Soundtrack:
    """This is sound [C, T] in -1..1 with `rate` samples per second; its first sample belongs to the first frame.

    Raises ValueError for other than 1, 2 or 6 channels, for no sample at all, and for a rate that is not above 0.
    """

    samples: Tensor  # [C, T]
    rate: int

    def __post_init__(self) -> None:
        channels, length = self.samples.shape
        if channels not in LAYOUTS:
            raise ValueError(f"the sound has {channels} channels; use 1 (mono), 2 (stereo) or 6 (5.1)")
        if not length:
            raise ValueError("the sound holds no sample; wire another one, or none")
        if self.rate <= 0:
            raise ValueError(f"the sound has {self.rate} samples per second; use a rate above 0, for instance 44100")

    @property
    def seconds(self) -> float:
        """Return how long it is."""
        return self.samples.shape[1] / self.rate

    def between(self, start: int, end: int) -> Tensor:
        """Return samples [C, end - start] float32, silent where there is no sound left; no number (NaN) is silence."""
        there = self.samples[:, start:end].to(device="cpu", dtype=torch.float32)
        there = torch.nan_to_num(there, nan=0.0, posinf=1.0, neginf=-1.0).clamp(-1, 1)
        return torch.nn.functional.pad(there, (0, end - start - there.shape[1])).contiguous()

    def said_beside(self, seconds: float) -> str | None:
        """Return what a video of so many seconds does to it; None where both are equally long, to one block."""
        difference = self.seconds - seconds
        if abs(difference) <= BLOCK / self.rate:
            return None
        what = f"its last {difference:.2f} s are cut" if difference > 0 else f"the last {-difference:.2f} s are silent"
        return f"The sound is {self.seconds:.2f} s long and the video {seconds:.2f} s: {what}."


class SoundWriter:
    """This writes a soundtrack into a container whose streams are not begun yet, as far as the frames have come."""

    def __init__(self, container: OutputContainer, soundtrack: Soundtrack):
        """Add the stream of sound."""
        known = av.codec.Codec("aac", "w").audio_rates or []
        self.container, self.soundtrack, self.written = container, soundtrack, 0
        self.layout = LAYOUTS[len(soundtrack.samples)]
        rate = soundtrack.rate if soundtrack.rate in known else OTHER_RATE
        self.stream = container.add_stream("aac", rate=rate, layout=self.layout)
        if not bool(torch.isfinite(soundtrack.samples).all()):
            logger.warning("The sound holds values that are no numbers (NaN, infinite): they become silence or peaks.")

    def write_until(self, seconds: Fraction) -> None:
        """Write all samples that belong before this time of the video."""
        end = round(seconds * self.soundtrack.rate)
        if end <= self.written:
            return
        samples = self.soundtrack.between(self.written, end)
        frame = av.AudioFrame.from_ndarray(samples.numpy(), format="fltp", layout=self.layout)
        frame.sample_rate, frame.time_base = self.soundtrack.rate, Fraction(1, self.soundtrack.rate)
        frame.pts = self.written
        self.container.mux(self.stream.encode(frame))
        self.written = end

    def end(self) -> None:
        """Write what the encoder still holds."""
        self.container.mux(self.stream.encode(None))
