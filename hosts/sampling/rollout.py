"""Sample a timeline in rollout: one chunk after another, each continuing from finished latents, on any family.

    plan the chunks (engine/plan/rollout_chunks.py)
    for each: find it in the run folder, or hand over the known frames -> sample -> finish -> save

Known frames are handed over in latent space, by core's denoise mask, so every core sampler and guider works, and
families that give each frame its own noise level do so here too. All that outlives a chunk is latents
(hosts/windows/chunk_handler.py): what a run folder keeps is enough to go on from, to the bit. Source: StreamingT2V
(arXiv 2403.14773), section 4; there the last frames reach the network through CAM, and pixels are handed over.

What the chunks have in common is rollout_task.py, what a finished one depends on rollout_dependencies.py. How features
read finished frames is hosts/windows/chunk_handler.py, where files lie engine/runs/folder.py. One take of a rollout,
for a ComfyUI that asks for it, is rollout_take.py.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.utils

from ...engine.plan.rollout_chunks import Chunk
from ...engine.plan.timeline import Timeline
from ...engine.runs.folder import RunFolder
from .. import keys
from ..anchor import frame as anchor_frame
from ..families import refuse_sound
from ..memory.protocols import Finishes
from ..prompts.chunk_conditioning import with_motion
from ..types import ModelPatcher
from ..windows import picture_channels
from ..windows.chunk_handler import ChunkHandler, Remembered
from ..windows.finite import check_finite
from ..windows.streams import SOUND, Latent, first_of, on_each, with_first
from ..windows.used_state import as_it_was
from .experts import WAN_22_EXPERTS_MEET, ask, noise_within
from .rollout_dependencies import ChunkRun, NoRun
from .rollout_locks import locked_frames, run_shots
from .rollout_progress import RolloutProgress
from .rollout_sound import LEADING_SEED
from .rollout_task import RolloutTask, plan_task
from .settings import Sampling

Elsewhere = Callable[[RolloutTask, ChunkRun], Mapping[int, torch.Tensor]]


def sample_rollout(
    model: ModelPatcher,
    timeline: Timeline,
    latent: dict,
    sampling: Sampling,
    *,
    low_noise_model: ModelPatcher | None = None,
    low_noise_from: float = WAN_22_EXPERTS_MEET,
    run: RunFolder | None = None,
    node_id: str = "",
    elsewhere: Elsewhere | None = None,
) -> tuple[dict, str]:
    """Return (LATENT of the whole timeline, what was made and what was used again).

    latent: as long as the timeline, empty or to work on; its noise_mask is honoured. Without add_noise the new frames'
    latent is taken as noisy already. low_noise_model: samples the noise levels below `low_noise_from` (0..1, flow
    models) of every chunk. run: an open folder in which finished chunks are looked for and kept; the caller opens and
    finishes it. node_id: of the sampler in its graph; each one's video is kept apart in the folder. elsewhere: makes
    the chunks that the folder has not, in other processes; needs `run`.

    Where locked shots that keep their frames move the others, the LATENT carries the timeline as it was made
    (hosts/keys.TIMELINE).

    Raises ValueError for what cannot be made this way, and for locks that cannot be kept, before anything is sampled.
    """
    locked = {} if run is None else run.locked_shots(run_shots(timeline), node_id)
    task = plan_task(model, timeline, latent, sampling, low_noise_model, low_noise_from, locked_frames(locked))
    if elsewhere is not None:
        refuse_sound(model, "Longreel Cluster")
    kept = NoRun(task) if run is None else ChunkRun(task, run, locked, node_id)
    progress = RolloutProgress(task)
    finished = task.empty()
    sampled = False
    made = {} if elsewhere is None or not isinstance(kept, ChunkRun) else elsewhere(task, kept)
    for chunk in task.chunks:
        comfy.model_management.throw_exception_if_processing_interrupted()
        new = made[chunk.number] if chunk.number in made else kept.find(chunk)
        if new is None:
            new = kept.save(chunk, make_chunk(task, chunk, finished, progress, first=not sampled))
            sampled = True
        else:
            progress.skip(chunk)
        task.write(finished, new, chunk)
    rest = {key: value for key, value in latent.items() if not key.startswith("downscale_ratio")}
    if task.timeline is not timeline:
        rest[keys.TIMELINE] = task.timeline
    return {**rest, "samples": finished}, kept.report()


def make_chunk(task: RolloutTask, chunk: Chunk, finished: Latent, progress: RolloutProgress, first: bool) -> Latent:
    """Return the new frames [B, C, new frames, H, W] of a chunk, with their sound where the family makes it.

    finished: [B, C, F, H, W] of the timeline; only what the chunk reads need be there. first: nothing has been sampled
    yet. Raises ValueError for numbers that are none.
    """
    video = first_of(finished)
    remembered = _remembered(task, chunk, video)
    new = on_each(_sample(task, chunk, finished, remembered, progress, first=first), lambda stream: stream.to(video))
    new = with_first(new, _finish(task, chunk, first_of(new), remembered))
    check_finite(new, f"chunk {chunk.number + 1} of shot {chunk.shot + 1}")  # nothing of it is kept
    return new


def _remembered(task: RolloutTask, chunk: Chunk, finished: torch.Tensor) -> Remembered:
    """Return what features may read of the finished frames [B, C, F, H, W]."""
    take_start = task.timeline.take_starts[chunk.take]

    def anchor_of(first: Chunk | None) -> torch.Tensor | None:
        return None if first is None else finished[:, :, first.first_new_frame : first.end_frame]

    take_first, video_first = (
        first if first.number < chunk.number else None for first in (task.first_of(chunk.take), task.chunks[0])
    )
    return Remembered(
        finished=finished[:, :, take_start : chunk.first_new_frame],
        made_by=task.makers[take_start : chunk.first_new_frame],
        take_start=take_start,
        take_anchor=anchor_of(take_first),
        video_anchor=anchor_of(video_first),
        take_first=take_first,
        video_first=video_first,
    )


def _sample(
    task: RolloutTask, chunk: Chunk, finished: Latent, remembered: Remembered, progress: RolloutProgress, first: bool
) -> Latent:
    """Return the new frames of a chunk, [B, C, new frames, H, W], by each expert in turn.

    first: nothing has been sampled yet, and a later expert that would refuse the run does so now.
    """
    noise, latent, mask = _led(task, chunk, *_inputs(task, chunk, first_of(finished)))
    if task.sound is not None:
        settings = (task.seed_of(chunk), task.sampling.add_noise, task.batch_index)
        noise, latent, mask = task.sound.beside((noise, latent, mask), chunk, finished.unbind()[SOUND], *settings)
    out, parts = None, task.experts.parts(task.sampling.sigmas)
    for model, sigmas in parts[1:] if first else ():
        with _handled(task, chunk, model, remembered):
            ask(model, _told(task, chunk, remembered), task.sampling, sigmas, (noise, latent, mask))
    for model, sigmas in parts:
        if out is not None:
            noise = noise_within(out, latent, noise, mask, float(sigmas[0]), model)
        out = _sample_part(task, chunk, model, sigmas, (noise, latent, mask), remembered, progress)
    if out is None:  # no sigmas: core gives the latent back
        out = latent
    return task.new_of(out, chunk)


def _finish(task: RolloutTask, chunk: Chunk, new: torch.Tensor, remembered: Remembered) -> torch.Tensor:
    """Return the new frames [B, C, F, H, W] as features leave them; anchors and what a mask keeps stay as they are."""
    sampled = new
    for feature in task.features:
        if isinstance(feature, Finishes):
            new = feature.finish(new, remembered)
    if task.mask is not None and new is not sampled:
        drawn = task.mask[:, :, chunk.first_new_frame : chunk.end_frame].to(new)
        new = torch.where(drawn > 0, torch.lerp(sampled, new, drawn), sampled)
    return anchor_frame.paste(task.anchors_of(chunk), new, chunk.known_frames)


def _inputs(
    task: RolloutTask, chunk: Chunk, finished: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Return (noise, latent, mask) of the window, [B, C, F, H, W] each, with the known frames handed over."""
    window, model = slice(chunk.start_frame, chunk.end_frame), task.experts.high
    latent = task.start[:, :, window].clone()
    noise = comfy.sample.prepare_noise(latent, task.seed_of(chunk), task.batch_index)
    if not task.sampling.add_noise:
        noise[:, :, chunk.known_frames :] = 0
    anchors = task.anchors_of(chunk)
    if task.mask is None and not chunk.known_frames:
        return noise, *anchor_frame.write(anchors, latent, None, model)
    mask = torch.ones_like(latent) if task.mask is None else task.mask[:, :, window].clone()
    if not latent.count_nonzero():  # core leaves an empty latent at the network's zero; so does the empty part here
        latent = model.model.process_latent_out(latent)
    for frame in range(chunk.known_frames):
        latent[:, :, frame] = finished[:, :, chunk.start_frame + frame]
        mask[:, :, frame] = 1 - task.keep_strength(chunk, chunk.start_frame + frame)
    return noise, *anchor_frame.write(anchors, latent, mask, model)


