"""Sample a timeline with any of ComfyUI's samplers: noise, guider, preview and progress per shot, by one model or by
two experts of one schedule (hosts/sampling/experts.py).
"""

import torch

import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview

from ...engine.plan.timeline import Timeline
from ..anchor import frame as anchor_frame
from ..families import facts_of, refuse_sound
from ..prompts.shot_lora import check_loras
from ..types import Callback, ModelPatcher
from ..windows import latent_blend, picture_channels
from ..windows.checks import check_latent, check_sound, check_text
from ..windows.finite import check_finite
from ..windows.progress import ProgressText
from ..windows.shot_noise import noise_of_shots
from ..windows.streams import on_each
from ..windows.used_state import as_it_was
from .experts import WAN_22_EXPERTS_MEET, Experts, ask, noise_within
from .settings import Sampling

FRAME_AXIS = 2  # [B, C, F, H, W]
SOUND_AXES = 4  # [B, C, T, frequencies]
PARTS_OF_VIDEO = 7  # of core's area in percentages: the word, three sizes and three places


def sample_timeline(
    model: ModelPatcher,
    timeline: Timeline,
    latent: dict,
    sampling: Sampling,
    *,
    blend: str,
    low_noise_model: ModelPatcher | None = None,
    low_noise_from: float = WAN_22_EXPERTS_MEET,
) -> dict:
    """Sample all segments together, step by step, and return a LATENT.

    latent: as long as the timeline; a noise_mask in it is honoured. Without add_noise it is taken as noisy already: a
    second sampler goes on where the first one stopped. blend: one of engine/sampling/latent_blend.BLENDS.
    low_noise_model: samples the noise levels below `low_noise_from` (0..1, flow models).

    Raises ValueError for a model that carries Longreel Latent Blend already, a latent or mask of another length, and
    experts that cannot share the schedule, before anything is sampled.
    """
    if low_noise_model is not None:
        refuse_sound(low_noise_model, "low_noise_model, the second of two experts,")
    both = (model, low_noise_model)
    high, low = (None if one is None else latent_blend.attach(one, timeline, blend, sampling.seed) for one in both)
    experts = Experts(high, low, low_noise_from)
    experts.check()
    return _sample(experts, timeline, latent, sampling)


def sample_attached(
    model: ModelPatcher, timeline: Timeline, latent: dict, sampling: Sampling, *, callback=None
) -> dict:
    """Sample a model to which the timeline is attached already, and return a LATENT.

    callback: reports the steps in place of `shot_callback`. Raises ValueError as `check_inputs` does.
    """
    return _sample(Experts(model, None, 0.0), timeline, latent, sampling, callback)


def _sample(experts: Experts, timeline: Timeline, latent: dict, sampling: Sampling, callback=None) -> dict:
    """Sample by each expert in turn, and return a LATENT."""
    start = check_inputs(experts.high, latent, sampling)
    if experts.low is not None:
        check_inputs(experts.low, latent, sampling)
    noise, mask = on_each(start, torch.zeros_like), latent.get("noise_mask")
    if sampling.add_noise:
        noise = comfy.sample.prepare_noise(start, sampling.seed, latent.get("batch_index"))
    parts, steps, done = experts.parts(sampling.own_sigmas()), len(sampling.sigmas) - 1, 0
    for model, sigmas in parts[1:]:
        ask(model, (sampling.positive, sampling.negative), sampling, sigmas, (noise, start, mask))
    samples = start
    for number, (model, sigmas) in enumerate(parts):
        inputs = noise, start, mask
        if number:
            inputs = _left(experts, timeline, float(sigmas[0]), samples, inputs)
            model.model_options["context_handler"].goes_on = True
        report = callback or shot_callback(model, timeline, steps, before=done, who=experts.name_of(model))
        samples = _sample_part(model, sampling, sigmas, inputs, report)
        done += len(sigmas) - 1
    rest = {
        key: value for key, value in latent.items() if not key.startswith("downscale_ratio")
    }  # said of an empty latent
    return {**rest, "samples": samples.to(start.device)}


