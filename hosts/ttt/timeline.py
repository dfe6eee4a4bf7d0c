"""A whole timeline in one forward: every segment reads its own prompt, attends to itself, and TTT joins them.

Source: One-Minute Video Generation with Test-Time Training (arXiv 2504.05298, section 3.1). Core gives the network one
text for all frames, and asks a model's context handler how to show it a long latent. This one shows all of it, with one
conditioning entry in which the texts of all segments stand one behind the other; where one ends travels along
(hosts/ttt/forward.SegmentInfo). What is not text (pictures for all frames, guidance, areas, control) is the first
segment's, and must be that of all.
"""

import logging
from collections.abc import Sequence

import torch

import comfy.conds
import comfy.context_windows
import comfy.patcher_extension as extension
from comfy.model_patcher import ModelPatcher

from ...engine.plan.timeline import Timeline
from ...engine.ttt.order import Layout, own_frames
from .. import keys
from ..attention import patching, reserve
from ..prompts import conditioning
from ..prompts.guidance import scale_guidance_of_frames, strength_of
from ..types import BaseModel, CalcCondBatch, CondLists, ContextWindow, Entry, Executor, ModelOptions
from ..windows.checks import check_latent_frames, check_plan
from ..windows.progress import ProgressText
from ..windows.shot_noise import noise_of_shots
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
    """Core's context handler of one run: it shows the network all of a timeline."""

    in_segments = True  # blocks are evaluated segment by segment, with one time for all frames

    def __init__(self, timeline: Timeline, lead_frames: int = 0):
        """Raise ValueError for segments that do not follow each other."""
        super().__init__()
        self.timeline, self.lead_frames = timeline, lead_frames
        self.windows = tuple((segment.start_frame, segment.end_frame) for segment in timeline.segments)
        self.segment_frames = max(segment.latent_frames for segment in timeline.segments)
        self.window_frames = self.segment_frames + lead_frames
        self.take_starts = tuple(timeline.take_start(segment) for segment in timeline.segments)
        # Checks that they follow each other; how many tokens a frame has does not matter here.
        frames = own_frames(Layout((0,) * len(self.windows), self.windows, 1, 1))
        self.strengths = torch.ones(timeline.latent_frames)
        for segment, (start, stop) in zip(timeline.segments, frames, strict=True):
            self.strengths[start:stop] = strength_of(segment.mix, timeline)
        self.evaluations, self.compared, self.progress = 0, set(), ProgressText()

    def for_new_run(self) -> "WholeTimeline":
        """Return a handler that has counted and compared nothing yet."""
        return WholeTimeline(self.timeline, self.lead_frames)

    def shorter_windows(self, frames: int) -> str:
        """Return the setting with which blocks see so many latent frames at once."""
        return f"segment_frames {self.timeline.facts.pixel_frames(frames - self.lead_frames)} in Longreel Plan"

    def should_use_context(
        self,
        model: BaseModel,
        conds: CondLists,
        x_in: torch.Tensor,
        timestep: torch.Tensor,
        model_options: ModelOptions,
    ) -> bool:
        """Return True: core then lets this handler show the latent. Raises ValueError for one of another length."""
        check_latent_frames(x_in.shape[FRAME_AXIS], self.timeline)
        return True

    def get_resized_cond(
        self, cond_in: list[Entry] | None, x_in: torch.Tensor, window: ContextWindow, device: torch.device | None = None
    ):
        """Return the conditioning as it is: nothing is cut."""
        return cond_in

    def execute(
        self,
        calc_cond_batch: CalcCondBatch,
        model: BaseModel,
        conds: CondLists,
        x_in: torch.Tensor,
        timestep: torch.Tensor,
        model_options: ModelOptions,
    ):
        """Return core's predictions of all segments at once, with each shot's strength."""
        self.evaluations += 1
        self.progress.show(f"{len(self.windows)} segments at once, evaluation {self.evaluations}")
        joined = [None if entries is None else [self._join(entries, number)] for number, entries in enumerate(conds)]
        out = calc_cond_batch(model, joined, x_in, timestep, model_options)
        scale_guidance_of_frames(conds, out, self.strengths, self.timeline)
        return out

    def _join(self, entries: list[dict], prompt: int) -> dict:
        """Return one entry whose texts are those of all segments; `prompt` is core's number of it."""
        of_segments = self._of_segments(entries)
        first = of_segments[0]
        if prompt not in self.compared:
            for number, entry in enumerate(of_segments):
                _compare(first, entry, number)
            self.compared.add(prompt)
        model_conds = dict(first["model_conds"])
        given = {
            key: [entry["model_conds"][key].cond for entry in of_segments] for key in JOINED_ALONG if key in model_conds
        }
        text_lengths = tuple(text.shape[1] for text in given[TEXT])
        for key, parts in given.items():
            # Regular also where the family repeats a text to another's length: every token counts here.
            model_conds[key] = comfy.conds.CONDRegular(torch.cat(parts, JOINED_ALONG[key]))
        segment_info = SegmentInfo(self.windows, text_lengths, self.lead_frames, self.take_starts)
        model_conds[keys.TTT_SEGMENT_INFO] = comfy.conds.CONDConstant(segment_info)
        return {**first, "model_conds": model_conds}

    def _of_segments(self, entries: list[dict]) -> list[dict]:
        """Return the one entry of each segment. Raises ValueError for a segment that has several, or none."""
        found = []
        for number, segment in enumerate(self.timeline.segments):
            of_segment = conditioning.entries_for(entries, segment.mix)
            if len(of_segment) != 1:
                raise ValueError(
                    f"segment {number + 1} has {len(of_segment)} conditioning entries, and TTT reads one text for each "
                    f"segment; combine no conditionings, and wire Longreel Encode's output as it is"
                )
            found += of_segment
        return found


