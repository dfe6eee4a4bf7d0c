"""Memory before sampling: what a run will need, where its features keep what they keep, and what ComfyUI is asked for.

`RunMemory` is made when a sampler starts, before ComfyUI loads the model: it reckons with the most that the run will
keep, refuses what cannot fit with settings that do, and says in the log what lies where. `reserve_memory` has ComfyUI
leave the features' bytes free on the card beside the window's, so that it brings in fewer weights.
"""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import comfy.patcher_extension as extension

from ...engine.plan.card_memory import MemoryPlan, choose_places, refusal, summary
from ...engine.plan.needs import AttentionSize, Need
from .. import keys
from ..families import family_of
from ..families.sites import FRAME_AXIS
from ..types import Entry, Executor, Guider, ModelOptions, ModelPatcher
from . import card
from .attention_size import attention_size, entries_at_once, prompts_of, text_tokens_of, window_of
from .remedies import Remedy, remedies_for


class Needing(Protocol):
    """What a feature says of its memory (hosts/attention/feature.Feature)."""

    def need(self, size: AttentionSize) -> Need:
        """Return what a run keeps at most, and what it needs while an attention call is made."""


def size_of_run(guider: Guider, noise_shape: Sequence[int]) -> AttentionSize:
    """Return what the network will be shown at most in a run of this guider with noise [B, C, F, H, W]."""
    model, handler = guider.model_patcher, guider.model_options.get("context_handler")
    prompts = {name: guider.conds[name] for name in prompts_of(guider)}
    family = family_of(model)
    return attention_size(
        family,
        model.model.diffusion_model,
        window_of(noise_shape, handler),
        rows=noise_shape[0] * sum(entries_at_once(entries) for entries in prompts.values()),
        text_tokens=text_tokens_of(prompts, family),
        itemsize=model.model.get_dtype_inference().itemsize,
    )


class RunMemory:
    """The memory of one run: `plan` says where each feature keeps what it keeps.

    size: what the network is shown at most. window: the longest latent [B, C, F, H, W] that it is shown, under so many
    prompts. latent_numbers: of the latent that is sampled. whole_timeline: see card.core_needs. shorter: see
    remedies.remedies_for.
    """

    def __init__(
        self,
        model: ModelPatcher,
        features: Sequence[Needing],
        *,
        size: AttentionSize,
        window: Sequence[int],
        prompts: int,
        latent_numbers: int,
        whole_timeline: int = 0,
        shorter: Callable[[int], str] | None = None,
    ):
        self.model, self.features, self.size, self.window, self.prompts = model, features, size, window, prompts
        self.latent_numbers, self.whole_timeline, self.shorter = latent_numbers, whole_timeline, shorter
        self.card = card.card_of(model)
        self.plan = self.plan_of(features, size.frames)

    @classmethod
    def of_run(
        cls, guider: Guider, noise_shape: Sequence[int], features: Sequence[Needing], whole_timeline: int = 0
    ) -> "RunMemory":
        """Return the memory of a guider's run with noise [B, C, F, H, W]."""
        handler = guider.model_options.get("context_handler")
        return cls(
            guider.model_patcher,
            features,
            size=size_of_run(guider, noise_shape),
            window=window_of(noise_shape, handler),
            prompts=len(prompts_of(guider)),
            latent_numbers=math.prod(noise_shape),
            whole_timeline=whole_timeline,
            shorter=getattr(handler, "shorter_windows", None),
        )

    def plan_of(self, features: Sequence[Needing], frames: int) -> MemoryPlan:
        """Return the plan with other features, and windows of so many latent frames."""
        window = (*self.window[:FRAME_AXIS], frames, *self.window[FRAME_AXIS + 1 :])
        core = card.core_needs(self.model, window, self.prompts, self.latent_numbers, self.whole_timeline)
        size = replace(self.size, frames=frames)
        return choose_places(self.card, core, [feature.need(size) for feature in features])

    def remedies(self) -> list[Remedy]:
        """Return settings that fit, the smallest change first."""
        return remedies_for(self.features, self.size, self.plan_of, self.shorter)

    def refused(self) -> str | None:
        """Return why the run cannot fit, with settings that do; None where it fits."""
        return None if self.plan.fits else refusal(self.plan, [remedy.words for remedy in self.remedies()])

    def check(self) -> None:
        """Say in the log what lies where. Raises ValueError, with settings that fit, for a run that cannot."""
        if refused := self.refused():
            raise ValueError(refused)
        logging.info("Longreel: memory on %s", summary(self.plan))


def reserve_memory(model: ModelPatcher) -> None:
    """Have ComfyUI leave as much memory free as the features of `model` need on the card.

    It is said again after a node that makes the memory fit one window, because the last word counts.
    """
    model.remove_wrappers_with_key(extension.WrappersMP.PREPARE_SAMPLING, keys.TAP)
    model.add_wrapper_with_key(extension.WrappersMP.PREPARE_SAMPLING, keys.TAP, _reserve)


def _reserve(
    executor: Executor,
    model: ModelPatcher,
    noise_shape: Sequence[int],
    conds: dict[str, list[Entry]],
    *,
    model_options: ModelOptions,
    **options,
):
    """Wrap PREPARE_SAMPLING: core asks for the memory of a latent [B, C, F, H, W]; what is kept is said in frames."""
    running = model_options["transformer_options"].get(keys.RUNNING)
    kept = 0 if running is None else running.memory.features_on_card
    batch, channels, frames, *rest = noise_shape
    frames += frames_of_bytes(model, noise_shape, kept)
    return executor(model, [batch, channels, frames, *rest], conds, model_options=model_options, **options)


def frames_of_bytes(model: ModelPatcher, noise_shape: Sequence[int], kept_bytes: int) -> int:
    """Return for how many frames of a latent [B, C, F, H, W] core reserves at least so many bytes."""
    batch, channels, _, rows, columns = noise_shape
    return math.ceil(kept_bytes / model.memory_required([batch, channels, 1, rows, columns]))
