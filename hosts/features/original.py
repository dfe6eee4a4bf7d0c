"""Sample an original video, and then the edited one, which is shown the original's windows once more.

What the network was shown of the original is noted, window by window and noise level by noise level, as far as its
layout is read. When the edited video comes to the same window and level, the network is shown the original's first, in
the role SOURCE, and the feature (hosts/features/prompt_edit.py) reads what that leaves behind. The notes cost one
latent for each evaluation, in main memory.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import torch

import comfy.model_management
import comfy.sampler_helpers

from ...engine.plan.spans import NoiseSpan
from .. import keys
from ..attention import neighbours, patching
from ..attention.ledger import LEDGER
from ..attention.neighbours import other_cache
from ..attention.noise_level import read_once
from ..attention.step_caches import CACHE
from ..prompts import conditioning
from ..types import BaseModel, Callback, CondLists, Executor, ModelOptions, Sampler
from ..windows import latent_blend
from ..windows.progress import ProgressText

NAME = "Longreel Prompt Edit"
SOURCE = "source"  # the role in which the original is shown again
MOST_PINNED_BYTES = 2 * 2**30  # of notes: the system cannot use pinned memory otherwise, and torch takes up to twice
MADE_BY_OTHERS = ("hooks", "control")  # made ready before a sampler starts, for the guider's own conditioning alone


@dataclass(frozen=True)
class Shown:
    """The network was shown this of the original: one window, on the CPU, at one noise level."""

    x: torch.Tensor  # [B, C, F, H, W]
    sigma: float
    conds: list[list[dict] | None]

    def x_on(self, like: torch.Tensor) -> torch.Tensor:
        """Return x on the device of `like`, which comes by at the same place."""
        return self.x.to(like, non_blocking=_may_run_ahead(like))


@dataclass
class Notes:
    """These notes hold all of the original that the edited video will read, in the order in which it will come by.

    `over` once the original's sampler has left `span`: from there on nobody looks at it, and the network is not asked.
    """

    span: NoiseSpan
    shown: deque[Shown] = field(default_factory=deque)
    complete: bool = False
    over: bool = False
    progress: ProgressText = field(default_factory=ProgressText)
    pinned_bytes: int = 0

    def note(self, x: torch.Tensor, sigma: float, conds: list[list[dict] | None]) -> None:
        """Keep what the original is shown now: x [B, C, F, H, W] at this noise level.

        A copy that does not wait goes into pinned memory, which the device alone reads again, and in the same order.
        """
        run_ahead = _may_run_ahead(x) and self.pinned_bytes + x.nbytes <= MOST_PINNED_BYTES
        self.pinned_bytes += x.nbytes * run_ahead
        kept = LEDGER.note(x.detach().to("cpu", copy=True, non_blocking=run_ahead), NAME, "a latent of the original")
        self.shown.append(Shown(kept, sigma, conds))

    def take(self, x: torch.Tensor, sigma: float) -> Shown:
        """Return what the original was shown next. Raises RuntimeError where the two samplings went different ways."""
        if not self.shown or self.shown[0].sigma != sigma or self.shown[0].x.shape != x.shape:
            there = f"{self.shown[0].sigma:.4g}" if self.shown else "none"
            raise RuntimeError(
                f"the edited video is at noise level {sigma:.4g} and its original at {there}: the "
                f"sampler chooses its steps by what it sees; use one with fixed steps, such as euler"
            )
        return self.shown.popleft()


def sample_both(
    executor: Executor,
    noise: torch.Tensor,
    latent_image: torch.Tensor,
    sampler: Sampler,
    sigmas: torch.Tensor,
    denoise_mask: torch.Tensor | None = None,
    callback: Callback | None = None,
    disable_pbar: bool = False,
    *args,
    **kwargs,
):
    """OUTER_SAMPLE: the original, as far as it is needed, and then the edited video. Only that one is reported."""
    guider = executor.class_obj
    options = guider.model_options["transformer_options"]
    edit: Any = next(feature for feature in options[keys.FEATURES] if feature.name == NAME)

    def sample(conds: dict[str, list[dict]], noise: torch.Tensor, callback: Callback | None, disable_pbar: bool):
        guider.conds = {name: [dict(entry) for entry in entries] for name, entries in conds.items()}
        handler = guider.model_options.get("context_handler")
        if isinstance(handler, latent_blend.TimelineHandler):
            guider.model_options["context_handler"] = handler.for_new_run()  # it counts evaluations
        own = sigmas.clone()  # the sampling after this one has the same, and some samplers write into them
        return executor(noise, latent_image, sampler, own, denoise_mask, callback, disable_pbar, *args, **kwargs)

    edit.check_words(guider.conds)
    if edit.layout is None:
        return executor(noise, latent_image, sampler, sigmas, denoise_mask, callback, disable_pbar, *args, **kwargs)
    if CACHE in options or other_cache(options):
        raise ValueError(
            f"{NAME} samples an original and an edited video in the same steps, and a node on this model (EasyCache, "
            f"LazyCache, TeaCache) skips steps of each by what it sees; remove that node"
        )
    neighbours.check(edit, True, guider)  # before the original
    edited = guider.conds
    original = _conds_of_original(edited, edit.layout.original)
    features = options[keys.FEATURES]
    notes = options[keys.PROMPT_EDIT] = Notes(span_of(edit.layout, guider.model_patcher.model))
    device = guider.model_patcher.load_device
    try:
        options[keys.FEATURES] = tuple(feature for feature in features if feature is not edit)
        with torch.random.fork_rng([device] if device.type == "cuda" else []):  # samplers without a seed draw from it
            sample(original, noise.clone(), None, True)
        options[keys.FEATURES], notes.complete = features, True
        return sample(edited, noise, callback, disable_pbar)
    finally:
        options[keys.FEATURES] = features
        del options[keys.PROMPT_EDIT]


def span_of(percents: Any, model: BaseModel) -> NoiseSpan | None:
    """Return the noise levels between `start_percent` and `end_percent` of some settings; None of None."""
    if percents is None:
        return None
    return NoiseSpan.of(percents.start_percent, percents.end_percent, model.model_sampling.percent_to_sigma)


def _conds_of_original(edited: dict[str, list[dict]], original: list | None) -> dict[str, list[dict]]:
    if conditioning.POSITIVE not in edited:
        raise ValueError(
            f"{NAME} puts the original in the place of the positive prompt, and this guider has none of that "
            f"name, only {', '.join(edited)}; use CFGGuider or KSampler"
        )
    if original is None:
        return edited
    original = comfy.sampler_helpers.convert_cond(original)
    for key in MADE_BY_OTHERS:
        number = sum(key in entry for entry in original)
        if number:
            raise ValueError(
                f"{number} of {len(original)} entries of the original conditioning carry a {key}, which is "
                f"made ready for the edited prompt alone; wire it straight from Longreel Encode"
            )
    return {**edited, conditioning.POSITIVE: original}


def evaluate_both(
    executor: Executor,
    model: BaseModel,
    conds: CondLists,
    x: torch.Tensor,
    timestep: torch.Tensor,
    model_options: ModelOptions,
):
    """CALC_COND_BATCH: notes what is shown of the original, and shows it again before the edited video's."""
    options = model_options["transformer_options"]
    notes: Notes | None = options.get(keys.PROMPT_EDIT)
    if notes is None:
        return executor(model, conds, x, timestep, model_options)
    comfy.model_management.throw_exception_if_processing_interrupted()
    with read_once(timestep, options) as sigma:
        return _evaluate_at(sigma, notes, executor, model, conds, x, timestep, model_options)


def _evaluate_at(
    sigma: float,
    notes: Notes,
    executor: Executor,
    model: BaseModel,
    conds: CondLists,
    x: torch.Tensor,
    timestep: torch.Tensor,
    model_options: ModelOptions,
):
    """Evaluate one window of the original, or of the edited video behind what was noted of the original."""
    options, in_span = model_options["transformer_options"], notes.span.holds(sigma)
    if notes.complete:
        if in_span:
            shown = notes.take(x, sigma)
            segment, _ = options.get(keys.SEGMENT_AND_ROLE, (None, patching.WHOLE))
            told = {**model_options, "transformer_options": {**options, keys.SEGMENT_AND_ROLE: (segment, SOURCE)}}
            executor(model, shown.conds, shown.x_on(x), timestep, told)
        return executor(model, conds, x, timestep, model_options)
    notes.over = notes.over or (not in_span and sigma < notes.span.high)
    if notes.over:
        return [x.clone() for _ in conds]
    notes.progress.show(f"original, noise level {sigma:.3g}")
    if in_span:
        notes.note(x, sigma, conds)
    return executor(model, conds, x, timestep, model_options)


def _may_run_ahead(x: torch.Tensor) -> bool:
    return comfy.model_management.device_supports_non_blocking(x.device)