def _sample_part(
    model: ModelPatcher,
    sampling: Sampling,
    sigmas: torch.Tensor,
    inputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None],
    callback: Callback,
) -> torch.Tensor:
    """Return the latent [B, C, F, H, W] as one expert leaves it; inputs: (noise, latent, mask)."""
    noise, latent, mask = inputs
    guider = comfy.samplers.CFGGuider(model)
    prompts = (sampling.positive, sampling.negative)
    guider.set_conds(*(picture_channels.on_timeline(model.model, one, latent.shape[FRAME_AXIS]) for one in prompts))
    guider.set_cfg(sampling.cfg)
    with as_it_was(model):
        return guider.sample(
            noise,
            latent,
            sampling.sampler,
            sigmas,
            denoise_mask=mask,
            callback=callback,
            disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            seed=sampling.seed,
        )


def _left(
    experts: Experts,
    timeline: Timeline,
    sigma: float,
    out: torch.Tensor,
    inputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Return (noise, latent, mask) with which the second expert goes on from `out`, what the first left at `sigma`.

    inputs: those of the first. Where nothing is kept, it goes on as core's second sampler does, without noise.
    """
    noise, latent, mask = inputs
    frames = anchor_frame.frames_in_window(experts.high, 0, 0, latent.shape[FRAME_AXIS])
    if mask is None and not frames:
        return torch.zeros_like(noise), out, None
    whole = None if mask is None else comfy.utils.reshape_mask(mask, latent.shape)
    latent, whole = anchor_frame.write(frames, latent, whole, experts.high)
    of_shots = noise_of_shots(noise, timeline)
    return noise_within(out, latent, of_shots, whole, sigma, experts.low), latent, whole


def check_inputs(model: ModelPatcher, latent: dict, sampling: Sampling) -> torch.Tensor:
    """Return the samples [B, C, F, H, W] of a LATENT that a model can begin with.

    Raises ValueError for a latent that is no video of the model's family, a mask of another length or beside a latent
    that comes noisy, and text of another encoder.
    """
    start = comfy.sample.fix_empty_latent_channels(model, latent["samples"], latent.get("downscale_ratio_spacial"))
    check_latent(start, facts_of(model))
    mask = latent.get("noise_mask")
    streams = start.unbind() if start.is_nested else [start]
    masks = [] if mask is None else mask.unbind() if mask.is_nested else [mask]
    for one, stream in zip(masks, streams, strict=False):  # core draws all of a stream that has none
        check_mask(one.unsqueeze(-1) if one.ndim == stream.ndim == SOUND_AXES else one, stream.shape[2])
    if not sampling.add_noise and any(float(one.min()) < 1 for one in masks):
        raise ValueError(
            "add_noise is off, so the latent is taken as noisy, and its noise mask would keep parts of it as noisy as "
            "they are; sample all sigmas with one sampler (two experts: low_noise_model), or take the mask off before "
            "this one"
        )
    for _, options, *_ in (*sampling.positive, *sampling.negative):
        area = options.get("area")
        if area is not None and area[0] == "percentage" and len(area) < PARTS_OF_VIDEO:
            raise ValueError(
                f"an area of the conditioning is {len(area) - 1} parts of a picture, and a video's are 6, with time; "
                f"use Conditioning (Set Area with Percentage for Video)"
            )
    entries = [options for _, options, *_ in (*sampling.positive, *sampling.negative)]
    check_loras(model, entries)
    check_sound(model, entries)
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


def shot_callback(model: ModelPatcher, timeline: Timeline, steps: int, *, before: int = 0, who: str = "") -> Callback:
    """Return a callback with progress per step; the preview shows the middle of one shot after the other.

    steps: of all samplers together, of which `before` are done. who: of several experts, the one at work.
    """
    shots = timeline.shots
    stops = [(f"shot {shot.index + 1}/{len(shots)}", (shot.start_frame + shot.end_frame) // 2) for shot in shots]
    return walking_callback(model, stops, steps, before=before, who=who)


def walking_callback(
    model: ModelPatcher, stops: list[tuple[str, int]], steps: int, *, before: int = 0, who: str = ""
) -> Callback:
    """Return a callback with progress per step; the preview goes from stop to stop, each a name and a latent frame."""
    core, text = latent_preview.prepare_callback(model, steps), ProgressText()
    by = f"{who}, " if who else ""

    def callback(step: int, x0: torch.Tensor, x: torch.Tensor, total_steps: int) -> None:
        at = before + step
        check_finite(x0, f"step {at + 1}/{steps}")
        name, frame = stops[at % len(stops)]
        text.show(f"step {at + 1}/{steps}, {by}preview of {name}")
        core(at, x0[:, :, frame : frame + 1], x, steps)

    return callback
