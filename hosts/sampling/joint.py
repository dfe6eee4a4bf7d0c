"""Sampling a timeline with any of ComfyUI's samplers: noise, guider, preview and progress per shot."""

import torch

import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview

from ...engine.plan.timeline import Timeline
from ..windows import latent_blend
from ..windows.progress import ProgressText


def sample_timeline(
    model,
    timeline: Timeline,
    positive: list,
    negative: list,
    latent: dict,
    sampler,
    sigmas: torch.Tensor,
    cfg: float,
    seed: int,
    blend: str,
    add_noise: bool = True,
) -> dict:
    """All segments together, step by step -> LATENT. `seed` draws the noise of shots without a seed of their own and
    the cuts of randomized blending; a noise_mask in `latent` is honoured. Without `add_noise` the latent is taken as
    noisy already: the second expert of Wan 2.2 14B goes on where the first one stopped."""
    model = latent_blend.attach(model, timeline, blend, seed)
    return sample_attached(model, timeline, positive, negative, latent, sampler, sigmas, cfg, seed, add_noise)


def sample_attached(
    model,
    timeline: Timeline,
    positive: list,
    negative: list,
    latent: dict,
    sampler,
    sigmas: torch.Tensor,
    cfg: float,
    seed: int,
    add_noise: bool,
    callback=None,
) -> dict:
    """As above, with a model to which the timeline is attached already. `callback` reports the steps in place of
    `shot_callback`."""
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    start = comfy.sample.fix_empty_latent_channels(model, latent["samples"], latent.get("downscale_ratio_spacial"))
    check_mask(latent.get("noise_mask"), start.shape[2])
    noise = comfy.sample.prepare_noise(start, seed, latent.get("batch_index")) if add_noise else torch.zeros_like(start)
    samples = guider.sample(
        noise,
        start,
        sampler,
        sigmas,
        denoise_mask=latent.get("noise_mask"),
        callback=callback or shot_callback(model, timeline, sigmas.shape[-1] - 1),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=seed,
    )
    rest = {
        key: value for key, value in latent.items() if not key.startswith("downscale_ratio")
    }  # said of an empty latent
    return {**rest, "samples": samples.to(start.device)}


def check_mask(mask: torch.Tensor | None, frames: int) -> None:
    """Raises ValueError for a LATENT's noise_mask that counts other frames than its video: core would stretch it in
    time, and a frame that it keeps would be kept by half, or not at all."""
    if mask is None:
        return
    found = mask.shape[2] if mask.ndim == 5 else mask.numel() // (mask.shape[-1] * mask.shape[-2])  # as core reads it
    if found not in (1, frames):
        raise ValueError(
            f"the noise mask has {found} frames and the latent {frames}; masks count latent frames: use "
            f"{frames}, or 1 for all"
        )


def shot_callback(model, timeline: Timeline, steps: int):
    """Progress per step; the preview shows the middle of one shot after the other."""
    shots = timeline.shots
    stops = [(f"shot {shot.index + 1}/{len(shots)}", (shot.start + shot.end) // 2) for shot in shots]
    return walking_callback(model, stops, steps)


def walking_callback(model, stops: list[tuple[str, int]], steps: int):
    """Progress per step; the preview goes from stop to stop, each a name and a latent frame."""
    core, text = latent_preview.prepare_callback(model, steps), ProgressText()

    def callback(step: int, x0: torch.Tensor, x: torch.Tensor, total_steps: int) -> None:
        name, frame = stops[step % len(stops)]
        text.show(f"step {step + 1}/{total_steps}, preview of {name}")
        core(step, x0[:, :, frame : frame + 1], x, total_steps)

    return callback
