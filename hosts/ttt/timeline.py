"""A whole timeline in one forward: every segment hears its own prompt, attends to itself, and TTT joins them.

Source: One-Minute Video Generation with Test-Time Training (arXiv 2504.05298, section 3.1). Core gives the network one
text for all frames, and asks a model's context handler how to show it a long latent. This one shows all of it, with one
conditioning entry in which the texts of all segments stand one behind the other; where one ends travels along
(hosts/ttt/forward.SegmentInfo). What is not text (pictures for all frames, guidance, areas, control) is the first segment's,
and must be that of all.
"""

import logging
import math

import torch

import comfy.conds
import comfy.context_windows
import comfy.patcher_extension as extension

from ...engine.plan.timeline import Timeline
from ...engine.ttt.order import Layout, own_frames
from .. import keys
from ..attention import patching
from ..prompts import conditioning
from ..windows.latent_blend import noise_of_shots
from ..windows.progress import ProgressText
from .forward import SegmentInfo, kept_bytes, segments_of, token_windows, watch

FRAME_AXIS = 2  # [B, C, F, H, W]
TEXT, MASK, POOLED = "c_crossattn", "attention_mask", "y"  # of model_conds
JOINED_ALONG = {TEXT: 1, MASK: -1, POOLED: 1}  # axis of [1, T, C], [1, T], [1, C]
ACTS_WHERE = (
    "area",
    "mask",
    "mask_strength",
    "strength",
    "timestep_start",
    "timestep_end",
    "control",
    "gligen",
    "hooks",
    "default",
)  # what core does with an entry besides showing it


class WholeTimeline(comfy.context_windows.ContextHandlerABC):
    """One per run."""

    def __init__(self, timeline: Timeline):
        super().__init__()
        self.timeline = timeline
        self.windows = tuple((segment.start, segment.end) for segment in timeline.segments)
        # Checks that they follow each other; how many tokens a frame has does not matter here.
        frames = own_frames(Layout((0,) * len(self.windows), self.windows, 1, 1))
        self.strengths = torch.ones(timeline.latent_frames)
        for segment, (start, stop) in zip(timeline.segments, frames):
            self.strengths[start:stop] = sum(timeline.shots[shot].shot.strength * share for shot, share in segment.mix)
        self.evaluations, self.compared, self.progress = 0, set(), ProgressText()

    def for_new_run(self) -> "WholeTimeline":
        return WholeTimeline(self.timeline)

    def should_use_context(self, model, conds, x_in, timestep, model_options) -> bool:
        frames = x_in.shape[FRAME_AXIS]
        if frames != self.timeline.latent_frames:
            raise ValueError(
                f"the latent has {frames} frames and the timeline {self.timeline.latent_frames}; wire the "
                f"latent output of the same Longreel Plan into the sampler"
            )
        return True

    def get_resized_cond(self, cond_in, x_in, window, device=None):
        return cond_in  # nothing is cut

    def execute(self, calc_cond_batch, model, conds, x_in, timestep, model_options):
        self.evaluations += 1
        self.progress.show(f"{len(self.windows)} segments at once, evaluation {self.evaluations}")
        joined = [None if entries is None else [self._join(entries, number)] for number, entries in enumerate(conds)]
        out = calc_cond_batch(model, joined, x_in, timestep, model_options)
        self._apply_strength(out, conds)
        return out

    def _join(self, entries: list[dict], prompt: int) -> dict:
        """One entry whose texts are those of all segments."""
        heard = []
        for number, segment in enumerate(self.timeline.segments):
            of_segment = conditioning.entries_for(entries, segment.mix)
            if len(of_segment) != 1:
                raise ValueError(
                    f"segment {number + 1} has {len(of_segment)} conditioning entries, and TTT reads one text for each "
                    f"segment; combine no conditionings, and wire Longreel Encode's output as it is"
                )
            heard += of_segment
        first = heard[0]
        if prompt not in self.compared:
            for number, entry in enumerate(heard):
                _compare(first, entry, number)
            self.compared.add(prompt)
        model_conds = dict(first["model_conds"])
        given = {key: [entry["model_conds"][key].cond for entry in heard] for key in JOINED_ALONG if key in model_conds}
        texts = tuple(text.shape[1] for text in given[TEXT])
        for key, parts in given.items():
            # Regular also where the family repeats a text to another's length: every token counts here.
            model_conds[key] = comfy.conds.CONDRegular(torch.cat(parts, JOINED_ALONG[key]))
        model_conds[keys.TTT_SEGMENT_INFO] = comfy.conds.CONDConstant(SegmentInfo(self.windows, texts))
        return {**first, "model_conds": model_conds}

    def _apply_strength(self, out: list[torch.Tensor], conds: list[list[dict] | None]) -> None:
        """A shot's strength multiplies its guidance: positive <- negative + strength (positive - negative)."""
        if (self.strengths == 1).all():
            return
        positive, negative = (
            conditioning.number_of(conds, role) for role in (conditioning.POSITIVE, conditioning.NEGATIVE)
        )
        if positive is None or negative is None:
            planned = next(shot for shot in self.timeline.shots if shot.shot.strength != 1)
            evaluated = sum(number is not None for number in (positive, negative))
            raise ValueError(
                f"shots[{planned.index}].strength {planned.shot.strength:g} scales the guidance against "
                f"the negative prompt, but the sampler evaluates {evaluated} of the 2 prompts of Longreel "
                f"Encode; use cfg above 1 with both wired, or strength 1"
            )
        strengths = self.strengths.to(out[positive])[:, None, None]  # [F, 1, 1]
        changed = self.strengths.to(out[positive].device) != 1
        scaled = out[negative] + strengths * (out[positive] - out[negative])
        out[positive][:, :, changed] = scaled[:, :, changed]


