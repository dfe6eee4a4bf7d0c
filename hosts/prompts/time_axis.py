"""What of a conditioning lies on the video's time axis, said by what it is and never by its size alone.

Core's context windows cut every tensor whose third axis is as long as the video. Text [1, tokens, channels], a picture
[1, C, H, W] and an area's mask [1, F, H, W] may be that by chance, and so may reference pictures, which are latents of
their own: they belong to no frame of the video. What moves along with the video beside its latent (sound, faces,
poses, cameras, control) is listed here as nodes name it in a CONDITIONING and as core's models name it in model_conds,
with the axis that its frames lie along and how many of them a latent frame has, as resize_cond_for_context_window of
core's models says. It differs from core in the sound of Wan S2V [B, layers, width, 4 F]: core looks for frames among
the layers, so that each of its windows hears the beginning. What a model of core cuts that is not listed is left to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..types import BaseModel, ContextWindow, Entry

LATENT_AXES = 5  # [B, C, F, H, W]
PIXEL_FRAMES = 4  # of Wan, to a latent frame
REFERENCES = (  # latents beside the video: of model_conds, and as nodes name them
    "reference_latent",
    "reference_latents",
    "ref_latent",
    "ref_latents",
    "reference_motion",
    "time_dim_concat",
)
MASK, AREA = "mask", "area"  # of an entry, as core has processed them: [B, F or 1, H, W], (F, H, W, f, y, x)
AUDIO, BESIDE = "audio_embed", "c_concat"  # sound; of model_conds, the channels beside the latent
START = "time_dim_replace"  # of Kandinsky 5: clean frames that take the place of the video's first ones


@dataclass(frozen=True)
class TimeAxis:
    """A value's frames lie along `axis`, `per_latent` of them to a latent frame of the video.

    to_the_end: the network takes none that ends before the video. led: reference pictures may lie in front.
    """

    axis: int
    per_latent: int = 1
    to_the_end: bool = False
    led: bool = False

    def latent_frames(self, value: torch.Tensor) -> int:
        """Return how many latent frames of the video a value reaches, its references counted too."""
        return -(-value.shape[self.axis] // self.per_latent)

    def of_frames(self, value: torch.Tensor, frames: Sequence[int]) -> torch.Tensor | None:
        """Return a value for these latent frames, as far as it reaches; None where it reaches none of them."""
        size, per = value.shape[self.axis], self.per_latent
        wanted = [place for frame in frames for place in range(frame * per, frame * per + per) if place < size]
        if not wanted:
            return None
        if wanted == list(range(wanted[0], wanted[0] + len(wanted))):  # a view, where a list would wait for the device
            return value.narrow(self.axis, wanted[0], len(wanted))
        return torch.cat([value.narrow(self.axis, place, 1) for place in wanted], self.axis)


SOUND_OF_FRAMES = TimeAxis(1, to_the_end=True)  # HuMo: [B, F, ...]
SOUND_OF_PIXEL_FRAMES = TimeAxis(3, PIXEL_FRAMES, to_the_end=True)  # Wan S2V: [B, layers, width, 4 F]
WIRED = {  # as nodes name them
    "face_video_pixels": TimeAxis(2, PIXEL_FRAMES),  # [B, 3, pixel frames, H, W]
    "pose_video_latent": TimeAxis(2),
    "camera_conditions": TimeAxis(2, to_the_end=True),
    "control_video": TimeAxis(2, to_the_end=True),
    "vace_frames": TimeAxis(2, to_the_end=True, led=True),
    "vace_mask": TimeAxis(2, to_the_end=True, led=True),
    "driving_mask_28ch": TimeAxis(1),  # [B, F, 28, H, W]
    "ref_mask_28ch": TimeAxis(1, to_the_end=True, led=True),
    START: TimeAxis(2),
}
OF_MODELS = {  # as core's models name them in model_conds
    "face_pixel_values": WIRED["face_video_pixels"],
    "pose_latents": TimeAxis(2),
    "camera_conditions": WIRED["camera_conditions"],
    "control_video": WIRED["control_video"],
    "vace_context": TimeAxis(3, to_the_end=True, led=True),  # [B, videos, C, F, H, W]
    "sam_latents": TimeAxis(2),
    "ref_mask_latents": TimeAxis(2, to_the_end=True, led=True),
    START: WIRED[START],
}


def time_axis_of(key: str, value: torch.Tensor, named: dict[str, TimeAxis]) -> TimeAxis | None:
    """Return where the frames of a value of this name lie; None where it has none. named: WIRED or OF_MODELS."""
    if key == AUDIO:
        return {5: SOUND_OF_FRAMES, 4: SOUND_OF_PIXEL_FRAMES}.get(value.ndim)
    if key in named:
        return named[key] if named[key].axis < value.ndim else None
    return TimeAxis(2) if lies_on_video(key, value) else None


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


def check_reaches_end(key: str, value: torch.Tensor, axis: TimeAxis, frames: int) -> None:
    """Raise ValueError for a value that ends before a video of so many latent frames, and must not."""
    found = axis.latent_frames(value)
    if axis.to_the_end and found < frames:
        raise ValueError(
            f"the conditioning has a {key} for {found} latent frames and the video has {frames}; give the node that "
            f"makes it the video's length, {(frames - 1) * PIXEL_FRAMES + 1} pixel frames"
        )


def check_not_led(key: str, value: torch.Tensor, axis: TimeAxis, frames: int) -> None:
    """Raise ValueError for a value with reference pictures in front, where every window is to begin with them."""
    found = axis.latent_frames(value)
    if axis.led and found > frames:
        raise ValueError(
            f"the conditioning has a {key} for {found} latent frames and the video has {frames}: a reference picture "
            f"takes a frame of its own in front, which segments that are sampled together do not have; use mode "
            f"rollout, or take the reference picture off the node that makes it"
        )


def _check_beside(value: torch.Tensor, frames: int) -> None:
    if value.shape[2] == frames + 1:
        check_not_led("picture beside the latent", value, TimeAxis(2, led=True), frames)
    if value.shape[2] != frames:
        raise ValueError(
            f"the conditioning has pictures beside the latent for {value.shape[2]} latent frames and the video has "
            f"{frames}; give the node that makes them the video's length, {(frames - 1) * PIXEL_FRAMES + 1} pixel "
            f"frames"
        )


def moving(model: BaseModel, entry: Entry, x: torch.Tensor, window: ContextWindow, frames: Sequence[int]) -> Entry:
    """Return what moves along with the video beside its latent, cut for a window of x [B, C, F, H, W].

    frames: the latent frames that the network is shown. It is in the form of an entry, with None for what does not
    reach them. Core's own rule is asked first.

    Raises ValueError for what ends before the video and must not, and for references in front.
    """
    cut: dict[str, object] = {}
    for key, value in entry["model_conds"].items():
        tensor = getattr(value, "cond", None)
        if key == BESIDE and isinstance(tensor, torch.Tensor):
            _check_beside(tensor, x.shape[2])
        if (key != AUDIO and key not in OF_MODELS) or not isinstance(tensor, torch.Tensor):
            continue
        axis = time_axis_of(key, tensor, OF_MODELS)
        if axis is None:
            continue
        by_core = None if key == AUDIO else model.resize_cond_for_context_window(key, value, window, x, None)
        if by_core is None:
            check_reaches_end(key, tensor, axis, x.shape[2])
            check_not_led(key, tensor, axis, x.shape[2])
            own = axis.of_frames(tensor, frames)
            by_core = None if own is None else value._copy_with(own)
        cut[key] = by_core
    return {"model_conds": cut}


def timeless(model: BaseModel, entry: Entry, x: torch.Tensor, window: ContextWindow) -> Entry:
    """Return what of an entry stays as it is for a window of x [B, C, F, H, W], in the form of an entry."""
    of_model = {
        key: value
        for key, value in entry["model_conds"].items()
        if isinstance(tensor := getattr(value, "cond", None), torch.Tensor)
        and time_axis_of(key, tensor, OF_MODELS) is None
        and model.resize_cond_for_context_window(key, value, window, x, None) is None
    }
    whole = {key: value for key, value in entry.items() if isinstance(value, torch.Tensor) and key != MASK}
    return {**whole, "model_conds": of_model}


def without(entry: Entry, *kept: Entry) -> Entry:
    """Return an entry without what `timeless` and `moving` found in it, and without mask and area."""
    of_entry = {MASK, AREA}.union(*kept)
    of_model = set().union(*(part["model_conds"] for part in kept))
    left = {key: value for key, value in entry.items() if key not in of_entry or key == "model_conds"}
    return {**left, "model_conds": {key: v for key, v in entry["model_conds"].items() if key not in of_model}}


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
