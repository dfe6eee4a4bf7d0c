"""Clips with and without defects for the yardsticks: a disc that moves over a smooth picture, painted here.

The pack's demo world is another one on purpose: what these functions see must not depend on it.
"""

import torch
import torch.nn.functional as F

SIDE = 64
_AXIS = torch.arange(SIDE) + 0.5


def paper(seed: int = 0) -> torch.Tensor:
    """A smooth picture in pale colours, [H, W, 3]."""
    noise = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    picture = F.interpolate(noise, size=(SIDE, SIDE), mode="bicubic", align_corners=False).clamp(0, 1)
    return 0.6 + 0.3 * picture[0].permute(1, 2, 0)


def walk(
    frames: int, step: tuple[float, float] = (1.0, 0.5), start: tuple[float, float] = (22.0, 26.0)
) -> torch.Tensor:
    """Centres [F, 2] (x, y) of a steady movement."""
    return torch.tensor(start) + torch.arange(frames)[:, None] * torch.tensor(step)


def clip(track: torch.Tensor, color=(0.1, 0.2, 0.7), radius: float = 9.0, share: float = 1.0, seed: int = 0):
    """Frames [F, H, W, 3] of one disc at each centre of `track`, over a still picture; share: how opaque it is."""
    return draw(paper(seed).expand(len(track), -1, -1, -1), track, color, radius, share)


def draw(video, track, color=(0.1, 0.2, 0.7), radius: float = 9.0, share: float = 1.0) -> torch.Tensor:
    """The video with one more disc."""
    away = (_AXIS[None, None, :] - track[:, 0, None, None]) ** 2 + (_AXIS[None, :, None] - track[:, 1, None, None]) ** 2
    cover = share * (radius + 0.5 - away.sqrt()).clamp(0, 1).unsqueeze(-1)
    return video * (1 - cover) + cover * torch.tensor(color)


def frames_that_flash(frames: int, white: list[int]):
    """Black frames of 16 x 16 pixels, some of them white: chunks [f, 16, 16, 3] one after the other."""
    for start in range(0, frames, 50):
        chunk = torch.zeros(min(50, frames - start), 16, 16, 3)
        for number in white:
            if start <= number < start + len(chunk):
                chunk[number - start] = 1.0
        yield chunk