def _led(
    task: RolloutTask, chunk: Chunk, noise: torch.Tensor, latent: torch.Tensor, mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Return (noise, latent, mask) with the frames in front that references take; they are drawn like all others."""
    leading = task.leading_of(chunk)
    if not leading:
        return noise, latent, mask
    empty = latent.new_zeros((*latent.shape[:2], leading, *latent.shape[3:]))
    if latent.count_nonzero():  # core leaves an empty latent at the network's zero
        empty = task.experts.high.model.process_latent_out(empty)
    drawn = comfy.sample.prepare_noise(empty, (task.seed_of(chunk) + LEADING_SEED) % 2**64, task.batch_index)
    if not task.sampling.add_noise:
        drawn = torch.zeros_like(drawn)
    ones = None if mask is None else torch.cat([torch.ones_like(empty), mask], 2)
    return torch.cat([drawn.to(noise), noise], 2), torch.cat([empty, latent], 2), ones


def _told(task: RolloutTask, chunk: Chunk, remembered: Remembered) -> tuple[list, list]:
    """Return a chunk's (positive, negative) CONDITIONING, with the finished frames that its network asks for there."""
    positive, negative = task.prompts_of(chunk, task.shots_of(chunk))
    before = remembered.before(chunk.start_frame, task.motion_frames)
    motion = before if before.shape[2] else None
    return with_motion(positive, motion), with_motion(negative, motion)


def _sample_part(
    task: RolloutTask,
    chunk: Chunk,
    model: ModelPatcher,
    sigmas: torch.Tensor,
    inputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None],
    remembered: Remembered,
    progress: RolloutProgress,
) -> torch.Tensor:
    """Return the window [B, C, F, H, W] as one expert leaves it; inputs: (noise, latent, mask)."""
    noise, latent, mask = inputs
    fresh = float(sigmas[0]) == float(task.sampling.sigmas[0])  # a later expert is given what the first one left
    with _handled(task, chunk, model, remembered, fresh and task.sampling.add_noise):
        guider = comfy.samplers.CFGGuider(model)
        told = _told(task, chunk, remembered)
        guider.set_conds(
            *(picture_channels.of_window(model.model, entries, first_of(latent), first_of(mask)) for entries in told)
        )
        guider.set_cfg(task.sampling.cfg)
        with as_it_was(model):
            return guider.sample(
                on_each(noise, torch.Tensor.clone),  # core's FreeNoise shuffles it where it lies
                latent,
                task.sampling.sampler,
                sigmas.clone(),  # some of core's samplers (uni_pc) write into them
                denoise_mask=mask,
                callback=progress.callback(chunk),
                disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
                seed=task.seed_of(chunk),
            )


@contextmanager
def _handled(
    task: RolloutTask, chunk: Chunk, model: ModelPatcher, remembered: Remembered, fresh_noise: bool = False
) -> Iterator[None]:
    """Give a model the context handler of a chunk, and the one that it had back."""
    inside = model.model_options.get("context_handler")
    model.model_options["context_handler"] = ChunkHandler(
        task.timeline,
        chunk,
        remembered,
        inside,
        task.cache,
        fresh_noise=fresh_noise,
        longest_window=max(one.latent_frames for one in task.chunks),
    )
    try:
        yield
    finally:
        if inside is None:
            del model.model_options["context_handler"]
        else:
            model.model_options["context_handler"] = inside
