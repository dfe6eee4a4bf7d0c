"""Gather what all chunks of one rollout have in common: models, plan, prompts, latent and features, checked before
anything is sampled. How a chunk is made of it is hosts/sampling/rollout.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

import comfy.utils
from comfy.nested_tensor import NestedTensor

from ...engine.plan.kept_frames import KeptFrames, keep_frames, moved_frame
from ...engine.plan.rollout_chunks import Chunk, plan_chunks
from ...engine.plan.sound import sound_of
from ...engine.plan.timeline import Timeline
from ..anchor import frame as anchor_frame
from ..attention import patching
from ..families import leads_with_reference, motion_frames, picture_channels_of, refuse_sound
from ..families.clone import clone
from ..memory.protocols import HandsOver, Remembers
from ..prompts.chunk_conditioning import continues_sound, for_chunk, leading_frames
from ..types import ModelPatcher
from ..windows import latent_blend, picture_channels
from ..windows.checks import check_latent_frames, check_plan
from ..windows.streams import Latent, check_shapes, first_of
from .experts import Experts
from .joint import check_inputs
from .rollout_sound import RolloutSound
from .settings import Sampling

FRAME_AXIS = 2  # [B, C, F, H, W]


@dataclass(frozen=True, kw_only=True)
class RolloutTask:
    """A task is all that every chunk has in common.

    timeline: as it is made; planned: as it was wired, where locked shots did not move others.
    start: [B, C, F, H, W], the user's latent. mask: like start, 1 is drawn and 0 kept; None draws everything. leading:
    latent frames of reference pictures that every chunk is sampled with, in front of its own. sound: of a family that
    makes it; start, mask and all that is finished are then the video's. cache: handed from chunk
    to chunk, see hosts/windows/chunk_handler.ChunkHandler.
    """

    timeline: Timeline
    planned: Timeline
    chunks: tuple[Chunk, ...]
    sampling: Sampling
    start: torch.Tensor
    mask: torch.Tensor | None
    batch_index: list[int] | None
    experts: Experts
    features: tuple[Any, ...]
    leading: int = 0
    sound: RolloutSound | None = None
    cache: dict = field(default_factory=dict)

    @cached_property
    def makers(self) -> tuple[Chunk, ...]:
        """Return for each latent frame the chunk in which it is new."""
        return tuple(chunk for chunk in self.chunks for _ in range(chunk.new_frames))

    def leading_of(self, chunk: Chunk) -> int:
        """Return how many latent frames are sampled in front of a chunk, and dropped."""
        return self.leading if self.sound is None else self.sound.leads(chunk)

    def new_of(self, out: Latent, chunk: Chunk) -> Latent:
        """Return the new frames, and their sound, of what a chunk's sampler has left."""
        behind = self.leading_of(chunk) + chunk.known_frames
        if self.sound is None:
            return out[:, :, behind:]
        video, sound = out.unbind()
        return NestedTensor([video[:, :, behind:], self.sound.new_of(sound, chunk)])

    def empty(self) -> Latent:
        """Return the finished latent of a timeline before anything is made, float32."""
        video = torch.zeros_like(self.start, dtype=torch.float32)  # [B, C, F, H, W]
        if self.sound is None:
            return video
        return NestedTensor([video, torch.zeros_like(self.sound.start, dtype=torch.float32)])

    def write(self, finished: Latent, new: Latent, chunk: Chunk) -> None:
        """Write a chunk's new frames, and their sound, into the finished latent."""
        first_of(finished)[:, :, chunk.first_new_frame : chunk.end_frame] = first_of(new)
        if self.sound is not None:
            span = self.sound.span(chunk)
            finished.unbind()[1][:, :, span.first_new : span.end] = new.unbind()[1]

    @cached_property
    def motion_frames(self) -> int:
        """Return how many finished latent frames in front of its window a chunk is told of beside its latent."""
        told = continues_sound([*self.sampling.positive, *self.sampling.negative])
        return motion_frames(self.experts.high.model) if told else 0

    @cached_property
    def reads_video(self) -> bool:
        """Tell whether a feature reads the first chunk of the video in every take."""
        return any(isinstance(feature, Remembers) and feature.reads_video() for feature in self.features)

    def seed_of(self, chunk: Chunk) -> int:
        """Return the seed of a chunk's noise, which is the same however long the video becomes.

        A shot's own seed counts on over its pieces, the sampler's over all chunks.
        """
        own = self.timeline.shots[chunk.shot].shot.seed
        return (self.sampling.seed + chunk.number if own is None else own + chunk.piece) % 2**64

    def first_of(self, take: int) -> Chunk:
        """Return the first chunk of a take."""
        return next(chunk for chunk in self.chunks if chunk.take == take)

    def keep_strength(self, chunk: Chunk, frame: int) -> float:
        """Return how firmly, 0..1, a chunk keeps the finished latent frame `frame` of the timeline."""
        hands_over = _hands_over(self.features)
        if hands_over is None:
            return 1.0
        return hands_over.keep_strength(chunk.number - self.makers[frame].number)

    def anchors_of(self, chunk: Chunk) -> list[anchor_frame.AnchorFrame]:
        """Return the anchors' frames in a chunk's window."""
        return anchor_frame.frames_in_window(
            self.experts.high, chunk.start_frame, chunk.known_frames, chunk.latent_frames, self._made_frame
        )

    def _made_frame(self, frame: int) -> int:
        """Return where a latent frame of the plan stands in the video that is made."""
        return frame if self.timeline is self.planned else moved_frame(frame, self.planned, self.timeline)

    def shows_known_frames(self, chunk: Chunk) -> bool:
        """Tell whether channels beside the latent show a chunk's known frames, its anchors or what a mask keeps."""
        known = chunk.known_frames or self.anchors_of(chunk) or self.mask is not None
        return bool(known) and picture_channels_of(self.experts.high.model) is not None

    def read_by(self, chunk: Chunk) -> list[int]:
        """Return the numbers of the finished chunks that a chunk continues from or remembers, rising."""
        remembering = [feature for feature in self.features if isinstance(feature, Remembers)]
        before = max((feature.frames_before(self.timeline) for feature in remembering), default=0)
        before = max(before, self.motion_frames)
        first = max(self.timeline.take_starts[chunk.take], chunk.start_frame - before)
        read = {
            c.number
            for c in self.chunks
            if c.end_frame > first and c.first_new_frame < chunk.first_new_frame and c.take == chunk.take
        }
        if any(feature.reads_anchor() for feature in remembering):
            read |= {number for number in (0, self.first_of(chunk.take).number) if number < chunk.number}
        return sorted(read)

    def shots_of(self, chunk: Chunk) -> frozenset[int]:
        """Return a chunk's own shots (from 0), and those under whose prompts remembered frames are shown once more."""
        remembers = any(isinstance(feature, Remembers) for feature in self.features)
        seen = (chunk, *(self.chunks[number] for number in (self.read_by(chunk) if remembers else ())))
        return frozenset(shot for one in seen for shot, _ in one.mix)

    def prompts_of(self, chunk: Chunk, shots: frozenset[int]) -> tuple[list, list]:
        """Return (positive, negative) CONDITIONING of these shots, cut to the chunk's window."""
        positive, negative = (
            for_chunk(entries, chunk, self.planned, shots, self.leading)
            for entries in (self.sampling.positive, self.sampling.negative)
        )
        return positive, negative


