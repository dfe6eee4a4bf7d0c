"""What of a conditioning entry lies on the video's time axis, said by what it is and never by its size alone.

Core's context windows cut every tensor whose third axis is as long as the video. Text [1, tokens, channels], a picture
[1, C, H, W] and an area's mask [1, F, H, W] may be that by chance, and so may reference pictures, which are latents of
their own: they belong to no frame of the video. What a model's own file in core cuts (audio, VACE, SCAIL, ...) is left
to it.
"""

from collections.abc import Sequence

import torch

from ..types import BaseModel, ContextWindow, Entry

LATENT_AXES = 5  # [B, C, F, H, W]
REFERENCES = (  # latents beside the video: of model_conds, and as nodes name them
    "reference_latent",
    "reference_latents",
    "ref_latent",
    "ref_latents",
    "reference_motion",
    "time_dim_concat",
)
CUT_BY_CORE = ("audio_embed", "vace_context")  # whatever a model's own file says of them
MASK, AREA = "mask", "area"  # of an entry, as core has processed them: [B, F or 1, H, W], (F, H, W, f, y, x)


def lies_on_video(key: str, value: torch.Tensor) -> bool:
    """Return whether a tensor of this name has the video's frames as its third axis, if it has as many of them."""
    return value.ndim == LATENT_AXES and key not in REFERENCES


def check_mask_frames(found: int, frames: int) -> None:
    """Raise ValueError unless an area's mask has a frame for each latent frame of the video, or one for all."""
    if found not in (1, frames):
        raise ValueError(
            f"an area's mask of the conditioning has {found} frames and the latent {frames}; masks count latent "
            f"frames: use {frames}, or 1 for all"
        )


def timeless(model: BaseModel, entry: Entry, x: torch.Tensor, window: ContextWindow) -> Entry:
    """Return what of an entry stays as it is for a window of x [B, C, F, H, W], in the form of an entry."""
    of_model = {
        key: value
        for key, value in entry["model_conds"].items()
        if isinstance(tensor := getattr(value, "cond", None), torch.Tensor)
        and not lies_on_video(key, tensor)
        and key not in CUT_BY_CORE
        and model.resize_cond_for_context_window(key, value, window, x, None) is None
    }
    whole = {key: value for key, value in entry.items() if isinstance(value, torch.Tensor) and key != MASK}
    return {**whole, "model_conds": of_model}


def without(entry: Entry, kept: Entry) -> Entry:
    """Return an entry without what `timeless` found in it, and without mask and area."""
    left = {key: value for key, value in entry.items() if key not in kept and key not in (MASK, AREA)}
    of_model = {key: value for key, value in entry["model_conds"].items() if key not in kept["model_conds"]}
    return {**left, "model_conds": of_model}


def cut_area(entry: Entry, frames: Sequence[int], total_frames: int) -> Entry | None:
    """Return an entry's mask and area for the latent frames of a window; None where it is nowhere in them.

    Raises ValueError as `check_mask_frames` does.
    """
    cut: Entry = {key: entry[key] for key in (MASK, AREA) if key in entry}
    mask, area = cut.get(MASK), cut.get(AREA)
    if mask is not None:
        check_mask_frames(mask.shape[1], total_frames)
        cut[MASK] = mask if mask.shape[1] == 1 else mask[:, list(frames)]
    if area is not None and len(area) == 6:
        start, stop = area[3], area[3] + area[0]
        here = [place for place, frame in enumerate(frames) if start <= frame < stop]
        if not here:
            return None
        cut[AREA] = (len(here), *area[1:3], here[0], *area[4:])
    return cut
