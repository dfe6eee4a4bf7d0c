"""Refine a stream on any family: a finished latent of any length is noised part of the way and denoised in overlapping
chunks, by the model that made it or by another one.

Source: StreamingT2V (arXiv 2403.14773, section 4.3), whose two public enhancers join the chunks in two ways. X0 joins
the predicted clean video before the solver moves it, so solver history and fresh noise belong to the whole video: a
context handler does that behind any sampler (hosts/windows/refine_chunks.py). STEP moves each chunk by a solver step of
its own and joins what comes out (hosts/sampling/refine_steps.py). In both every overlap is cut at a new random frame
each time, and the noise is drawn once for the whole video. Upscaling is not known here: the latent leaves in the size
that it came in.
"""

from dataclasses import replace

import torch

from ...engine.plan.facts import ModelFacts
from ...engine.plan.timeline import PlannedShot, Segment, Timeline, with_segments
from ...engine.sampling import refine as engine
from ...engine.storyboard.board import Shot, Storyboard
from .. import keys
from ..families import facts_of, refuse_sound
from ..types import ModelPatcher
from ..windows import latent_blend
from ..windows.checks import check_latent, check_plan
from ..windows.refine_chunks import RefinedChunks
from .joint import sample_attached, walking_callback
from .refine_steps import SteppedChunks, StepSampler
from .settings import Sampling

X0, STEP = "x0", "step"
BLENDS = (X0, STEP)


def refine(
    model: ModelPatcher,
    latent: dict,
    sampling: Sampling,
    *,
    strength: float,
    chunk_latent_frames: int | None = None,
    overlap_latent_frames: int | None = None,
    blend: str = X0,
    cut_range: str = engine.PAPER,
    lead_frame: bool = True,
    timeline: Timeline | None = None,
) -> dict:
    """Refine a finished video and return a LATENT of the same size. A noise_mask in `latent` is honoured: 0 keeps.

    sampling: its sigmas are the whole schedule, and noise is added whatever it says. strength: 0..1, the part of the
    schedule that is run, counted from its end; 0 gives `latent` back, 1 runs the sigmas as they are.
    chunk_latent_frames: None for the family's native clip, or the timeline's segments where there is one.
    overlap_latent_frames: None for a third of a chunk. blend: one of BLENDS. cut_range: one of
    engine/sampling/refine.CUT_RANGES. timeline: gives every shot its own prompt; no chunk crosses its cuts.

    Raises ValueError for what cannot be refined so.
    """
    if blend not in BLENDS:
        raise ValueError(f"unknown blend {blend!r}; use one of {', '.join(BLENDS)}")
    refuse_sound(model, "Longreel Refine")
    facts = facts_of(model)
    if timeline is not None:
        check_plan(model, timeline)
        timeline = latent.get(keys.TIMELINE, timeline)
    _check(facts, latent["samples"], sampling, timeline)
    sigmas, sampler = engine.last_part(sampling.sigmas, strength), sampling.sampler
    chunks = chunks_of(facts, latent["samples"].shape[2], chunk_latent_frames, overlap_latent_frames, timeline)
    handler = RefinedChunks
    if blend == STEP:
        handler, sampler = SteppedChunks, StepSampler(sampler)
    model = latent_blend.attach_handler(model, handler(chunks, cut_range, sampling.seed, lead_frame))
    if len(sigmas) == 0:
        return latent
    count = len(chunks.segments)
    stops = [
        (f"chunk {number}/{count}", (s.start_frame + s.end_frame) // 2)
        for number, s in enumerate(chunks.segments, start=1)
    ]
    callback = walking_callback(model, stops, len(sigmas) - 1)
    of_part = replace(sampling, sampler=sampler, sigmas=sigmas, add_noise=True)
    return sample_attached(model, chunks, latent, of_part, callback=callback)


def chunks_of(
    facts: ModelFacts,
    frames: int,
    chunk: int | None = None,
    overlap: int | None = None,
    timeline: Timeline | None = None,
) -> Timeline:
    """Return a timeline whose segments are the chunks of a video of so many latent frames: one take, or the shots of
    `timeline`.
    """
    if chunk is None:
        chunk = facts.native_latent_frames if timeline is None else timeline.segment_frames
    overlap = engine.default_overlap(chunk) if overlap is None else overlap
    if timeline is not None:
        return with_segments(timeline, chunk, overlap)
    starts = engine.cover(frames, chunk, overlap)
    length = min(chunk, frames)
    whole = Shot("the whole video", 1.0)  # what it shows is the conditioning's matter, how long it is the frames'
    return Timeline(
        Storyboard((whole,)),
        facts,
        facts.native_fps,
        0,
        0,
        length,
        overlap,
        0,
        (PlannedShot(0, whole, 0, frames, 0),),
        tuple(Segment(s, length, ((0, 1.0),), 0) for s in starts),
    )


def _check(facts: ModelFacts, samples: torch.Tensor, sampling: Sampling, timeline: Timeline | None) -> None:
    check_latent(samples, facts)
    if timeline is not None and samples.shape[2] != timeline.latent_frames:
        raise ValueError(
            f"the latent has {samples.shape[2]} frames and the timeline {timeline.latent_frames}; wire "
            f"the timeline that the video was made with, planned for this model"
        )
    entries = [values for _, values in (*sampling.positive, *sampling.negative)]
    shots = {values[keys.SHOT] for values in entries if keys.SHOT in values}
    if timeline is None and len(shots) > 1:
        raise ValueError(
            f"the conditioning has prompts of {len(shots)} shots, and no timeline says where they are; "
            f"wire the timeline of the same Longreel Plan"
        )
    guides = sum("keyframe_idxs" in values for values in entries)
    if guides:
        raise ValueError(
            f"{guides} of {len(entries)} conditioning entries carry LTXV guide frames, which cannot be cut into "
            f"chunks; remove them with LTXV Crop Guides"
        )
