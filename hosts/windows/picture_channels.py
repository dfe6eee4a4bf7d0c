"""Show an image-to-video network the frames that are known in the channels that it was trained to read them from.

What core's nodes say (WanImageToVideo, WanFirstLastFrameToVideo, ...) keeps its place on the timeline; known frames,
the finished ones of a rollout, anchors, and what a noise mask keeps, are written beside it. Then core builds the
channels as it does for a single clip that these frames begin (hosts/families/picture_channels.py).

Masks are 0 or 1 there, as in training: a frame that is kept by half or more is known, as core rounds its own masks.
Known frames are latents, so a chunk's first one shows several pixel frames where a clip's first one shows a single one.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

import comfy.utils

from ...engine.plan.timeline import Timeline
from ..families import picture_channels_of
from ..families.picture_channels import CLEAN_FIRST_FRAME, MASK, MASK_PLACE, PICTURE, PictureChannels
from ..types import BaseModel, Conditioning, CondLists, Entry, Guider
from .context_pass import FRAME_AXIS

ROUNDING = 1e-5  # by which a picture without a mask may differ from what stands for nothing
KNOWN = 0.5  # keep strength from which a frame is shown as known
CHANNELS = "c_concat"  # of model_conds: what core makes of picture and mask


@dataclass(frozen=True, eq=False)
class KnownFrame:
    """This is the latent frame number `frame` of a window or video, which shows `latent` [1 or B, C, H, W]."""

    frame: int
    latent: torch.Tensor


def kept_frames(latent: torch.Tensor, mask: torch.Tensor | None, least: float = KNOWN) -> list[KnownFrame]:
    """Return the frames of a latent that a sampler's noise mask, both [B, C, F, H, W], keeps at least so much."""
    if mask is None:
        return []
    drawn = mask.amax((0, 1, 3, 4)).tolist()
    return [KnownFrame(frame, latent[:, :, frame]) for frame, most in enumerate(drawn) if most <= 1 - least]


def on_timeline(model: BaseModel, conditioning: Conditioning, frames: int) -> Conditioning:
    """Return a CONDITIONING whose pictures are as long as a timeline of so many latent frames; they stand at its start.

    Those that a reference leads come as long as the video, which is looked at where they are cut
    (hosts/prompts/chunk_conditioning.py). Raises ValueError as `placed` does.
    """
    channels = picture_channels_of(model)
    if channels is None or channels.led:
        return conditioning
    made: dict = {}
    return [[text, placed(options, model, channels, frames, made), *rest] for text, options, *rest in conditioning]


def of_window(
    model: BaseModel, conditioning: Conditioning, latent: torch.Tensor, mask: torch.Tensor | None
) -> Conditioning:
    """Return the CONDITIONING of a window that shows what a sampler's noise mask keeps of its latent [B, C, F, H, W].

    A network that takes the first frame for clean is told so only where it is.
    """
    channels = picture_channels_of(model)
    known = kept_frames(latent, mask) if channels else []
    first_is_clean = mask is not None and not mask[:, :, 0].any()
    made: dict = {}

    def shown(options: dict) -> dict:
        if CLEAN_FIRST_FRAME in options and not first_is_clean:
            options = {key: value for key, value in options.items() if key != CLEAN_FIRST_FRAME}
        return options if channels is None else with_known(options, known, model, channels, latent.shape, made)

    return [[text, shown(options), *rest] for text, options, *rest in conditioning]


def show_in(guider: Guider, known: Sequence[KnownFrame], shape: Sequence[int]) -> None:
    """Have one call of a guider's sampler show known frames of its latent, of this shape [B, C, F, H, W]."""
    model = guider.model_patcher.model
    channels = picture_channels_of(model)
    if channels is None:
        return
    made: dict = {}
    guider.conds = {
        name: [with_known(entry, known, model, channels, shape, made) for entry in entries]
        for name, entries in guider.conds.items()
    }


