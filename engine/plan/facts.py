"""These facts, plain numbers, are what planning needs to know of a model family.

A host (hosts/families/<family>.py) fills this in; nothing here asks which family it is.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class SoundFacts:
    """This is the sound beside a family's video: latents [B, channels, T, frequencies], so many T a second."""

    channels: int
    frequencies: int
    frames_per_second: int


@dataclass(frozen=True)
class ModelFacts:
    """This says how a family counts frames: `temporal_stride` pixel frames share one latent frame, except the first,
    which is a single pixel frame: F latent frames are 1 + temporal_stride * (F - 1) pixel frames.
    `native_latent_frames` is the clip length that the family was trained on. `size_multiple` is what width and height
    must be divisible by, in pixels. A token of the network is `patch_frames` latent frames. `knows_frame_times`: its
    networks learned a time for every frame, so a frame may be clean while the others are noise. `unsaid_frame_rate`:
    pixel frames per second by which its networks place frames in time where the conditioning does not say any; None
    for networks that are told none. `sound`: of a family that makes sound in the same latent; None for silent ones.
    """

    family: str
    latent_channels: int
    temporal_stride: int
    spatial_stride: int
    size_multiple: int
    native_latent_frames: int
    native_fps: float
    patch_frames: int = 1
    knows_frame_times: bool = False
    unsaid_frame_rate: float | None = None
    sound: SoundFacts | None = None

    def pixel_frames(self, latent_frames: int) -> int:
        return 1 + self.temporal_stride * (latent_frames - 1)

    def latent_frames(self, pixel_frames: int) -> int:
        """Return the latent frames of a clip of exactly `pixel_frames`; refuses a number that the family
        cannot make.
        """
        count, rest = divmod(pixel_frames - 1, self.temporal_stride)
        if pixel_frames < 1 or rest:
            below = self.pixel_frames(max(1, count + 1))
            raise ValueError(
                f"{pixel_frames} pixel frames is not {self.temporal_stride}n+1 for {self.family}; "
                f"use {below} or {below + self.temporal_stride}"
            )
        return count + 1

    def nearest_latent_frames(self, pixel_frames: float) -> int:
        """Return the latent frames of the clip whose length is nearest to `pixel_frames`; at least one."""
        half = 0.5 + 1e-9  # what a sum of seconds lost in rounding must not push a half down
        return max(1, int((pixel_frames - 1) / self.temporal_stride + half) + 1)

    def first_pixel_frame(self, latent_frame: int) -> int:
        """Return the pixel frame at which a latent frame begins."""
        return 0 if latent_frame == 0 else 1 + self.temporal_stride * (latent_frame - 1)

    def latent_frame_of(self, pixel_frame: int) -> int:
        """Return the latent frame that a pixel frame is decoded from."""
        return -(-pixel_frame // self.temporal_stride)

    def nearest_size(self, width: int, height: int) -> tuple[int, int]:
        """Return the size nearest to width x height pixels that the family can make; halves round up, as 1080 to
        1088.
        """
        step = self.size_multiple
        return max(1, (width + step // 2) // step) * step, max(1, (height + step // 2) // step) * step

    def check_size(self, width: int, height: int) -> None:
        for name, value in (("width", width), ("height", height)):
            if value < self.size_multiple or value % self.size_multiple:
                below = max(1, value // self.size_multiple) * self.size_multiple
                raise ValueError(
                    f"{name} {value} is not a multiple of {self.size_multiple} for {self.family}; "
                    f"use {below} or {below + self.size_multiple}"
                )
