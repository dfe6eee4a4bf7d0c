"""Where a model sees the words of a prompt: every segment of a latent is shown to the network once, at the noise of a
chosen part of the schedule, through the same windows, prompts and taps as in sampling.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch

import comfy.sample
import comfy.samplers

from ...engine.attention.focus_map import FocusMap
from ...engine.plan.needs import AttentionSize, Need
from ...engine.plan.timeline import Timeline
from ..attention import patching
from ..attention.feature import Bystander, Evaluation, Start
from ..families.sites import SELF, Call
from ..prompts import conditioning
from ..types import Attention, ModelPatcher, Sampler
from ..windows import latent_blend
from .focus import Mask, word_map, words_of_shots

NAME = "Longreel Focus Preview"


@dataclass
class LookForWords:
    """This feature only looks.

    `seen` [N, latent frames, rows, columns], 0..1, is there when the sampler has run.
    """

    timeline: Timeline
    mask: Mask
    layers: frozenset[int]
    seen: torch.Tensor | None = field(default=None, init=False)

    name = NAME
    excludes: ClassVar[dict[str, str]] = {}

    def start(self, start: Start) -> "FocusPreviewRun":
        """Begin a run. Raises ValueError for words that the shots' prompts do not have."""
        if start.handler.inside is not None:
            raise ValueError(
                f"{self.name} needs a segment to be seen at once, and another context handler on this model cuts it "
                f"up; remove the context windows node"
            )
        words = words_of_shots(self.timeline, self.mask)
        conditioning.check_words(start.conds, words)
        return FocusPreviewRun(self, words, start.handler.lead_frame)

    def need(self, size: AttentionSize) -> Need:
        """Return none: its maps are as small as a picture."""
        return Need(self.name)


class FocusPreviewRun(Bystander):
    """One run lays down the maps of the segments, averaged where they overlap."""

    needs_every_evaluation = True

    def __init__(self, settings: LookForWords, words: list[tuple[str, ...]], lead_frame: bool):
        self.settings, self.words, self.lead_frame = settings, words, lead_frame
        self.map, self.count = FocusMap(), torch.zeros(settings.timeline.latent_frames, 1, 1)
        self.total: torch.Tensor | None = None  # [N, latent frames, rows, columns], on the device of the maps

    def begin(self, evaluation: Evaluation) -> None:
        """Begin a new map with every evaluation."""
        self.map = FocusMap()

    def wants(self, kind: str, block: int, evaluation: Evaluation) -> bool:
        """Return whether text is read here, in one of the chosen layers."""
        return kind != SELF and block in self.settings.layers

    def attend(self, call: Call, next_attention: Attention) -> torch.Tensor:
        """Return [B, H, Sq, D] as the next attention gives it, with the words' map added up on the way."""
        found = word_map(call, next_attention, self.words)
        if found is not None:
            self.map.add(found)
            if self.map.layers == len(self.settings.layers):
                self._lay_down(call)
        return next_attention(call.q, call.k, call.v, call.mask)

    @torch.inference_mode()  # core's threads for several devices are not in it, and what is added up was made there
    def _lay_down(self, call: Call) -> None:
        timeline, forward = self.settings.timeline, call.forward
        segment = timeline.segments[call.evaluation.segment or 0]
        lead = int(self.lead_frame and segment.start_frame > 0)
        seen = self.map.normalised(forward.grid[0]).unflatten(2, forward.grid[1:])  # [N, token frames, h, w]
        seen = seen.repeat_interleave(forward.patch_frames, dim=1)[:, lead : lead + segment.latent_frames]
        if self.total is None:
            self.total = seen.new_zeros(len(seen), timeline.latent_frames, *seen.shape[2:])
        here = slice(segment.start_frame, segment.end_frame)
        self.total[:, here] += seen
        self.count[here] += 1
        if segment is timeline.segments[-1]:  # segments are evaluated in order
            self.settings.seen = self.total.cpu() / self.count.clamp(min=1)


def focus_maps(
    model: ModelPatcher,
    timeline: Timeline,
    positive: list,
    latent: dict,
    sampler: Sampler,
    mask: Mask,
    layers: frozenset[int],
    percent: float,
    seed: int,
) -> torch.Tensor:
    """Return [N, latent frames, rows, columns] in 0..1.

    `percent` of the schedule says how much noise the latent gets, 0 all of it; `sampler` is one that the model's family
    can be sampled with, and makes one step.
    """
    looking = LookForWords(timeline, mask, layers)
    model = latent_blend.attach(patching.attach(model, looking), timeline, "triangle")
    sigma = float(model.get_model_object("model_sampling").percent_to_sigma(percent))
    highest = float(model.get_model_object("model_sampling").sigma_max)
    start = comfy.sample.fix_empty_latent_channels(model, latent["samples"], latent.get("downscale_ratio_spacial"))
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, positive)
    guider.set_cfg(1.0)  # the positive prompt alone
    guider.sample(
        comfy.sample.prepare_noise(start, seed),
        start,
        sampler,
        torch.tensor([min(sigma, highest), 0.0]),
        seed=seed,
        disable_pbar=True,
    )
    return looking.seen