def with_known(
    options: Mapping,
    known: Sequence[KnownFrame],
    model: BaseModel,
    channels: PictureChannels,
    shape: Sequence[int],
    made: dict | None = None,
) -> dict:
    """Return what goes with a prompt, with known frames in the picture of a latent of this shape, [B, C, F, H, W].

    made: filled with what was made of each picture; entries that share one share the result.
    """
    made = {} if made is None else made
    options = placed(options, model, channels, shape[FRAME_AXIS], made)
    if not known or not channels.used_by(options):
        return options
    key = ("known", id(options.get(PICTURE)), id(options.get(MASK)))
    if key not in made:
        held = options.get(PICTURE), options.get(MASK)  # so that nothing else gets their numbers
        made[key] = (*_write(_fitted(options, model, channels, shape), known), held)
    picture, mask, _ = made[key]
    place = {MASK_PLACE: channels.control} if channels.has_mask and channels.control else {}
    return {**options, PICTURE: picture, MASK: mask, **place}


def placed(options: Mapping, model: BaseModel, channels: PictureChannels, frames: int, made: dict) -> dict:
    """Return what goes with a prompt, its picture and mask as long as a video of so many latent frames.

    A shorter picture stands at the start, as its node was told of a shorter video; behind it nothing is known.

    Raises ValueError where it knows frames that the video has not, or an end that would stand in the middle.
    """
    picture, mask = options.get(PICTURE), options.get(MASK)
    if picture is None:
        return dict(options)
    key = (frames, id(picture), id(mask))
    if key not in made:
        made[key] = (*_of_length(model, channels, picture, mask, frames), (picture, mask))
    picture, mask, _ = made[key]
    return {**options, PICTURE: picture, MASK: mask}


