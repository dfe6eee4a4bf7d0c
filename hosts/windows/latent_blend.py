"""Sample a timeline jointly on any family: a context handler shows the network one segment at a time and blends what it
predicts (engine/sampling/latent_blend.py).

Core calls a handler once per model evaluation with the whole latent. Cond and uncond are blended with the same
weights before guidance combines them; guidance is linear in both, so this is the blend of x0 after guidance.

Core's IndexListContextHandler does the slicing of latents and of every conditioning that has a time axis, which
hosts/prompts/time_axis.py says. What is different here: the segments and their prompts come from a timeline, the
weights from the chosen blend, shots may have their own noise and strength, and a handler that was there before goes on
working inside each segment.
"""

import itertools
from collections.abc import Sequence
from contextlib import nullcontext

import torch

import comfy.context_windows as context_windows
import comfy.patcher_extension as extension

from ...engine.plan.sound import sound_of
from ...engine.plan.timeline import Segment, Timeline
from ...engine.sampling.latent_blend import segment_weights
from ...engine.to_device import sent
from .. import keys
from ..attention import patching, reserve
from ..attention.neighbours import other_cache
from ..attention.noise_level import level_of, read_once
from ..attention.step_caches import StepCaches, skips_forwards
from ..families import leads_with_reference
from ..families.clone import clone
from ..prompts import conditioning, time_axis
from ..prompts.chunk_conditioning import check_no_reference
from ..prompts.guidance import scale_guidance
from ..prompts.shot_lora import check_loras
from ..types import (
    BaseModel,
    CalcCondBatch,
    CondLists,
    ContextHandler,
    Entry,
    Executor,
    ModelOptions,
    ModelPatcher,
    Sampler,
)
from . import devices
from .checks import check_latent_frames, check_plan, check_sound, check_text
from .devices import Devices, SegmentsOnDevices
from .lead_pictures import LeadPictures
from .picture_channels import entries_of
from .progress import ProgressText
from .segment_window import FRAME_AXIS, SegmentWindow
from .shot_noise import noise_of_streams
from .streams import VIDEO, Shapes, SoundWindow, StreamsInWindows, ask_for_window, check_lead, check_shapes, on_packed