def _compare(first: dict, other: dict, number: int) -> None:
    """Raises ValueError where an entry differs from the first segment's in more than its text."""
    ours, theirs = first["model_conds"], other["model_conds"]
    different = sorted(set(ours) ^ set(theirs))
    different += [
        key
        for key in ours
        if key in theirs and key not in JOINED_ALONG and not comfy.conds.is_equal(ours[key].cond, theirs[key].cond)
    ]
    different += [key for key in ACTS_WHERE if not _same(first.get(key), other.get(key))]
    if different:
        raise ValueError(
            f"the conditioning of segment {number + 1} differs from that of segment 1 in {different[0]}, and TTT shows all "
            f"segments in one evaluation; give every shot the same, or leave it out"
        )


def _same(ours, theirs) -> bool:
    return ours is theirs or comfy.conds.is_equal(ours, theirs)


def attach(model, timeline: Timeline):
    """A clone of `model` (ModelPatcher), with or without TTT layers, that is shown all of `timeline` at once.

    Raises ValueError for a network that cannot be, segments that do not follow each other, and a model whose latent is
    cut into windows already.
    """
    segments = segments_of(model)
    network = model.model.diffusion_model
    segments.refuse(network, len(timeline.segments))
    handler = WholeTimeline(timeline)
    windows = token_windows(handler.windows, segments.family.patch_size(network)[0])
    Layout((0,) * len(windows), windows, 1, 1)  # raises where segments do not follow each other
    previous = model.model_options.get("context_handler")
    if previous is not None:
        raise ValueError(
            f"a node on this model shows it a latent in parts ({type(previous).__name__}), and TTT shows it all of a "
            f"timeline; wire the model from before that node"
        )
    model = model.clone()
    model.model_options["context_handler"] = handler
    watch(model)
    for kind, wrapper in (
        (extension.WrappersMP.OUTER_SAMPLE, _start_run),
        (extension.WrappersMP.PREPARE_SAMPLING, _reserve),
    ):
        model.add_wrapper_with_key(kind, keys.TTT_WHOLE_TIMELINE, wrapper)
    return model


def _start_run(executor, noise, latent_image, *args, **kwargs):
    """OUTER_SAMPLE: a fresh handler for each run, and each shot's own noise where it has a seed."""
    options = executor.class_obj.model_options
    others = patching.features_of(options)
    if others:
        raise ValueError(
            f"{others[0].name} works on one segment at a time and TTT shows all of a timeline at once; remove that node, "
            f"or sample with Longreel Latent Blend instead"
        )
    handler = options["context_handler"] = options["context_handler"].for_new_run()
    trained = options["transformer_options"].get(keys.TTT_TRAINED_SEGMENT)
    longest = max(stop - start for start, stop in handler.windows)
    if trained not in (None, longest):
        logging.warning(
            "Longreel: these TTT layers were trained on segments of %d latent frames, and the timeline's "
            "longest has %d",
            trained,
            longest,
        )
    return executor(noise_of_shots(noise, handler.timeline), latent_image, *args, **kwargs)


def _reserve(executor, patcher, noise_shape, conds, *args, **kwargs):
    """PREPARE_SAMPLING: core asks for the memory of a latent [B, C, F, H, W]: that of one segment, and what is kept of
    all, said in frames."""
    batch, channels, _, rows, columns = noise_shape
    windows = patcher.model_options["context_handler"].windows
    kept = kept_bytes(patcher, tuple(noise_shape), windows)
    frames = max(stop - start for start, stop in windows)
    frames += math.ceil(kept / patcher.memory_required([batch, channels, 1, rows, columns]))
    return executor(patcher, [batch, channels, frames, rows, columns], conds, *args, **kwargs)
