"""In a context pass finished frames are shown to the network once, before it sees a chunk, so that features can keep
what it makes of them (keys and values, for instance).

The frames are noised to some level and shown under the prompts that they were made with; nobody needs the prediction. A
feature's run asks for passes as `NeedsContextPasses`, and hosts/windows/chunk_handler.py makes them. Which frames and
levels are worth it is not known here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

import comfy.model_sampling

from ...engine.plan.rollout_chunks import Mix
from ...engine.sampling import alpha_space
from ...engine.to_device import sent
from .. import keys
from ..prompts.chunk_conditioning import MOTION
from ..prompts.time_axis import MASK, OF_MODELS, START, time_axis_of
from ..types import BaseModel

CONTEXT_PASS = "context pass"  # the role of an evaluation that shows finished frames
FRAME_AXIS = 2  # [B, C, F, H, W]


@dataclass(frozen=True, eq=False)
class ContextPass:
    """This is one pass that a feature asks for.

    latents: [B, C, F, H, W], as a LATENT holds them. sigma: the noise level at which they are shown. mix: the shots
    whose prompts the network is given, with their shares. seed: of the noise. first_frame: of the timeline, from 0,
    where these frames begin; None where they are none of it.
    """

    latents: torch.Tensor
    sigma: float
    mix: Mix
    seed: int = 0
    first_frame: int | None = None


@runtime_checkable
class NeedsContextPasses(Protocol):
    """A feature's run has this where it reads finished frames in a pass of their own."""

    def context_passes(self, sigma: float) -> Sequence[ContextPass]:
        """Return the passes that the network is to make now, before it sees the chunk at `sigma`."""


def noised(model: BaseModel, context: ContextPass, like: torch.Tensor) -> torch.Tensor:
    """Return the frames of a pass as the sampler's latent has them, [B, C, F, H, W], on the device of `like`."""
    clean = model.process_latent_in(sent(context.latents, like))
    drawn = torch.randn(
        clean.shape[1:], generator=torch.Generator().manual_seed(context.seed)
    )  # the same for each video
    noise = sent(drawn, like).expand_as(clean)
    sampling = model.model_sampling
    if isinstance(sampling, comfy.model_sampling.V_PREDICTION_DDPM):  # CogVideoX, see hosts/sampling/alpha_space.py
        return alpha_space.add_noise(clean, noise, alpha_space.alpha_of_sigma(context.sigma))
    return sampling.noise_scaling(clean.new_full([clean.shape[0]], context.sigma), noise, clean)


def entry_of_pass(
    model: BaseModel, entry: dict, x: torch.Tensor, first_frame: int | None, motion: torch.Tensor | None = None
) -> dict:
    """Return a conditioning entry for the frames x [B, C, F, H, W] of a pass, which begin at a frame of the timeline.

    What moves along with the video is what core makes of it for these frames; where they are none of the timeline, it
    is that of the chunk's last frames, as far as there is any. motion: the finished frames in front of these, for
    networks that are told of them.
    """
    cut = entry_of_length(entry, x)
    uncut = entry.get(keys.UNCUT)
    if uncut is None or first_frame is None:
        return cut
    wired = uncut.of_frames(first_frame, first_frame + x.shape[FRAME_AXIS])
    given = {**{key: value for key, value in entry.items() if key not in wired}, **wired}
    made = model.extra_conds(
        **{key: value for key, value in given.items() if value is not None and key != MOTION},
        **({} if motion is None else {MOTION: motion}),
        noise=x,
        device=x.device,
        prompt_type=entry.get(keys.ROLE, ""),
    )
    moving = {key: value for key, value in made.items() if _moves(key, value)}
    still = {key: value for key, value in cut["model_conds"].items() if not _moves(key, value)}
    return {**cut, "model_conds": {**still, **moving}}


def _moves(key: str, value: object) -> bool:
    tensor = getattr(value, "cond", None)
    return key == MOTION or (isinstance(tensor, torch.Tensor) and time_axis_of(key, tensor, OF_MODELS) is not None)


def entry_of_length(entry: dict, x: torch.Tensor) -> dict:
    """Return a conditioning entry for as many frames as x [B, C, F, H, W] has.

    Finished frames are all of one noise level, so there is no mask and no frame kept clean. What else lies on the video
    is that of the chunk's last frames, but for a start picture, which is none of them; pictures of known frames are
    hosts/windows/picture_channels.py's.
    """
    frames = x.shape[FRAME_AXIS]
    model_conds = {
        key: value
        for key, value in entry["model_conds"].items()
        if key not in ("denoise_mask", START, keys.ANCHOR_KEEP_STRENGTHS)
    }
    for key, value in model_conds.items():
        full = getattr(value, "cond", None)
        axis = time_axis_of(key, full, OF_MODELS) if isinstance(full, torch.Tensor) else None
        if axis is not None:
            model_conds[key] = value._copy_with(axis.of_frames(full, _last(frames, axis.latent_frames(full))))
    mask = entry.get(MASK)  # of an area, [B, F or 1, H, W]
    if mask is not None and mask.shape[1] > 1:
        entry = {**entry, MASK: mask[:, _last(frames, mask.shape[1])]}
    return {**entry, "model_conds": model_conds}


def _last(frames: int, of: int) -> list[int]:
    """Return the places of the last `frames` of so many; where there are fewer, the first stands for those before."""
    return [max(0, of - frames + place) for place in range(frames)]