def _compare(first: dict, other: dict, number: int) -> None:
    """Raise ValueError where an entry differs from the first segment's in more than its text."""
    ours, theirs = first["model_conds"], other["model_conds"]
    different = sorted(set(ours) ^ set(theirs))
    different += [
        key
        for key in ours
        if key in theirs and key not in JOINED_ALONG and not comfy.conds.is_equal(ours[key].cond, theirs[key].cond)
    ]
    different += [key for key in ACTS_WHERE if not _same(first.get(key), other.get(key))]
    if different == ["hooks"] and keys.WORDS in other:
        shots = [entry[keys.WORDS][-1].shot + 1 for entry in (other, first)]
        raise ValueError(
            f"the conditioning of shot {shots[0]} has another lora than that of shot {shots[1]}, and TTT shows all "
            f"segments in one evaluation; give every shot the same lora, or leave it out"
        )
    if different:
        raise ValueError(
            f"the conditioning of segment {number + 1} differs from that of segment 1 in {different[0]}, and TTT shows "
            f"all segments in one evaluation; give every shot the same, or leave it out"
        )


def _same(ours, theirs) -> bool:
    return ours is theirs or comfy.conds.is_equal(ours, theirs)


def attach(model: ModelPatcher, timeline: Timeline, lead_frames: int = 0) -> ModelPatcher:
    """Return a clone of `model`, with or without TTT layers, that is shown all of `timeline` at once.

    lead_frames: latent frames in front of each segment that its attention looks at too; 0 as in the paper. A causal
    video VAE makes its first latent frame from a single picture, and the network has learned that: without a frame in
    front it takes the first one of every segment for such a picture. Behind a cut the segment's own first frame leads.

    Raises ValueError for a timeline that was planned for another family, a network that cannot be shown it, segments
    that do not follow each other, and a model whose latent is cut into windows already.
    """
    check_plan(model, timeline)
    segments = segments_of(model)
    network = model.model.diffusion_model
    segments.refuse(network, len(timeline.segments))
    handler = WholeTimeline(timeline, lead_frames)
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


def _start_run(executor: Executor, noise: torch.Tensor, latent_image: torch.Tensor, *args, **kwargs):
    """OUTER_SAMPLE: a fresh handler for each run, and each shot's own noise where it has a seed."""
    options = executor.class_obj.model_options
    others = patching.features_of(options)
    if others:
        raise ValueError(
            f"{others[0].name} works on one segment at a time and TTT shows all of a timeline at once; remove that "
            f"node, or sample with Longreel Latent Blend instead"
        )
    handler = options["context_handler"] = options["context_handler"].for_new_run()
    trained = options["transformer_options"].get(keys.TTT_TRAINED_SEGMENT)
    longest = handler.segment_frames
    if trained not in (None, longest):
        logging.warning(
            "Longreel: these TTT layers were trained on segments of %d latent frames, and the timeline's "
            "longest has %d",
            trained,
            longest,
        )
    model = executor.class_obj.model_patcher
    kept = kept_bytes(model, tuple(noise.shape), handler.windows)
    reserve.RunMemory.of_run(executor.class_obj, noise.shape, (), kept).check()
    return executor(noise_of_shots(noise, handler.timeline), latent_image, *args, **kwargs)


def _reserve(
    executor: Executor,
    patcher: ModelPatcher,
    noise_shape: Sequence[int],
    conds: dict[str, list[Entry]],
    *args,
    **kwargs,
):
    """PREPARE_SAMPLING: core reserves the memory of one segment, and what is kept of all, as so many latent frames."""
    batch, channels, _, rows, columns = noise_shape
    handler = patcher.model_options["context_handler"]
    kept = kept_bytes(patcher, tuple(noise_shape), handler.windows)
    frames = handler.window_frames
    frames += reserve.frames_of_bytes(patcher, noise_shape, kept)
    return executor(patcher, [batch, channels, frames, rows, columns], conds, *args, **kwargs)
