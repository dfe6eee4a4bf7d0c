"""Anchors on a MODEL of any family: latent frames that a video must show, held while any sampler works.

Source: Factorized, now Anchored, Video Generation (arXiv 2512.16371), injection at timestep 0; engine/plan/anchor.py says
where anchors stand. What happens when a sampler starts:
- The anchor is written into the latent, so that also a second sampler (Wan 2.2's low-noise expert) finds it exact
  there, and the sampler's result holds it exactly.
- INPAINT, and families that show masked frames clean and at time 0 by themselves (Wan 2.2 5B, LTXV): core's noise mask.
- CLEAN elsewhere: hosts/anchor/run.py, with the page of the family (hosts/anchor_<family>.py).

A chunk of a rollout (hosts/sampling/rollout.py) has the anchors of its window. Those among its known frames are finished
already: they stay what they became, and in CLEAN are told to the network as what they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

import comfy.patcher_extension as extension

from ...engine.plan.anchor import CLEAN, Anchor, check_anchors
from .. import facts_of, family_of
from ..families import cogvideox, hunyuan_video, wan
from ..ttt.forward import KEY as TTT_LAYERS
from ..ttt.timeline import WholeTimeline
from ..windows.chunk_handler import ChunkHandler
from . import cogvideox as anchor_cogvideox
from . import hunyuan_video as anchor_hunyuan_video
from . import wan as anchor_wan
from .run import CleanFrames, at_work

NAME = "Longreel Anchor Frame"
KEY = "longreel_anchor"  # of the attachment that a MODEL carries, and of our wrappers
TRAINED = "longreel_anchor_trained"  # attachment of a MODEL whose weights were trained for anchors
FRAME_AXIS = 2  # [B, C, F, H, W]
TIMES = {wan: anchor_wan, cogvideox: anchor_cogvideox, hunyuan_video: anchor_hunyuan_video}


@dataclass(frozen=True)
class Anchored:
    """`latent` [1 or B, C, anchor.frames, H, W] is what the anchor's frames show, as a LATENT holds it."""

    anchor: Anchor
    latent: torch.Tensor


@dataclass(frozen=True)
class Held:
    """One latent frame of a window: its number there, what it shows [1 or B, C, H, W] (None: what the latent has), how
    firmly it is held, and whether by us (CLEAN) or by core's mask."""

    frame: int
    latent: torch.Tensor | None
    strength: float
    ours: bool


def attach(model, anchored: Sequence[Anchored]):
    """A clone of `model` (ModelPatcher) that holds these anchors besides those that it has; strength 0 holds none.

    Raises ValueError for a family or network that cannot, for 2 on 1 latent frame, and for latents of other channels.
    """
    anchored = tuple(one for one in anchored if one.anchor.strength)
    everyone, facts = (*anchors_of(model), *anchored), facts_of(model)
    check_anchors([one.anchor for one in everyone], facts)
    for one in anchored:
        _check_latent(one, facts)
    if any(_is_ours(one, facts) for one in anchored):
        TIMES[family_of(model)].refuse(model.model.diffusion_model)
    model = model.clone()
    if not anchored:
        return model
    model.set_attachments(KEY, everyone)
    model.remove_wrappers_with_key(extension.WrappersMP.OUTER_SAMPLE, KEY)
    model.add_wrapper_with_key(extension.WrappersMP.OUTER_SAMPLE, KEY, _sample)
    return model


def anchors_of(model) -> tuple[Anchored, ...]:
    return model.attachments.get(KEY, ())


def is_trained(model) -> bool:
    """Whether weights that were trained for anchors are on this MODEL."""
    return bool(model.attachments.get(TRAINED))


def check_experts(high, low) -> None:
    """Raises ValueError unless two MODELs that sample one video carry the same anchors: one without draws over them."""
    one, other = (anchors_of(model) for model in (high, low))
    same = len(one) == len(other) and all(
        a.anchor == b.anchor and torch.equal(a.latent, b.latent) for a, b in zip(one, other)
    )
    if not same:
        raise ValueError(
            f"the first expert carries {len(one)} anchors and the second {len(other)}, or others, and an "
            f"anchor is lost where 1 of the 2 does not hold it; wire both through {NAME}, inputs alike"
        )


def check_video(model, shape: Sequence[int]) -> None:
    """Raises ValueError for an anchor that a latent [B, C, F, H, W] of this shape has no place for."""
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