class TimelineHandler(context_windows.IndexListContextHandler):
    """This is the context handler of one run of a sampler; `evaluation` counts the network's evaluations, from 0.

    goes_on: the run's noise is what an earlier one has left of it, also in shots that have a seed. in_order: what needs
    one segment after the other, also on several devices; "": nothing.
    """

    goes_on, in_order = False, ""

    def __init__(
        self, timeline: Timeline, blend: str, seed: int, lead_frame: bool, inside: ContextHandler | None = None
    ):
        longest = max(segment.latent_frames for segment in timeline.segments)
        super().__init__(
            context_schedule=context_windows.ContextSchedule(keys.LATENT_BLEND, None),
            fuse_method=context_windows.ContextFuseMethod(keys.LATENT_BLEND, None),
            context_length=longest + lead_frame,
            context_overlap=timeline.overlap_frames,
            dim=FRAME_AXIS,
            causal_window_fix=lead_frame,
        )
        self.timeline, self.blend, self.seed, self.lead_frame, self.inside = timeline, blend, seed, lead_frame, inside
        self.sound = sound_of(timeline)
        self.strengths = [
            sum(timeline.shots[shot].shot.strength * share for shot, share in segment.mix)
            for segment in timeline.segments
        ]
        self.evaluation, self._seen = -1, (None, None)
        self._sigmas: tuple[torch.Tensor | None, torch.Tensor | None] = None, None  # the sampler's, and on the host
        self.progress, self.caches, self.pictures = ProgressText(), StepCaches(), LeadPictures()
        self.devices: Devices | None = None  # of this run; looked for when it begins
        self._looked_for_devices = False
        self.handed_out: SegmentsOnDevices | None = None  # of this evaluation

    def for_new_run(self) -> "TimelineHandler":
        return TimelineHandler(self.timeline, self.blend, self.seed, self.lead_frame, self.inside)

    def shorter_windows(self, frames: int) -> str:
        """Return the setting with which the network sees so many latent frames at once."""
        return f"segment_frames {self.timeline.facts.pixel_frames(frames - self.lead_frame)} in Longreel Plan"

    def should_use_context(
        self,
        model: BaseModel,
        conds: CondLists,
        x_in: torch.Tensor,
        timestep: torch.Tensor,
        model_options: ModelOptions,
    ) -> bool:
        frames = self._build_window_state(x_in, conds, model).latents[0].shape[self.dim]
        check_latent_frames(frames, self.timeline)
        return len(self.timeline.segments) > 1 or self.strengths != [1.0]

    def execute(
        self,
        calc_cond_batch: CalcCondBatch,
        model: BaseModel,
        conds: CondLists,
        x_in: torch.Tensor,
        timestep: torch.Tensor,
        model_options: ModelOptions,
    ):
        with read_once(timestep, model_options["transformer_options"]) as level:
            self._count_evaluation(x_in, level)
            weights = self._weights(self.timeline.segments)
            on_device = sent(torch.cat(weights), x_in)
            self.weights = on_device.split([len(weight) for weight in weights])
            if self.evaluation == 0:
                self.pictures.look(model, entries_of(conds), self.timeline)
            return super().execute(calc_cond_batch, model, conds, x_in, timestep, model_options)

    def _count_evaluation(self, x_in: torch.Tensor, level: float) -> None:
        """Count an evaluation; guiders that ask for cond and uncond one after the other show the same latent twice in
        one.

        What tells latents apart stays on the device, and is read only where the noise level is the same as before.
        """
        wide = torch.float32 if x_in.device.type == "mps" else torch.float64  # Apple's devices have no 64 bits
        seen = torch.stack([x_in.sum(dtype=wide), x_in.flatten()[0].to(wide)])
        level_before, seen_before = self._seen
        if level != level_before or not torch.equal(seen, seen_before):
            self.evaluation += 1
        self._seen = level, seen

    def set_step(self, timestep: torch.Tensor, model_options: ModelOptions) -> None:
        """Note which of the sampler's steps this is, as core does, with numbers that are on the host already."""
        options = model_options["transformer_options"]
        sigmas, on_host = self._sigmas
        if sigmas is not options["sample_sigmas"]:
            sigmas, on_host = self._sigmas = options["sample_sigmas"], options["sample_sigmas"].cpu()
        level = torch.tensor([level_of(timestep, options)], dtype=timestep.dtype)
        super().set_step(level, {"transformer_options": {"sample_sigmas": on_host}})

    def _weights(self, segments: tuple[Segment, ...]) -> list[torch.Tensor]:
        """Return [length] per segment; the segments of each take are blended among themselves."""
        weights = []
        for take, group in itertools.groupby(segments, key=lambda s: s.take):
            group = list(group)
            weights += self.weights_of_take(
                [s.start_frame for s in group], [s.latent_frames for s in group], self.seed + take
            )
        return weights

    def weights_of_take(self, starts: list[int], lengths: list[int], seed: int) -> list[torch.Tensor]:
        return segment_weights(self.blend, starts, lengths, seed, self.evaluation)

    def progress_of(self, number: int, segment: Segment) -> str:
        """Return the progress text while the network sees this segment."""
        return (
            f"shot {segment.main_shot + 1}/{len(self.timeline.shots)}, "
            f"segment {number + 1}/{len(self.timeline.segments)}, evaluation {self.evaluation + 1}"
        )

    def window_start(self, number: int) -> int:
        """Return the first latent frame that the network sees with this segment.

        A lead frame counts as the one before the segment, whichever it is; the video's first segment has none.
        """
        start = self.timeline.segments[number].start_frame
        return start - 1 if self.lead_frame and start else start

    def get_context_windows(self, model: BaseModel, x_in: torch.Tensor, model_options: ModelOptions):
        total = self.timeline.latent_frames
        leads = [self.pictures.lead_of(s, self.timeline.take_start(s)) for s in self.timeline.segments]
        return [
            SegmentWindow(number, s, total, lead, SoundWindow.of_segment(self.timeline, s, self.lead_frame))
            for number, (s, lead) in enumerate(zip(self.timeline.segments, leads, strict=True))
        ]

    def _build_window_state(self, x_in: torch.Tensor, conds: CondLists, model: BaseModel):
        state = super()._build_window_state(x_in, conds, model)
        return state if self.sound is None else StreamsInWindows(**vars(state))

    def evaluate_context_windows(
        self,
        calc_cond_batch: CalcCondBatch,
        model: BaseModel,
        x_in: torch.Tensor,
        conds: CondLists,
        timestep: torch.Tensor,
        enumerated_context_windows: Sequence[tuple[int, "SegmentWindow"]],
        model_options: ModelOptions,
        window_state: context_windows.WindowingState,
        total_windows: int | None = None,
        device: torch.device | None = None,
        first_device: torch.device | None = None,
    ):
        ((number, window),) = enumerated_context_windows  # core asks for one at a time
        self.progress.show(self.progress_of(number, window.segment))
        if number == 0:
            self.handed_out = self._hand_out(calc_cond_batch, x_in, conds, timestep, model_options, window_state)
        if self.handed_out is not None:
            return self.handed_out.result(number)
        return self._evaluate(
            calc_cond_batch, model, x_in, conds, timestep, (number, window), model_options, window_state
        )

    def _hand_out(
        self,
        calc_cond_batch: CalcCondBatch,
        x_in: torch.Tensor,
        conds: CondLists,
        timestep: torch.Tensor,
        model_options: ModelOptions,
        window_state: context_windows.WindowingState,
    ) -> SegmentsOnDevices | None:
        """Give the segments of this evaluation to several devices, where a MODEL has them and nothing forbids it."""
        if not self._looked_for_devices:
            self._looked_for_devices = True
            frames = [segment.latent_frames + self.lead_frame for segment in self.timeline.segments]
            in_order = self.in_order or ("another node's context windows" if self.inside else "")
            self.devices = devices.of_run(frames, model_options, conds, in_order)
        if self.devices is None:
            return None
        windows = self.get_context_windows(self._model, x_in, model_options)

        def evaluate(number: int, model: BaseModel, options: ModelOptions, calc_cond_batch: CalcCondBatch):
            place = (number, windows[number])
            return self._evaluate(calc_cond_batch, model, x_in, conds, timestep, place, options, window_state)

        return self.devices.hand_out(model_options, timestep, calc_cond_batch, evaluate)

    def _evaluate(
        self,
        calc_cond_batch: CalcCondBatch,
        model: BaseModel,
        x_in: torch.Tensor,
        conds: CondLists,
        timestep: torch.Tensor,
        place: tuple[int, "SegmentWindow"],
        model_options: ModelOptions,
        window_state: context_windows.WindowingState,
    ):
        """Evaluate one segment, in every role that features want, and scale its guidance."""
        number, _ = place
        results, options = [], model_options["transformer_options"]
        for role in patching.roles_of(model_options, number):
            options[keys.SEGMENT_AND_ROLE] = (number, role)
            cached = skips_forwards(options)
            with self.caches.of((number, role), options, model.model_sampling) if cached else nullcontext():
                results += super().evaluate_context_windows(
                    self._inner(calc_cond_batch),
                    model,
                    x_in,
                    conds,
                    timestep,
                    [place],
                    model_options,
                    window_state,
                    len(self.timeline.segments),
                )
        for result in results:
            for of_stream in zip(*result.sub_conds_out, strict=True):
                scale_guidance(conds, list(of_stream), result.window.segment.mix, self.timeline)
        return results

    def _inner(self, calc_cond_batch: CalcCondBatch):
        """Return the network, or the context handler that was on the model before."""
        if self.inside is None:
            return calc_cond_batch

        def evaluate(
            model: BaseModel, conds: CondLists, x: torch.Tensor, timestep: torch.Tensor, model_options: ModelOptions
        ):
            if self.inside.should_use_context(model, conds, x, timestep, model_options):
                return self.inside.execute(calc_cond_batch, model, conds, x, timestep, model_options)
            return calc_cond_batch(model, conds, x, timestep, model_options)

        return evaluate

    def get_resized_cond(
        self,
        cond_in: list[Entry] | None,
        x_in: torch.Tensor,
        window: "SegmentWindow",
        device: torch.device | None = None,
    ):
        if cond_in is None:
            return None
        entries = conditioning.entries_for(cond_in, window.segment.mix)
        return [cut for entry in entries if (cut := self._cut(entry, x_in, window, device)) is not None]

    def _cut(
        self, entry: Entry, x_in: torch.Tensor, window: "SegmentWindow", device: torch.device | None
    ) -> Entry | None:
        """Return the part of an entry that belongs to a segment's frames; None where its area is elsewhere."""
        lead = getattr(window, "causal_anchor_index", None)
        frames = [*(() if lead is None else (lead,)), *window.index_list]
        area = time_axis.cut_area(entry, frames, x_in.shape[FRAME_AXIS])
        if area is None:
            return None
        whole = time_axis.timeless(self._model, entry, x_in, window)
        moving = time_axis.moving(self._model, entry, x_in, window, frames)
        (cut,) = super().get_resized_cond([time_axis.without(entry, whole, moving)], x_in, window, device)
        shown = {key: value for key, value in moving["model_conds"].items() if value is not None}
        cut = {**cut, **whole, **area, "model_conds": {**cut["model_conds"], **whole["model_conds"], **shown}}
        return self.pictures.told(cut, frames[0])

    def combine_context_window_results(
        self,
        x_in: torch.Tensor,
        sub_conds_out: list[torch.Tensor],
        sub_conds: CondLists,
        window: "SegmentWindow | SoundWindow",
        window_idx: int,
        total_windows: int,
        timestep: torch.Tensor,
        conds_final: list[torch.Tensor],
        counts_final: list[torch.Tensor],
        biases_final: list,
    ):
        if isinstance(window, SoundWindow):
            weight = window.weights(self.weights[window_idx])[None, None, :, None]  # [1, 1, T, 1]
            frames, lead = slice(window.first, window.last), window.lead
        else:
            weight = self.weights[window_idx][None, None, :, None, None]  # [1, 1, F, 1, 1]
            frames, lead = slice(window.segment.start_frame, window.segment.end_frame), 0  # core has dropped it
        for total, count, out in zip(conds_final, counts_final, sub_conds_out, strict=True):
            total[:, :, frames] += out[:, :, lead:] * weight
            count[:, :, frames] += weight


