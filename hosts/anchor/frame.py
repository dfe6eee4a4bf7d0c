"""Anchors on a MODEL of any family: latent frames that a video must show, held while any sampler works.

Source: Factorized, now Anchored, Video Generation (arXiv 2512.16371), injection at timestep 0; engine/plan/anchor.py
says where anchors stand. What happens when a sampler starts:
- The anchor is written into the latent, so that also a second sampler (Wan 2.2's low-noise expert) finds it exact
  there, and the sampler's result holds it exactly.
- INPAINT, and families that show masked frames clean and at time 0 by themselves (Wan 2.2 5B, LTXV): core's noise mask.
- An image-to-video network is shown it in its picture channels too (hosts/windows/picture_channels.py).
- CLEAN elsewhere: hosts/anchor/run.py, with the family's frame-time adapter (hosts/anchor/<family>.py).

A chunk of a rollout (hosts/sampling/rollout.py) has the anchors of its window. Those among its known frames are
finished already: they stay what they became, and in CLEAN the network is given their time as well.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

import comfy.patcher_extension as extension

from ...engine.plan.anchor import CLEAN, Anchor, check_anchors
from .. import keys
from ..families import facts_of, family_of, refuse_sound
from ..families.clone import clone
from ..types import Executor, Guider, ModelPatcher, Sampler
from ..windows.chunk_handler import ChunkHandler
from ..windows.picture_channels import KNOWN, KnownFrame, show_in
from . import cogvideox as anchor_cogvideox
from . import hunyuan_video as anchor_hunyuan_video
from . import kandinsky as anchor_kandinsky
from . import wan as anchor_wan
from .run import AnchorFramesRun, around_sampler

NAME = "Longreel Anchor Frame"
FRAME_AXIS = 2  # [B, C, F, H, W]
FRAME_TIME_ADAPTERS = {  # by the family's name
    adapter.FAMILY.NAME: adapter for adapter in (anchor_wan, anchor_cogvideox, anchor_hunyuan_video, anchor_kandinsky)
}


@dataclass(frozen=True)
class Anchored:
    """An anchor with what its frames show: `latent` [1 or B, C, anchor.frames, H, W], as a LATENT holds it."""

    anchor: Anchor
    latent: torch.Tensor


@dataclass(frozen=True)
class AnchorFrame:
    """One latent frame of a window that an anchor stands on.

    frame: its number in the window. latent: what it shows, [1 or B, C, H, W]; None for a finished frame, which shows
    what the sampler's latent has. strength: its keep strength, 0..1. is_clean: kept clean by AnchorFramesRun, else by
    core's noise mask.
    """

    frame: int
    latent: torch.Tensor | None
    strength: float
    is_clean: bool

    def stored(self) -> list:
        """What a run on disk hashes of this frame: these names stay for ever, or every chunk would be made again."""
        return ["Held", {"frame": self.frame, "latent": self.latent, "strength": self.strength, "ours": self.is_clean}]


def attach(model: ModelPatcher, anchored: Sequence[Anchored]):
    """Return a clone of `model` that holds these anchors besides those that it has; strength 0 holds none.

    Raises ValueError for a family or network that cannot, for 2 on 1 latent frame, and for latents of other channels.
    """
    refuse_sound(model, NAME)
    anchored = tuple(one for one in anchored if one.anchor.strength)
    everyone, facts = (*anchors_of(model), *anchored), facts_of(model)
    check_anchors([one.anchor for one in everyone], facts)
    for one in anchored:
        _check_latent(one, facts)
    if any(_is_clean(one, facts) for one in anchored):
        FRAME_TIME_ADAPTERS[family_of(model).NAME].refuse(model.model.diffusion_model)
    model = clone(model)
    if not anchored:
        return model
    model.set_attachments(keys.ANCHORS, everyone)
    model.remove_wrappers_with_key(extension.WrappersMP.OUTER_SAMPLE, keys.ANCHORS)
    model.add_wrapper_with_key(extension.WrappersMP.OUTER_SAMPLE, keys.ANCHORS, _sample)
    return model


def anchors_of(model: ModelPatcher) -> tuple[Anchored, ...]:
    """Return the anchors that a MODEL carries, in the order of the nodes."""
    return model.attachments.get(keys.ANCHORS, ())


def is_trained(model: ModelPatcher) -> bool:
    """Tell whether weights that were trained for anchors are on this MODEL."""
    return bool(model.attachments.get(keys.ANCHOR_TRAINED))


def check_experts(high: ModelPatcher, low: ModelPatcher) -> None:
    """Raise ValueError unless two MODELs that sample one video carry the same anchors: one without draws over them."""
    one, other = anchors_of(high), anchors_of(low)
    if len(one) != len(other):
        difference = f"the first expert carries {len(one)} anchors and the second carries {len(other)}"
    elif any(a.anchor != b.anchor or not torch.equal(a.latent, b.latent) for a, b in zip(one, other, strict=True)):
        difference = f"the two experts carry different anchors, {len(one)} each"
    else:
        return
    raise ValueError(
        f"{difference}; an anchor is lost where either expert lacks it: wire both through {NAME}, inputs alike"
    )


def check_video(model: ModelPatcher, shape: Sequence[int]) -> None:
    """Raise ValueError for an anchor that a latent of this shape, [B, C, F, H, W], has no place for."""
    everyone, facts = anchors_of(model), facts_of(model)
    check_anchors([one.anchor for one in everyone], facts, shape[FRAME_AXIS])
    for anchor, latent in ((one.anchor, one.latent) for one in everyone):
        if tuple(latent.shape[3:]) != tuple(shape[3:]):
            width, height = (size * facts.spatial_stride for size in (latent.shape[4], latent.shape[3]))
            wanted = (size * facts.spatial_stride for size in (shape[4], shape[3]))
            raise ValueError(
                f"the anchor at {anchor.seconds:g} s is {width} x {height} pixels and the video "
                f"{' x '.join(str(size) for size in wanted)}; wire the timeline into {NAME}, or give it "
                f"this width and height"
            )
        if latent.shape[0] not in (1, shape[0]):
            raise ValueError(
                f"the anchor at {anchor.seconds:g} s has {latent.shape[0]} pictures and the batch "
                f"{shape[0]} videos; use 1 picture, or one for each"
            )


def frames_in_window(
    model: ModelPatcher, start: int, known: int, frames: int, moved: Callable[[int], int] = lambda frame: frame
) -> list[AnchorFrame]:
    """Return the anchors' frames among latent frames [start, start + frames), of which the first `known` are finished.

    moved: where a latent frame of the plan, in which anchors were placed, stands in the video.
    """
    facts, found = facts_of(model), []
    for one in anchors_of(model):
        is_clean = _is_clean(one, facts)
        for place in range(one.anchor.frames):
            frame = moved(one.anchor.frame + place) - start
            if known <= frame < frames:
                found.append(AnchorFrame(frame, one.latent[:, :, place], one.anchor.strength, is_clean))
            elif 0 <= frame < known and is_clean:
                found.append(AnchorFrame(frame, None, 1.0, is_clean))
    return found


def write(
    anchor_frames: Sequence[AnchorFrame], latent: torch.Tensor, mask: torch.Tensor | None, model: ModelPatcher
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return (latent, mask) of a sampler, each [B, C, F, H, W], with the anchors written into them.

    An empty latent becomes the network's zero. mask: core's noise mask, 1 where a sampler draws; None for everywhere.
    """
    new = [one for one in anchor_frames if one.latent is not None]
    if not new:
        return latent, mask
    # Core leaves an empty latent at the network's zero; so does the empty part of one with an anchor here.
    latent = latent.clone() if latent.count_nonzero() else model.model.process_latent_out(latent)
    if mask is not None or not all(one.is_clean for one in new):
        mask = torch.ones_like(latent) if mask is None else mask.clone()
    for one in new:
        latent[:, :, one.frame] = one.latent.to(latent)
        if mask is not None:
            mask[:, :, one.frame] = 1.0 if one.is_clean else 1.0 - one.strength
    return latent, mask