def plan_task(
    model: ModelPatcher,
    timeline: Timeline,
    latent: dict,
    sampling: Sampling,
    low_noise_model: ModelPatcher | None,
    low_noise_from: float,
    kept: Mapping[int, KeptFrames] | None = None,
) -> RolloutTask:
    """Return the checked task of a rollout; arguments and errors are those of hosts/sampling/rollout.sample_rollout.

    kept: what locked shots (from 0) have on disk; the plan gives way to it.
    """
    if low_noise_model is not None:
        refuse_sound(low_noise_model, "low_noise_model, the second of two experts,")
    experts = Experts(*(_prepared(m, timeline) for m in (model, low_noise_model)), low_noise_from)
    features = patching.features_of(model.model_options)
    start, sound = _apart(check_inputs(model, latent, sampling), latent.get("noise_mask"), timeline)
    check_latent_frames(start.shape[FRAME_AXIS], timeline)
    hands_over = _hands_over(features)
    known = timeline.overlap_frames if hands_over is None else hands_over.known_frames(timeline)
    mask = first_of(latent.get("noise_mask"))
    anchor_frame.check_video(model, start.shape)
    sampling = replace(
        sampling,
        positive=picture_channels.on_timeline(model.model, sampling.positive, timeline.latent_frames),
        negative=picture_channels.on_timeline(model.model, sampling.negative, timeline.latent_frames),
    )
    made, frames = keep_frames(timeline, kept or {})
    if sound is not None and made is not timeline:
        refuse_sound(model, "a locked shot whose frames move others")
    start = _of_length(start, mask, made.latent_frames)
    task = RolloutTask(
        timeline=made,
        planned=timeline,
        chunks=plan_chunks(made, known, frames, kept),
        sampling=sampling,
        start=start,
        mask=None if mask is None else comfy.utils.reshape_mask(mask, start.shape),
        batch_index=latent.get("batch_index"),
        experts=experts,
        features=features,
        leading=_leading(model, timeline, sampling),
        sound=sound,
    )
    _check(task)
    return task