def attach(model: ModelPatcher, timeline: Timeline, blend: str, seed: int = 0, lead_frame: bool = True):
    """Return a clone of `model` that samples `timeline` jointly.

    Raises ValueError for a timeline that was planned for another family, and as `attach_handler` does.
    """
    check_plan(model, timeline)
    return attach_handler(model, TimelineHandler(timeline, blend, seed, lead_frame))


def attach_handler(model: ModelPatcher, handler: TimelineHandler):
    """Return a clone of `model` whose every run begins with a new `handler` like this one.

    Raises ValueError for a model that carries Longreel Latent Blend already.
    """
    check_lead(handler.timeline, handler.lead_frame)
    previous = model.model_options.get("context_handler")
    if isinstance(previous, TimelineHandler):
        raise ValueError("this model already carries a Longreel Latent Blend; wire the model from before that node")
    model = clone(model)
    handler.inside = previous
    model.model_options["context_handler"] = handler
    context_windows.create_prepare_sampling_wrapper(model)  # memory is asked for one segment, not for the video
    model.remove_wrappers_with_key(extension.WrappersMP.PREPARE_SAMPLING, keys.LATENT_BLEND)
    if handler.sound is not None:
        model.add_wrapper_with_key(extension.WrappersMP.PREPARE_SAMPLING, keys.LATENT_BLEND, ask_for_window)
    if patching.features_of(model.model_options):
        reserve.reserve_memory(model)
    model.remove_wrappers_with_key(extension.WrappersMP.OUTER_SAMPLE, keys.LATENT_BLEND)
    model.add_wrapper_with_key(extension.WrappersMP.OUTER_SAMPLE, keys.LATENT_BLEND, _start_run)
    return model