def _of_length(
    model: BaseModel, channels: PictureChannels, picture: torch.Tensor, mask: torch.Tensor | None, frames: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return picture [B, C, F, H, W] and mask [B, 1 or 4, F, H, W] of so many latent frames."""
    if picture.ndim < 5:  # a latent of pictures
        picture = picture.unsqueeze(FRAME_AXIS)
    picture = picture[:, : channels.control + model.latent_format.latent_channels]
    given = picture.shape[FRAME_AXIS]
    if mask is None:
        mask = _mask_of(model, channels, picture)
    elif mask.ndim < picture.ndim:
        mask = mask.reshape(1, 1, -1, *mask.shape[-2:])  # as core reads a mask without channels
    mask = _long(mask, given)
    if given == frames:
        return picture, mask
    whole, any_of_it = (how(mask.flatten(3), (0, 1, 3)).tolist() for how in (torch.amax, torch.amin))
    start = next((frame for frame, most in enumerate(whole) if most > KNOWN), given)  # known from the first frame to it
    last = max((frame for frame, least in enumerate(any_of_it) if least <= KNOWN), default=-1)
    if channels.control or last >= (start if given < frames else frames):  # a control video is as long as the video
        stride = model.latent_format.temporal_downscale_ratio
        raise ValueError(
            f"the picture of the conditioning stands in a video of {given} latent frames and this one has {frames}, so "
            f"its end would be lost or in the middle; set length {(frames - 1) * stride + 1} in the node that made it"
        )
    if given > frames:
        return picture[:, :, :frames], mask[:, :, :frames]
    shape = (*picture.shape[:2], frames - given, *picture.shape[3:])
    ends_unknown = start < given  # then the node's own filling goes on
    filling = picture[:, :, -1:].expand(shape) if ends_unknown else _unknown(model, channels, shape).to(picture)
    return torch.cat([picture, filling], FRAME_AXIS), _long(mask, frames)


def _long(mask: torch.Tensor, frames: int) -> torch.Tensor:
    """Return a mask [B, 1 or 4, F, H, W] of so many latent frames: cut, or unknown behind its end."""
    missing = mask.new_ones((*mask.shape[:2], max(0, frames - mask.shape[FRAME_AXIS]), *mask.shape[3:]))
    return torch.cat([mask[:, :, :frames], missing], FRAME_AXIS)


def _mask_of(model: BaseModel, channels: PictureChannels, picture: torch.Tensor) -> torch.Tensor:
    """Return the mask [1, 1, F, H, W] of a picture that came with none, as its network takes it."""
    mask = picture.new_ones((1, 1, *picture.shape[2:]))
    if not channels.has_mask:
        differs = (picture - _unknown(model, channels, picture.shape).to(picture)).abs()[:, channels.control :]
        mask[:, :, differs.amax((0, 1, 3, 4)) > ROUNDING] = 0.0
    return mask


def _unknown(model: BaseModel, channels: PictureChannels, shape: Sequence[int]) -> torch.Tensor:
    """Return what stands where nothing is known, and no control, of this shape [B, C, F, H, W], as a LATENT holds
    it.
    """
    width = model.latent_format.latent_channels
    nothing, filling = torch.zeros(width), torch.tensor(channels.unknown or (0.0,) * width)
    parts = [nothing] * (shape[1] // width - 1) + [filling]
    shape = (shape[0], width, *shape[2:])
    return torch.cat(
        [model.process_latent_out(part[None, :, None, None, None].expand(shape).clone()) for part in parts], dim=1
    )


def _fitted(
    options: Mapping, model: BaseModel, channels: PictureChannels, shape: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return picture and mask to write into, as large as a latent [B, C, F, H, W] is."""
    picture, mask = options.get(PICTURE), options.get(MASK)
    if picture is None:
        wide = (shape[0], channels.control + shape[1], *shape[2:])
        return _unknown(model, channels, wide), torch.ones((1, 1, *shape[2:]))
    if tuple(picture.shape[-2:]) != tuple(shape[-2:]):  # as core does it
        picture = comfy.utils.common_upscale(picture, shape[-1], shape[-2], "bilinear", "center")
    if tuple(mask.shape[-2:]) != tuple(shape[-2:]):
        mask = comfy.utils.common_upscale(mask, shape[-1], shape[-2], "bilinear", "center")
    return comfy.utils.resize_to_batch_size(picture, shape[0]).clone(), mask.clone()


def _write(fitted: tuple[torch.Tensor, torch.Tensor], known: Sequence[KnownFrame]) -> tuple[torch.Tensor, torch.Tensor]:
    picture, mask = fitted
    for one in known:
        picture[:, -one.latent.shape[1] :, one.frame] = one.latent.to(picture)
        mask[:, :, one.frame] = 0.0
    return picture, mask


def known_in(entries: Iterable[Mapping]) -> frozenset[int]:
    """Return the latent frames that are known from end to end in the picture of any of these entries."""
    masks = {id(mask): mask for entry in entries if isinstance(mask := entry.get(MASK), torch.Tensor)}
    return frozenset(
        frame
        for mask in masks.values()
        for frame, most in enumerate(mask.flatten(3).amax((0, 1, 3)).tolist())
        if most <= 1 - KNOWN
    )


def of_context_pass(entry: Entry, model: BaseModel, x: torch.Tensor, latents: torch.Tensor) -> Entry:
    """Return the conditioning entry of a pass over finished frames, x [B, C, F, H, W] with noise and `latents` without:
    all of them are known.
    """
    model_conds = {key: value for key, value in entry["model_conds"].items() if key != CLEAN_FIRST_FRAME}
    channels = picture_channels_of(model)
    if CHANNELS in model_conds and channels is not None and channels.used_by(entry):
        if channels.control:  # the control of these frames stays, and behind it stand mask and picture
            shown = model_conds[CHANNELS].cond.clone()
            shown[:, channels.control : -channels.control] = 1.0
            shown[:, -channels.control :] = model.process_latent_in(latents).to(shown)
        else:
            mask = latents.new_zeros((1, 1, *latents.shape[2:]))
            shown = model.concat_cond(noise=x, device=x.device, **{PICTURE: latents, MASK: mask})
        model_conds[CHANNELS] = model_conds[CHANNELS]._copy_with(shown)
    return {**entry, "model_conds": model_conds}


def report_missing(model: BaseModel, timeline: Timeline, first_frames_known: Iterable[int]) -> None:
    """Log which takes a network with channels for pictures begins without one. first_frames_known: of the timeline."""
    channels, known = picture_channels_of(model), frozenset(first_frames_known)
    if channels is None or (channels.only_beside_picture and not known):
        return
    missing = [shot.index + 1 for shot in timeline.shots if shot.start_frame in set(timeline.take_starts) - known]
    if missing:
        logging.warning(
            "Longreel: this network reads known frames from channels of their own, and no picture begins shot %s; "
            "wire core's image-to-video node, or put a Longreel Anchor Frame there",
            ", ".join(map(str, missing)),
        )


def entries_of(conds: CondLists) -> list[Entry]:
    """Return the entries of all prompts."""
    return [entry for entries in conds if entries is not None for entry in entries]
