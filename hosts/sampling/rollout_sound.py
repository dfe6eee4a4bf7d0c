"""Hand the sound of an audio-video family over in a rollout, as its frames are handed over.

A chunk's window of sound begins at the pixel frame that the network takes the window's first latent frame for: the last
of its 8, and so the network hears what it sees. Finished sound in front of the chunk's first new frame is known, and
kept by core's noise mask. The first chunk behind a cut is led by a frame of its own, drawn and dropped with its sound,
because the network would else take the take's first 8 pixel frames for one. What a chunk's frames are is
rollout_task.py, how seconds become sound frames engine/plan/sound.py.
"""

from dataclasses import dataclass

import torch

import comfy.sample
from comfy.nested_tensor import NestedTensor

from ...engine.plan.rollout_chunks import Chunk
from ...engine.plan.sound import SoundPlan

TIME_AXIS = 2  # [B, C, T, frequencies]
LEAD = 1  # latent frames in front of a chunk that knows none
LEADING_SEED = 2**32  # from a chunk's seed to that of the noise in front, far from the seeds of other chunks

Inputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]  # noise, latent and mask of a sampler


@dataclass(frozen=True)
class SoundSpan:
    """A chunk sees the sound frames [start, end) of the timeline, of which those from `first_new` on are new; `lead`
    frames of no timeline stand in front.
    """

    start: int
    first_new: int
    end: int
    lead: int

    @property
    def new_frames(self) -> int:
        return self.end - self.first_new


@dataclass(frozen=True, eq=False)
class RolloutSound:
    """This is the sound of a rollout: its plan, and of the user's latent the sound [B, C, T, frequencies] and mask."""

    plan: SoundPlan
    start: torch.Tensor
    mask: torch.Tensor | None

    def leads(self, chunk: Chunk) -> int:
        """Return how many latent frames are drawn in front of a chunk, and dropped."""
        return LEAD if chunk.start_frame and not chunk.known_frames else 0

    def span(self, chunk: Chunk) -> SoundSpan:
        """Return the sound frames of a chunk."""
        plan, facts = self.plan, self.plan.video
        first_new, end = plan.between(chunk.first_new_frame, chunk.end_frame)
        if self.leads(chunk):
            return SoundSpan(first_new, first_new, end, plan.lead(chunk.start_frame))
        seen_from = plan.frames(facts.first_pixel_frame(chunk.start_frame + 1) - 1)
        return SoundSpan(min(seen_from, first_new), first_new, end, 0)

    def beside(
        self, inputs: Inputs, chunk: Chunk, finished: torch.Tensor, seed: int, add_noise: bool, batch_index: list | None
    ) -> tuple[NestedTensor, NestedTensor, NestedTensor | None]:
        """Return a chunk's (noise, latent, mask) with its sound beside the video's, [B, C, F, H, W] each.

        finished: [B, C, T, frequencies] of the timeline. The noise is drawn behind the video's, as core draws it.
        """
        noise, latent, mask = inputs
        span = self.span(chunk)
        sound = self.start[:, :, span.start : span.end].clone()
        of_video = latent[:, :, self.leads(chunk) :]
        drawn = comfy.sample.prepare_noise(NestedTensor([of_video, sound]), seed, batch_index).unbind()[1]
        own = torch.ones_like(sound) if self.mask is None else self.mask[:, :, span.start : span.end].clone()
        known = span.first_new - span.start
        sound[:, :, :known] = finished[:, :, span.start : span.first_new]
        own[:, :, :known] = 0
        if not add_noise:
            drawn[:, :, known:] = 0
        if span.lead:
            empty = sound.new_zeros((*sound.shape[:TIME_AXIS], span.lead, sound.shape[-1]))
            front = comfy.sample.prepare_noise(empty, (seed + LEADING_SEED) % 2**64, batch_index)
            sound, own = torch.cat([empty, sound], TIME_AXIS), torch.cat([torch.ones_like(empty), own], TIME_AXIS)
            drawn = torch.cat([front if add_noise else torch.zeros_like(front), drawn], TIME_AXIS)
        pair = NestedTensor([noise, drawn]), NestedTensor([latent, sound])
        if mask is None and self.mask is None and not known:
            return *pair, None
        return *pair, NestedTensor([torch.ones_like(latent) if mask is None else mask, own])

    def new_of(self, out: torch.Tensor, chunk: Chunk) -> torch.Tensor:
        """Return the new sound of what a chunk's sampler has left, [B, C, T, frequencies]."""
        span = self.span(chunk)
        return out[:, :, span.lead + span.first_new - span.start :]