def _start_run(
    executor: Executor,
    noise: torch.Tensor,
    latent_image: torch.Tensor,
    sampler: Sampler,
    sigmas: torch.Tensor,
    denoise_mask: torch.Tensor | None = None,
    *args,
    **kwargs,
):
    """Wrap OUTER_SAMPLE: each run gets a fresh handler, and each shot its own noise where it has a seed."""
    guider = executor.class_obj
    shapes: Shapes | None = kwargs.get("latent_shapes")
    check_text(
        guider.model_patcher,
        {name: [entry.get("cross_attn") for entry in entries] for name, entries in guider.conds.items()},
    )
    entries = [entry for entries in guider.conds.values() for entry in entries]
    check_loras(guider.model_patcher, entries)
    check_sound(guider.model_patcher, entries)
    handler = guider.model_options.get("context_handler")
    check_place(handler)
    check_shapes(shapes, handler.timeline)
    if leads_with_reference(guider.model_patcher.model):
        check_no_reference([entry for entries in guider.conds.values() for entry in entries], noise.shape[FRAME_AXIS])
    cache = other_cache(guider.model_options.get("transformer_options", {}))
    if cache and len(handler.timeline.segments) > 1:
        raise ValueError(
            f"{cache} on this model remembers one step for all {len(handler.timeline.segments)} segments of the "
            f"timeline; use LazyCache, or remove that node"
        )
    goes_on, handler = handler.goes_on, handler.for_new_run()
    guider.model_options["context_handler"] = handler
    if not patching.features_of(guider.model_options):  # theirs is reckoned where they start
        reserve.RunMemory.of_run(guider, shapes[VIDEO] if shapes else noise.shape, ()).check()
    handler.pictures = LeadPictures.of_run(guider, latent_image, denoise_mask, goes_on)
    if not goes_on:
        noise = on_packed(noise, shapes, lambda streams: noise_of_streams(streams, handler.timeline))
    return executor(noise, latent_image, sampler, sigmas, denoise_mask, *args, **kwargs)


def check_place(handler: ContextHandler | None) -> None:
    """Raise ValueError where a context handler that is not a timeline's stands in its place."""
    if not isinstance(handler, TimelineHandler):
        raise ValueError(
            f"another node behind Longreel Latent Blend has put its own windows in their place "
            f"({type(handler).__name__}); put the context windows node in front of Longreel Latent Blend, where it "
            f"works inside each segment"
        )
