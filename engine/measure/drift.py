"""Measure how far a video's colours, brightness, contrast and sharpness drift from those of its first second.

A long rollout or a fading memory changes a video slowly: no pair of frames differs, the end and the beginning do. Each
stretch of `window_frames` is compared with the first one in five statistics of its frames: the mean of each channel
(`color`, the largest of its differences), the mean and the deviation of their brightness (`brightness`, `contrast`),
the distance of pixels from grey (`saturation`) and the difference of neighbouring pixels (`sharpness`). All in units of
the range 0..1; a video in which nothing drifts is at 0 but for what moves in and out of it.

Statistics do not know what a frame shows: another scene drifts by this measure, so one take at a time belongs in it;
an object that changes places with another of the same colours does not drift. A small object's colour moves the mean by
its share of the picture; the tests say which is first seen (tests/engine/measure/test_drift.py). Own definition.
"""

import itertools
from dataclasses import dataclass

import torch

from .metrics import reduced

SHORT_SIDE = 64  # pixels
STATISTICS = ("color", "brightness", "contrast", "saturation", "sharpness")
_LUMA = (0.299, 0.587, 0.114)  # BT.601


@dataclass(frozen=True)
class Drift:
    """`by_window` gives for each statistic how far every stretch of `window_frames` lies from the first one, [N]; the
    first entry is 0. `worst` is the name, the size and the window (from 0) of the largest one.
    """

    by_window: dict[str, torch.Tensor]
    window_frames: int

    @property
    def worst(self) -> tuple[str, float, int]:
        name = max(self.by_window, key=lambda n: float(self.by_window[n].max()))
        at = int(self.by_window[name].argmax())
        return name, float(self.by_window[name][at]), at

    @property
    def at_the_end(self) -> dict[str, float]:
        return {name: float(values[-1]) for name, values in self.by_window.items()}


def find_drift(video: torch.Tensor, window_frames: int) -> Drift:
    """Compare each stretch of `window_frames` of a video [F, H, W, 3], values 0..1, with its first one. Frames that are
    left over at the end belong to the last stretch.

    Raises:
        ValueError: not a video of 3 channels, or fewer frames than one window.
    """
    if video.ndim != 4 or video.shape[-1] != 3 or not 1 <= window_frames <= len(video):
        raise ValueError(
            f"drift needs a video [F, H, W, 3] of at least one window of {window_frames} frames, got "
            f"{list(video.shape)}; use a shorter window"
        )
    return drift_of(torch.cat([statistics(part) for part in video.split(64)]), window_frames)


def drift_of(rows: torch.Tensor, window_frames: int) -> Drift:
    """Return `find_drift` of frames whose `statistics` are known, [F, 7], F of at least one window."""
    count = len(rows) // window_frames
    ends = [n * window_frames for n in range(count)] + [len(rows)]
    means = torch.stack([rows[a:b].mean(0) for a, b in itertools.pairwise(ends)])  # [N, 7]
    away = (means - means[0]).abs()
    columns = [away[:, :3].amax(1), *away[:, 3:].unbind(1)]
    return Drift(dict(zip(STATISTICS, columns, strict=True)), window_frames)


def statistics(frames: torch.Tensor) -> torch.Tensor:
    """Return [F, 7] of [F, H, W, 3]: means of the channels, brightness, contrast, saturation, sharpness."""
    small = reduced(frames, SHORT_SIDE)  # [F, 3, h, w]
    luma = (small * torch.tensor(_LUMA).view(1, 3, 1, 1)).sum(1)
    edges = (luma[:, :, 1:] - luma[:, :, :-1]).abs().mean((1, 2)) + (luma[:, 1:] - luma[:, :-1]).abs().mean((1, 2))
    saturation = (small - small.mean(1, keepdim=True)).abs().amax(1)
    rest = [luma.mean((1, 2)), luma.flatten(1).std(1), saturation.mean((1, 2)), edges / 2]
    return torch.cat([small.mean((2, 3)), torch.stack(rest, 1)], 1)
