"""Take the part of a CONDITIONING that belongs to one chunk of a rollout: the entries of its shots, and of what has a
time axis the frames of its window. Whatever else lies on the timeline and cannot be cut is refused by name.
"""

from collections.abc import Iterable

import torch

from ...engine.plan.rollout_chunks import Chunk
from ...engine.plan.timeline import Timeline
from .. import keys
from .time_axis import AREA, MASK, REFERENCES, check_mask_frames

UNCUT = (
    "control",
    "gligen",
    "keyframe_idxs",
    "guide_attention_entries",
    "audio_embed",
    "face_video_pixels",
    "camera_conditions",
    "reference_motion",
)
NO_LATENT_FRAMES = (*REFERENCES, "face_video_pixels")  # five axes, and what the third one counts is something else


def for_chunk(entries: list, chunk: Chunk, timeline: Timeline, shots: Iterable[int]) -> list:
    """Return the entries of a CONDITIONING that belong to these shots (from 0), cut to the chunk's window.

    Entries that came from elsewhere than Longreel Encode belong to every chunk.

    Raises ValueError for what stands on the timeline and cannot be cut into chunks.
    """
    chosen = [entry for entry in entries if entry[1].get(keys.SHOT) is None or entry[1][keys.SHOT] in shots]
    if chunk.latent_frames == timeline.latent_frames:
        return chosen
    return [
        [text, {key: _cut(key, value, chunk, timeline) for key, value in options.items()}, *rest]
        for text, options, *rest in chosen
    ]


def _cut(key: str, value: object, chunk: Chunk, timeline: Timeline):
    frames = timeline.latent_frames
    window = slice(chunk.start_frame, chunk.end_frame)
    if isinstance(value, torch.Tensor):
        if value.ndim == 5 and value.shape[2] == frames and key not in NO_LATENT_FRAMES:  # [B, C, F, H, W]
            return value[:, :, window]
        if key == MASK and value.ndim in (3, 4):  # [F, H, W] or [B, F, H, W], as core reads it; F may be 1
            axis = value.ndim - 3
            check_mask_frames(value.shape[axis], frames)
            return value if value.shape[axis] == 1 else value.narrow(axis, chunk.start_frame, chunk.latent_frames)
    if isinstance(value, (list, tuple)) and value and all(isinstance(part, torch.Tensor) for part in value):
        return [_cut(key, part, chunk, timeline) for part in value]
    if (key in UNCUT and value is not None) or (key == AREA and _has_time(value)):
        raise ValueError(
            f"the conditioning has a {key} for {frames} latent frames, and rollout "
            f"makes {chunk.latent_frames} at a time and cannot cut it; remove the node that adds it, or use mode joint"
        )
    return value


def _has_time(area: tuple) -> bool:
    """Return whether an area has time in front of its two axes; in parts of the whole a word goes before them."""
    return len([part for part in area if not isinstance(part, str)]) > 4
