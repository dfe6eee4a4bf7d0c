"""A latent's streams: the video, and beside it the sound of a family that makes both (engine/plan/sound.py).

A LATENT holds two streams as core's NestedTensor, and a sampler works on one row of all their numbers, with their
shapes beside it. A window shows the network the sound that belongs to its latent frames. Core's own context windows map
sound by its share of the video's length, and lead the video with a frame but not the sound, which then comes a frame
late; here both begin at the same pixel frame.
"""

from collections.abc import Callable, Sequence

import torch

import comfy.context_windows as context_windows
import comfy.utils
from comfy.nested_tensor import NestedTensor

from ...engine.plan.sound import SoundPlan, sound_of
from ...engine.plan.timeline import Segment, Timeline
from ..families import core_shape
from ..types import Entry, Executor, ModelOptions, ModelPatcher

TIME_AXIS = 2  # of sound [B, C, T, frequencies], and of video
VIDEO, SOUND = 0, 1  # core's numbers of the streams

Latent = torch.Tensor | NestedTensor
Shapes = Sequence[Sequence[int]]


def on_each(latent: Latent, change: Callable[[torch.Tensor], torch.Tensor]) -> Latent:
    """Return a latent with every stream changed."""
    return NestedTensor([change(stream) for stream in latent.unbind()]) if latent.is_nested else change(latent)


def first_of(latent: Latent | None) -> torch.Tensor | None:
    """Return the video of a latent, and None for None."""
    return latent.unbind()[VIDEO] if latent is not None and latent.is_nested else latent


def with_first(latent: Latent, video: torch.Tensor) -> Latent:
    """Return a latent with another video."""
    return NestedTensor([video, *latent.unbind()[1:]]) if latent.is_nested else video


def on_packed(
    packed: torch.Tensor, shapes: Shapes | None, change: Callable[[list[torch.Tensor]], list[torch.Tensor]]
) -> torch.Tensor:
    """Return what a sampler works on, with its streams changed; shapes: of them, None for a video alone."""
    if shapes is None or len(shapes) == 1:
        (packed,) = change([packed])
        return packed
    return comfy.utils.pack_latents(change(comfy.utils.unpack_latents(packed, shapes)))[0]


def check_shapes(shapes: Shapes | None, timeline: Timeline) -> None:
    """Raise ValueError for a family that makes sound, unless a latent has sound beside it for all of a timeline."""
    plan = sound_of(timeline)
    if plan is None:
        return
    if shapes is None or len(shapes) < 2:
        raise ValueError(
            f"the latent holds 1 stream and {timeline.facts.family} samples 2, video and sound; wire the latent output "
            f"of Longreel Plan, or join both with core's LTXVConcatAVLatent"
        )
    found, wanted = shapes[SOUND][TIME_AXIS], plan.shape(timeline.latent_frames)[TIME_AXIS]
    if found != wanted:
        raise ValueError(
            f"the sound in the latent has {found} frames and the timeline {wanted} "
            f"({plan.sound.frames_per_second} a second); wire the latent output of the same Longreel Plan"
        )


def check_lead(timeline: Timeline, lead_frame: bool) -> None:
    """Raise ValueError where no frame leads the segments of a family that makes sound."""
    if timeline.facts.sound is not None and not lead_frame:
        raise ValueError(
            f"lead_frame is off, so a network takes the first of {timeline.facts.temporal_stride} pixel frames of a "
            f"segment for all of them, and {timeline.facts.family}'s sound would lie beside its pictures; leave "
            f"lead_frame on"
        )


def ask_for_window(
    executor: Executor,
    model: ModelPatcher,
    noise_shape: Sequence[int],
    conds: dict[str, list[Entry]],
    *,
    model_options: ModelOptions,
    **options,
):
    """Wrap PREPARE_SAMPLING: of packed streams core asks memory for the whole video; a segment's is enough."""
    handler = model_options.get("context_handler")
    timeline: Timeline | None = getattr(handler, "timeline", None)
    if timeline is not None:
        facts, frames = timeline.facts, min(timeline.latent_frames, handler.context_length)
        size = (timeline.height // facts.spatial_stride, timeline.width // facts.spatial_stride)
        noise_shape = core_shape(model.model, (noise_shape[0], facts.latent_channels, frames, *size))
    return executor(model, noise_shape, conds, model_options=model_options, **options)


class SoundWindow(context_windows.IndexListContextWindow):
    """A window has the sound of one segment, led by that of the pixel frame in front, which is dropped again.

    lead: sound frames in front. cut: the segment begins a take, so its own first sound frame leads it.
    """

    def __init__(self, plan: SoundPlan, segment: Segment, total_frames: int, lead: int, cut: bool):
        self.first, self.last = plan.between(segment.start_frame, segment.end_frame)
        super().__init__(list(range(self.first, self.last)), dim=TIME_AXIS, total_frames=total_frames)
        self.plan, self.segment, self.lead, self.cut = plan, segment, lead, cut

    @classmethod
    def of_segment(cls, timeline: Timeline, segment: Segment, lead_frame: bool) -> "SoundWindow | None":
        """Return the window of a segment's sound, led where a frame leads the segment; None for a silent family."""
        plan = sound_of(timeline)
        if plan is None:
            return None
        lead = plan.lead(segment.start_frame) if lead_frame else 0
        cut = segment.start_frame == timeline.take_start(segment)
        return cls(plan, segment, plan.between(0, timeline.latent_frames)[1], lead, cut)

    def get_tensor(
        self,
        full: torch.Tensor,
        device: torch.device | None = None,
        dim: int | None = None,
        retain_index_list: Sequence[int] = (),
    ):
        """Return the window's part of sound [B, C, T, frequencies], the lead in front."""
        own = full.narrow(TIME_AXIS, self.first, self.last - self.first)
        if self.lead and self.cut:
            own = torch.cat([*[own.narrow(TIME_AXIS, 0, 1)] * self.lead, own], TIME_AXIS)
        elif self.lead:
            own = full.narrow(TIME_AXIS, self.first - self.lead, self.lead + self.last - self.first)
        return own.to(device)

    def weights(self, of_frames: torch.Tensor) -> torch.Tensor:
        """Return [T] weights of the window's sound frames: each has that of its latent frame in `of_frames` [F]."""
        counts = [
            last - first
            for frame in range(self.segment.start_frame, self.segment.end_frame)
            for first, last in (self.plan.between(frame, frame + 1),)
        ]
        places = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        return of_frames[places.to(of_frames.device)]


class StreamsInWindows(context_windows.WindowingState):
    """This is core's state of one evaluation, whose windows know their sound already."""

    def prepare_window(self, window: context_windows.IndexListContextWindow, model):
        """Return the window as it is."""
        return window