def paste(anchor_frames: Sequence[AnchorFrame], video: torch.Tensor, start: int = 0) -> torch.Tensor:
    """Return `video` [B, C, F, H, W], which begins at frame `start` of the window, with anchors of strength 1 exact."""
    exact = [one for one in anchor_frames if one.latent is not None and one.strength == 1]
    if not exact:
        return video
    video = video.clone()
    for one in exact:
        video[:, :, one.frame - start] = one.latent.to(video)
    return video


def _check_latent(one: Anchored, facts) -> None:
    latent, anchor = one.latent, one.anchor
    if latent.ndim != 5 or latent.shape[1] != facts.latent_channels:
        raise ValueError(
            f"the anchor at {anchor.seconds:g} s is a latent of {latent.ndim} axes and {latent.shape[1]} "
            f"channels, and {facts.family} takes 5 and {facts.latent_channels}; encode it with this "
            f"model's own VAE"
        )
    if latent.shape[FRAME_AXIS] != anchor.frames:
        raise ValueError(
            f"the anchor at {anchor.seconds:g} s has {latent.shape[FRAME_AXIS]} latent frames and its "
            f"place {anchor.frames}; use a latent of {anchor.frames}"
        )


def _is_clean(one: Anchored, facts) -> bool:
    return one.anchor.mode == CLEAN and not facts.knows_frame_times


