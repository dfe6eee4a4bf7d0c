"""Films with one defect each, for the report: a textured square that moves over a smooth picture, and what goes wrong.

Everything has texture, for optical flow sees none without; and nothing is the demo world's.
"""

import torch
import torch.nn.functional as F

from longreel.engine.measure.by_frame import Columns, FrameMeter, Meter
from longreel.engine.measure.figures import JointSpan, ShotSpan, figures_of

SIDE, FPS = 32, 8.0


def texture(side: int, cells: int, seed: int) -> torch.Tensor:
    noise = torch.rand(1, 3, cells, cells, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(noise, size=(side, side), mode="bicubic", align_corners=False)[0].clamp(0, 1).permute(1, 2, 0)


def film(frames: int, *, step: float = 1.0, seed: int = 0, start: int = 3) -> torch.Tensor:
    """Frames [F, SIDE, SIDE, 3], 0..1, of a square of 10 pixels that moves right by `step` pixels a frame."""
    back, square = 0.55 + 0.4 * texture(SIDE, 5, seed), 0.5 * texture(10, 4, seed + 100)
    video = back.expand(frames, -1, -1, -1).clone()
    for t in range(frames):
        left = min(start + round(step * t), SIDE - 10)
        video[t, 11:21, left : left + 10] = square
    return video


def as_bytes(video: torch.Tensor) -> torch.Tensor:
    return (video * 255).round().clamp(0, 255).byte()


def measured(video: torch.Tensor, *meters: Meter, chunk: int = 7) -> tuple[Columns, FrameMeter]:
    """The columns of a video [F, H, W, 3], 0..1, that comes `chunk` frames at a time, and the meter of frames alone."""
    meter = FrameMeter()
    for part in as_bytes(video).split(chunk):
        for one in (meter, *meters):
            one.push(part)
    columns: Columns = {}
    for one in (meter, *meters):
        columns |= one.finish()
    return columns, meter


def figures(
    video: torch.Tensor, *meters: Meter, shots: tuple[int, ...] = (), joints: tuple[JointSpan, ...] = ()
) -> dict:
    """The figures of a video whose shots have so many frames."""
    columns, meter = measured(video, *meters)
    ends = [sum(shots[: n + 1]) for n in range(len(shots))]
    spans = [
        ShotSpan(end - length, end, f"prompt {n}") for n, (end, length) in enumerate(zip(ends, shots, strict=True))
    ]
    return figures_of(columns, meter.loop, FPS, spans, joints)
