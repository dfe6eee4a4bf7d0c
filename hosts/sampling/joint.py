"""Sample a timeline with any of ComfyUI's samplers: noise, guider, preview and progress per shot."""

import torch

import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview

from ...engine.plan.timeline import Timeline
from ..families import facts_of
from ..types import ModelPatcher
from ..windows import latent_blend
from ..windows.checks import check_latent, check_text
from ..windows.finite import check_finite
from ..windows.progress import ProgressText
from ..windows.used_state import as_it_was
from .settings import Sampling

PARTS_OF_VIDEO = 7  # of core's area in percentages: the word, three sizes and three places


def sample_timeline(model: ModelPatcher, timeline: Timeline, latent: dict, sampling: Sampling, *, blend: str) -> dict:
    """Sample all segments together, step by step, and return a LATENT.

    latent: as long as the timeline; a noise_mask in it is honoured. Without add_noise it is taken as noisy already: the
    second expert of Wan 2.2 14B goes on where the first one stopped. blend: one of engine/sampling/latent_blend.BLENDS.

    Raises ValueError for a model that carries Longreel Latent Blend already, and a latent or mask of another length.
    """
    model = latent_blend.attach(model, timeline, blend, sampling.seed)
    return sample_attached(model, timeline, latent, sampling)


def sample_attached(
    model: ModelPatcher, timeline: Timeline, latent: dict, sampling: Sampling, *, callback=None
) -> dict:
    """Sample a model to which the timeline is attached already, and return a LATENT.

    callback: reports the steps in place of `shot_callback`. Raises ValueError as `check_inputs` does.
    """
    start = check_inputs(model, latent, sampling)
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(sampling.positive, sampling.negative)
    guider.set_cfg(sampling.cfg)
    noise = torch.zeros_like(start)
    if sampling.add_noise:
        noise = comfy.sample.prepare_noise(start, sampling.seed, latent.get("batch_index"))
    with as_it_was(model):
        samples = guider.sample(
            noise,
            start,
            sampling.sampler,
            sampling.own_sigmas(),
            denoise_mask=latent.get("noise_mask"),
            callback=callback or shot_callback(model, timeline, sampling.sigmas.shape[-1] - 1),
            disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            seed=sampling.seed,
        )
    rest = {
        key: value for key, value in latent.items() if not key.startswith("downscale_ratio")
    }  # said of an empty latent
    return {**rest, "samples": samples.to(start.device)}


def check_inputs(model: ModelPatcher, latent: dict, sampling: Sampling) -> torch.Tensor:
    """Return the samples [B, C, F, H, W] of a LATENT that a model can begin with.

    Raises ValueError for a latent that is no video of the model's family, a mask of another length or beside a latent
    that comes noisy, and text of another encoder.
    """
    start = comfy.sample.fix_empty_latent_channels(model, latent["samples"], latent.get("downscale_ratio_spacial"))
    check_latent(start, facts_of(model))
    mask = latent.get("noise_mask")
    check_mask(mask, start.shape[2])
    if mask is not None and not sampling.add_noise and float(mask.min()) < 1:
        raise ValueError(
            "add_noise is off, so the latent is taken as noisy, and its noise mask would keep parts of it as noisy as "
            "they are; sample all sigmas with one sampler (two experts: mode rollout with low_noise_model), or take "
            "the mask off before this one"
        )
    for _, options, *_ in (*sampling.positive, *sampling.negative):
        area = options.get("area")
        if area is not None and area[0] == "percentage" and len(area) < PARTS_OF_VIDEO:
            raise ValueError(
                f"an area of the conditioning is {len(area) - 1} parts of a picture, and a video's are 6, with time; "
                f"use Conditioning (Set Area with Percentage for Video)"
            )
    check_text(
        model,
        {
            name: [text for text, *_ in entries]
            for name, entries in (("positive", sampling.positive), ("negative", sampling.negative))
        },
    )
    return start


def check_mask(mask: torch.Tensor | None, frames: int) -> None:
    """Raise ValueError for a LATENT's noise_mask that counts other frames than its video.

    Core would stretch it in time, and a frame that it keeps would be kept by half, or not at all.
    """
    if mask is None:
        return
    found = mask.shape[2] if mask.ndim == 5 else mask.numel() // (mask.shape[-1] * mask.shape[-2])  # as core reads it
    if found not in (1, frames):
        raise ValueError(
            f"the noise mask has {found} frames and the latent {frames}; masks count latent frames: use "
            f"{frames}, or 1 for all"
        )


def shot_callback(model: ModelPatcher, timeline: Timeline, steps: int):
    """Return a callback with progress per step; the preview shows the middle of one shot after the other."""
    shots = timeline.shots
    stops = [(f"shot {shot.index + 1}/{len(shots)}", (shot.start_frame + shot.end_frame) // 2) for shot in shots]
    return walking_callback(model, stops, steps)


def walking_callback(model: ModelPatcher, stops: list[tuple[str, int]], steps: int):
    """Return a callback with progress per step; the preview goes from stop to stop, each a name and a latent frame."""
    core, text = latent_preview.prepare_callback(model, steps), ProgressText()

    def callback(step: int, x0: torch.Tensor, x: torch.Tensor, total_steps: int) -> None:
        check_finite(x0, f"step {step + 1}/{total_steps}")
        name, frame = stops[step % len(stops)]
        text.show(f"step {step + 1}/{total_steps}, preview of {name}")
        core(step, x0[:, :, frame : frame + 1], x, total_steps)

    return callback