def _sample(
    executor: Executor,
    noise: torch.Tensor,
    latent_image: torch.Tensor,
    sampler: Sampler,
    sigmas: torch.Tensor,
    denoise_mask: torch.Tensor | None = None,
    *args,
    **kwargs,
):
    """OUTER_SAMPLE: everything of an anchor lives as long as one call of the sampler."""
    guider = executor.class_obj
    patcher = guider.model_patcher
    anchor_frames = _frames_of_call(guider, latent_image.shape)
    if not anchor_frames:
        return executor(noise, latent_image, sampler, sigmas, denoise_mask, *args, **kwargs)
    _check_noise(noise, anchor_frames)
    shown = [KnownFrame(one.frame, one.latent) for one in anchor_frames if one.strength >= KNOWN]
    show_in(guider, [one for one in shown if one.latent is not None], latent_image.shape)
    keep_strengths = {one.frame: _keep_strength(one, denoise_mask) for one in anchor_frames if one.is_clean}
    latent_image, denoise_mask = write(anchor_frames, latent_image, denoise_mask, patcher)
    if denoise_mask is not None:
        denoise_mask = denoise_mask.to(patcher.load_device, copy=True)  # where core has it by now
        denoise_mask[:, :, list(keep_strengths)] = 1.0  # no frame is held twice
    run = _run_of(guider, keep_strengths, latent_image.shape[FRAME_AXIS]) if keep_strengths else None
    masked_frames = [one.frame for one in anchor_frames if not one.is_clean and one.latent is not None]
    with around_sampler(guider, run, masked_frames):
        out = executor(noise, latent_image, sampler, sigmas, denoise_mask, *args, **kwargs)
    return paste(anchor_frames, out)


def _frames_of_call(guider: Guider, shape: Sequence[int]) -> list[AnchorFrame]:
    """Return the anchors' frames in the latent [B, C, F, H, W] of one call: a rollout's chunk, or a whole video."""
    handler, start, known = guider.model_options.get("context_handler"), 0, 0
    if isinstance(handler, ChunkHandler):
        start, known = handler.chunk.start_frame, handler.chunk.known_frames
    else:
        check_video(guider.model_patcher, shape)
    return frames_in_window(guider.model_patcher, start, known, shape[FRAME_AXIS])


def _check_noise(noise: torch.Tensor, anchor_frames: Sequence[AnchorFrame]) -> None:
    weakest = min(one.strength for one in anchor_frames)
    if weakest < 1 and not noise.any():
        raise ValueError(
            f"an anchor of strength {weakest:g} is held against the sampler's own noise, and this sampler adds none; "
            f"use strength 1 where one sampler goes on from another"
        )


def _keep_strength(one: AnchorFrame, mask: torch.Tensor | None) -> float:
    """Return 0..1 how firmly a frame is held; a finished frame as firmly as the rollout's mask holds it."""
    if one.latent is not None or mask is None:
        return one.strength
    return 1.0 - float(mask[:, :, one.frame].mean())


def _run_of(guider: Guider, keep_strengths: dict[int, float], frames: int) -> AnchorFramesRun:
    """Return the run that keeps these frames clean. Raises ValueError where TTT cannot have frame times beside it."""
    family = family_of(guider.model_patcher)
    _refuse_segments(family, guider.model_options, guider.model_options.get("context_handler"))
    return AnchorFramesRun(keep_strengths, frames, FRAME_TIME_ADAPTERS[family.NAME])


def _refuse_segments(family, model_options: dict, handler) -> None:
    in_segments = getattr(handler, "in_segments", False) or keys.TTT_LAYERS in model_options.get(
        "transformer_options", {}
    )
    if in_segments and not FRAME_TIME_ADAPTERS[family.NAME].IN_SEGMENTS:
        raise ValueError(
            f"TTT evaluates {family.NAME}'s blocks segment by segment with one time for all frames, and a clean anchor "
            f"needs a time of its own; use mode inpaint in {NAME}"
        )