def _apart(start: Latent, mask: Latent | None, timeline: Timeline) -> tuple[torch.Tensor, RolloutSound | None]:
    """Return the user's video [B, C, F, H, W], and its sound where the family makes it.

    Raises ValueError for sound of another length.
    """
    plan = sound_of(timeline)
    if plan is None:
        return start, None
    video, sound = start.unbind()
    check_shapes((video.shape, sound.shape), timeline)
    masks = mask.unbind() if mask is not None and mask.is_nested else []
    own = comfy.utils.reshape_mask(masks[1], sound.shape) if len(masks) > 1 else None
    return video, RolloutSound(plan, sound, own)


def _of_length(start: torch.Tensor, mask: torch.Tensor | None, frames: int) -> torch.Tensor:
    """Return the user's latent [B, C, F, H, W] with so many frames, where locked shots change the video's length."""
    if start.shape[FRAME_AXIS] == frames:
        return start
    if mask is not None or start.count_nonzero():
        raise ValueError(
            f"locked shots keep their frames, so the video has {frames} latent frames where the plan has "
            f"{start.shape[FRAME_AXIS]}, and the latent that is wired cannot follow; wire the empty latent of Longreel "
            f"Plan, or unlock a shot"
        )
    return start.new_zeros((*start.shape[:FRAME_AXIS], frames, *start.shape[FRAME_AXIS + 1 :]))


def _leading(model: ModelPatcher, timeline: Timeline, sampling: Sampling) -> int:
    """Return how many latent frames of references are sampled in front of every chunk."""
    if not leads_with_reference(model.model):
        return 0
    return leading_frames([*sampling.positive, *sampling.negative], timeline.latent_frames)


def _hands_over(features: Sequence[Any]) -> HandsOver | None:
    return next((feature for feature in features if isinstance(feature, HandsOver)), None)


def _prepared(model: ModelPatcher, timeline: Timeline):
    """Return a clone whose context handler is set chunk by chunk; None stays None."""
    if model is None:
        return None
    check_plan(model, timeline)
    if isinstance(model.model_options.get("context_handler"), latent_blend.TimelineHandler):
        raise ValueError(
            "this model carries a Longreel Latent Blend, which samples all segments together, and rollout makes them "
            "one after another; wire the model from before that node, or use mode joint"
        )
    for feature in patching.features_of(model.model_options):
        if reason := getattr(feature, "not_in_rollout", None):
            raise ValueError(f"{feature.name} cannot work in rollout, where one chunk is sampled at a time: {reason}")
    return clone(model)


def _check(task: RolloutTask) -> None:
    sigmas = task.sampling.sigmas
    end = float(sigmas[-1]) if len(sigmas) else 0.0
    if end and len(task.chunks) > 1:
        raise ValueError(
            f"the sigmas end at {end:.4g}, and chunks that continue from each other must end at 0; wire all "
            f"sigmas, and the second expert of Wan 2.2 14B to low_noise_model"
        )
    task.experts.check()
    if task.leading:
        beside = [feature.name for feature in task.features]
        beside += ["Longreel Anchor Frame"] if any(task.anchors_of(chunk) for chunk in task.chunks) else []
        if beside:
            raise ValueError(
                f"the conditioning has a reference picture in a latent frame in front of the video, where {beside[0]} "
                f"looks for the chunk's first frame; take one of them off"
            )
    for chunk in task.chunks:
        task.prompts_of(chunk, task.shots_of(chunk))
    model = task.experts.high.model
    if picture_channels_of(model) is not None:
        firsts = [task.first_of(take) for take in range(len(task.timeline.take_starts))]
        begun = [chunk.start_frame for chunk in firsts if _begins_with_picture(task, chunk)]
        picture_channels.report_missing(model, task.timeline, begun)


def _begins_with_picture(task: RolloutTask, chunk: Chunk) -> bool:
    """Tell whether the first frame of a take's first chunk is known before it is made."""
    window = slice(chunk.start_frame, chunk.end_frame)
    mask = None if task.mask is None else task.mask[:, :, window]
    kept = picture_channels.kept_frames(task.start[:, :, window], mask)
    anchors = (one.frame for one in task.anchors_of(chunk) if one.strength >= picture_channels.KNOWN)
    shown = [options for prompts in task.prompts_of(chunk, task.shots_of(chunk)) for _, options, *_ in prompts]
    return 0 in {*picture_channels.known_in(shown), *anchors, *(one.frame for one in kept)}
