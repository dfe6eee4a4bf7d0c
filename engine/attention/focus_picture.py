"""Draw a focus map as a picture, in which a person chooses words and threshold.

The heat, or the light on the video's frame, shows the whole map; the outline, where it reaches the threshold. It knows
maps and frames, not where they come from.
"""

import torch
import torch.nn.functional as F

from ..plan.timeline import Timeline

OUTLINE = (1.0, 1.0, 1.0)
HEAT = torch.tensor([(0.0, 0.0, 0.15), (0.35, 0.0, 0.55), (0.9, 0.25, 0.2), (1.0, 0.85, 0.2)])  # at 0, 1/3, 2/3, 1
DIM = 0.35  # what is left of a frame's brightness where the map is 0


def frames_of_latent(images: torch.Tensor, timeline: Timeline) -> torch.Tensor:
    """Return the pixel frame at which each latent frame begins: [pixel frames, H, W, 3] -> [latent frames, H, W, 3]."""
    if len(images) != timeline.pixel_frames:
        raise ValueError(
            f"images has {len(images)} frames and the timeline {timeline.pixel_frames}; wire the decoded "
            f"video of the same plan"
        )
    return images[[timeline.facts.first_pixel_frame(frame) for frame in range(timeline.latent_frames)], ..., :3]


def heat(values: torch.Tensor) -> torch.Tensor:
    """Return [F, H, W, 3] colours, dark to bright, for [F, H, W] in 0..1."""
    place = values.clamp(0, 1) * (len(HEAT) - 1)
    low = place.floor().clamp(max=len(HEAT) - 2)
    colours, share = HEAT.to(values), (place - low)[..., None]
    return torch.lerp(colours[low.long()], colours[low.long() + 1], share)


def focus_pictures(
    maps: torch.Tensor, threshold: float, width: int, height: int, frames: torch.Tensor | None = None
) -> torch.Tensor:
    """Return [F, height, width, 3] pictures of `maps` [F, h, w] in 0..1, over frames [F, height', width', 3] in 0..1 or
    None.

    With frames: the frame, dimmed where the map is low, and the outline of what reaches the threshold. Without: the map
    as heat, and the same outline.
    """
    large = F.interpolate(maps[:, None], (height, width), mode="nearest")[:, 0]
    if frames is None:
        picture = heat(large)
    else:
        frames = F.interpolate(frames.movedim(-1, 1), (height, width), mode="bilinear", antialias=True).movedim(1, -1)
        picture = frames * (DIM + (1 - DIM) * large[..., None])
    inside = (large >= threshold).to(picture)
    return torch.where(_edge(inside)[..., None], torch.tensor(OUTLINE).to(picture), picture)


def _edge(inside: torch.Tensor) -> torch.Tensor:
    """Return where a pixel inside of [F, H, W] (0 and 1) has a neighbour outside, or lies at the picture's edge."""
    padded = F.pad(inside[:, None], (1, 1, 1, 1))
    return (inside == 1) & (-F.max_pool2d(-padded, 3, stride=1)[:, 0] == 0)
