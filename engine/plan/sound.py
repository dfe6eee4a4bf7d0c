"""Where the sound of an audio-video family lies in time: sound frames are counted in the seconds of the pixel frames.

A sound frame is one latent of the sound's autoencoder, as a latent frame is one of the video's. Of so many pixel frames
the sound has as many frames as core's own nodes give it (LTXVEmptyLatentAudio rounds up), so a clip that is planned
here is as long as the same clip in core, and every boundary of a shot falls on the sound frame of its pixel frame. A
network places the first latent frame that it is shown as a single pixel frame; the sound that it hears with it begins
there. Ints only; how sound is made and decoded is not known here.
"""

import math
from dataclasses import dataclass

from .facts import ModelFacts, SoundFacts
from .timeline import Timeline


@dataclass(frozen=True)
class SoundPlan:
    """The sound of a video of one family at so many pixel frames per second."""

    video: ModelFacts
    sound: SoundFacts
    fps: float

    def frames(self, pixel_frames: int) -> int:
        """Return how many sound frames begin before this pixel frame: as many as a clip of that length has."""
        return math.ceil(pixel_frames / self.fps * self.sound.frames_per_second)  # as core reckons it

    def between(self, start: int, end: int) -> tuple[int, int]:
        """Return the sound frames [first, last + 1) of the latent frames [start, end) of a video."""
        first, last = (self.video.first_pixel_frame(frame) for frame in (start, end))
        return self.frames(first), self.frames(last)

    def lead(self, start: int) -> int:
        """Return how many sound frames belong to the pixel frame in front of latent frame `start`.

        That pixel frame is what a network makes of a latent frame that it is shown in front.
        """
        first = self.video.first_pixel_frame(start)
        return self.frames(first) - self.frames(first - 1) if first else 0

    def latent_frame_of(self, latent_frames: int) -> list[int]:
        """Return for each sound frame of a video of so many latent frames the latent frame that it belongs to."""
        of_frames = [self.between(frame, frame + 1) for frame in range(latent_frames)]
        return [frame for frame, (first, last) in enumerate(of_frames) for _ in range(first, last)]

    def shape(self, latent_frames: int, batch: int = 1) -> tuple[int, int, int, int]:
        """Return the shape [B, C, T, frequencies] of the sound of a video of so many latent frames."""
        return (batch, self.sound.channels, self.between(0, latent_frames)[1], self.sound.frequencies)


def sound_of(timeline: Timeline) -> SoundPlan | None:
    """Return the plan of a timeline's sound; None for a family that makes none."""
    sound = timeline.facts.sound
    return None if sound is None else SoundPlan(timeline.facts, sound, timeline.fps)