def in_window(model, start: int, known: int, frames: int) -> list[Held]:
    """The anchors' frames among latent frames [start, start + frames), of which the first `known` are finished."""
    facts, found = facts_of(model), []
    for one in anchors_of(model):
        ours = _is_ours(one, facts)
        for place in range(one.anchor.frames):
            frame = one.anchor.frame + place - start
            if known <= frame < frames:
                found.append(Held(frame, one.latent[:, :, place], one.anchor.strength, ours))
            elif 0 <= frame < known and ours:
                found.append(Held(frame, None, 1.0, ours))
    return found


def write(
    held: Sequence[Held], latent: torch.Tensor, mask: torch.Tensor | None, model
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(latent, mask) of a sampler, [B, C, F, H, W], with the anchors; an empty latent becomes the network's zero."""
    new = [one for one in held if one.latent is not None]
    if not new:
        return latent, mask
    # Core leaves an empty latent at the network's zero; so does the empty part of one with an anchor here.
    latent = latent.clone() if latent.count_nonzero() else model.model.process_latent_out(latent)
    if mask is not None or not all(one.ours for one in new):
        mask = torch.ones_like(latent) if mask is None else mask.clone()
    for one in new:
        latent[:, :, one.frame] = one.latent.to(latent)
        if mask is not None:
            mask[:, :, one.frame] = 1.0 if one.ours else 1.0 - one.strength
    return latent, mask


def paste(held: Sequence[Held], video: torch.Tensor, start: int = 0) -> torch.Tensor:
    """`video` [B, C, F, H, W], which begins at frame `start` of the window, with what is held as it is."""
    exact = [one for one in held if one.latent is not None and one.strength == 1]
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


def _is_ours(one: Anchored, facts) -> bool:
    return one.anchor.mode == CLEAN and not facts.knows_frame_times


def _sample(executor, noise, latent_image, sampler, sigmas, denoise_mask=None, *args, **kwargs):
    """OUTER_SAMPLE: everything of an anchor lives as long as one call of the sampler."""
    guider = executor.class_obj
    patcher, handler = guider.model_patcher, guider.model_options.get("context_handler")
    start = known = 0
    if isinstance(handler, ChunkHandler):
        start, known = handler.chunk.start, handler.chunk.known
    else:
        check_video(patcher, latent_image.shape)
    held = in_window(patcher, start, known, latent_image.shape[FRAME_AXIS])
    if not held:
        return executor(noise, latent_image, sampler, sigmas, denoise_mask, *args, **kwargs)
    if not noise.any() and any(one.strength < 1 for one in held):
        weakest = min(one.strength for one in held)
        raise ValueError(
            f"an anchor of strength {weakest:g} is held against the sampler's own noise, and this sampler "
            f"adds 0 of it; use strength 1 where one sampler goes on from another"
        )
    hold, clean = {one.frame: _strength(one, denoise_mask) for one in held if one.ours}, None
    latent_image, denoise_mask = write(held, latent_image, denoise_mask, patcher)
    if denoise_mask is not None:
        denoise_mask = denoise_mask.to(patcher.load_device, copy=True)  # where core has it by now
        denoise_mask[:, :, list(hold)] = 1.0  # no frame is held twice
    if hold:
        family = family_of(patcher)
        _refuse_segments(family, guider.model_options, handler)
        clean = CleanFrames(hold, latent_image.shape[FRAME_AXIS], TIMES[family])
    noised = [one.frame for one in held if not one.ours and one.latent is not None]
    with at_work(guider, clean, noised):
        out = executor(noise, latent_image, sampler, sigmas, denoise_mask, *args, **kwargs)
    return paste(held, out)


def _strength(one: Held, mask: torch.Tensor | None) -> float:
    """A finished frame is held as firmly as the rollout holds it."""
    if one.latent is not None or mask is None:
        return one.strength
    return 1.0 - float(mask[:, :, one.frame].mean())


def _refuse_segments(family, model_options: dict, handler) -> None:
    in_segments = isinstance(handler, WholeTimeline) or TTT_LAYERS in model_options.get("transformer_options", {})
    if in_segments and not TIMES[family].IN_SEGMENTS:
        raise ValueError(
            f"TTT evaluates {family.NAME}'s blocks segment by segment with 1 time for all frames, and a "
            f"clean anchor needs 2; use mode inpaint in {NAME}"
        )
