"""Sampling a timeline in rollout: one chunk after another, each continuing from finished latents, on any family.

    plan chunks (engine/plan/rollout_chunks.py) -> for each: hand over the known frames -> sample -> keep the new ones -> save

Known frames are handed over in latent space, by core's denoise mask, so every core sampler and guider works, and
families that give each frame its own noise level do so here too. All that outlives a chunk is latents
(hosts/windows/chunk_handler.py): what a run folder keeps is enough to go on from, to the bit. Source: StreamingT2V
(arXiv 2403.14773), section 4; there the last frames reach the network through CAM, and pixels are handed over.

How features read finished frames is hosts/windows/chunk_handler.py, where files lie engine/runs/folder.py.
"""

import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch

import comfy.model_management
import comfy.model_sampling
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview

from ...engine.plan.rollout_chunks import Chunk, plan_chunks
from ...engine.plan.timeline import Timeline
from ...engine.runs.chunk_file import chunk_key
from ...engine.runs.folder import RunFolder
from .. import keys
from ..anchor import frame as anchor_frame
from ..attention import patching
from ..features import kv_share, prompt_edit
from ..prompts.chunk_conditioning import for_chunk
from ..windows import latent_blend
from ..windows.checks import check_latent_frames
from ..windows.chunk_handler import ChunkHandler, Remembered
from ..windows.progress import ProgressText
from . import identity
from .joint import check_mask

FRAME_AXIS = 2  # [B, C, F, H, W]
WAN_22_EXPERTS_MEET = 0.875  # noise level; Wan 2.2 T2V's own
NOT_IN_ROLLOUT = {
    kv_share.NAME: "it works between segments that are sampled together; use mode joint, or Longreel Long Memory instead",
    prompt_edit.NAME: "it samples an original beside the whole video; use mode joint",
}
PLACES = (keys.SHOT, keys.ROLE, keys.WORDS)  # say where an entry belongs, not what it is


@runtime_checkable
class HandsOver(Protocol):
    """A feature that says how firmly the known frames are kept."""

    def known_frames(self, timeline: Timeline) -> int:
        """Latent frames that each chunk takes over at least."""

    def keep_strength(self, chunks_back: int) -> float:
        """Return the keep strength, 0..1, of frames made so many chunks ago: 1 keeps them, 0 has them drawn anew."""


@runtime_checkable
class Remembers(Protocol):
    """A feature that reads finished frames. What it reads decides what a finished chunk depends on."""

    def frames_before(self, timeline: Timeline) -> int:
        """Return how many latent frames before the window it reads."""

    def reads_anchor(self) -> bool:
        """Whether it reads the first chunk of the take or of the video."""


@runtime_checkable
class Finishes(Protocol):
    """A feature that works on the new frames of a chunk before they are handed over."""

    def finish(self, new: torch.Tensor, remembered: Remembered) -> torch.Tensor:
        """[B, C, F, H, W] -> the same shape."""


@dataclass(frozen=True)
class Experts:
    """The models of one schedule: `low` (None: there is one) takes the steps that begin below noise level `meet`."""

    high: Any
    low: Any
    meet: float

    def parts(self, sigmas: torch.Tensor) -> list[tuple[Any, torch.Tensor]]:
        """(model, its sigmas); neighbours share the level at which they meet."""
        if self.low is None:
            return [(self.high, sigmas)]
        first_low = int((sigmas[:-1] >= self.meet).sum())
        parts = [(self.high, sigmas[: first_low + 1]), (self.low, sigmas[first_low:])]
        return [(model, part) for model, part in parts if len(part) > 1]


@dataclass(frozen=True)
class Task:
    """All that every chunk has in common."""

    timeline: Timeline
    chunks: tuple[Chunk, ...]
    positive: list
    negative: list
    start: torch.Tensor  # [B, C, F, H, W], the user's latent
    mask: torch.Tensor | None  # like start: 1 is drawn, 0 kept
    batch_index: list[int] | None
    sampler: Any
    sigmas: torch.Tensor
    cfg: float
    seed: int
    add_noise: bool
    experts: Experts
    features: tuple[Any, ...]
    cache: dict = field(default_factory=dict)  # see hosts/windows/chunk_handler.ChunkHandler

    @cached_property
    def makers(self) -> tuple[Chunk, ...]:
        """For each latent frame the chunk in which it is new."""
        return tuple(chunk for chunk in self.chunks for _ in range(chunk.new_frames))

    def seed_of(self, chunk: Chunk) -> int:
        """A shot's own seed counts on over its pieces, the sampler's over all chunks, so a chunk's noise is the same
        however long the video becomes."""
        own = self.timeline.shots[chunk.shot].shot.seed
        return (self.seed + chunk.number if own is None else own + chunk.piece) % 2**64


def sample_rollout(
    model,
    timeline: Timeline,
    positive: list,
    negative: list,
    latent: dict,
    sampler,
    sigmas: torch.Tensor,
    cfg: float,
    seed: int,
    add_noise: bool = True,
    low_noise_model=None,
    low_noise_from: float = WAN_22_EXPERTS_MEET,
    run: RunFolder | None = None,
) -> tuple[dict, str]:
    """-> (LATENT of the whole timeline, what was made and what was used again).

    latent: as long as the timeline, empty or to work on; its noise_mask is honoured. Without add_noise the new frames'
    latent is taken as noisy already. low_noise_model: samples the noise levels below `low_noise_from` (0..1, flow
    models) of every chunk. run: an open folder in which finished chunks are looked for and kept; the caller opens and
    finishes it.

    Raises ValueError for what cannot be made this way, before anything is sampled.
    """
    experts = Experts(*(_prepared(m) for m in (model, low_noise_model)), low_noise_from)
    features = patching.features_of(model.model_options)
    start = comfy.sample.fix_empty_latent_channels(model, latent["samples"], latent.get("downscale_ratio_spacial"))
    check_latent_frames(start.shape[FRAME_AXIS], timeline)
    hands_over = next((feature for feature in features if isinstance(feature, HandsOver)), None)
    known = timeline.overlap_frames if hands_over is None else hands_over.known_frames(timeline)
    mask = latent.get("noise_mask")
    check_mask(mask, start.shape[FRAME_AXIS])
    anchor_frame.check_video(model, start.shape)
    task = Task(
        timeline,
        plan_chunks(timeline, known),
        positive,
        negative,
        start,
        None if mask is None else comfy.utils.reshape_mask(mask, start.shape),
        latent.get("batch_index"),
        sampler,
        sigmas,
        cfg,
        seed,
        add_noise,
        experts,
        features,
    )
    _check(task)
    if run is not None:
        _begin(task, run)
    finished, report = _finish_all(task, run)
    rest = {key: value for key, value in latent.items() if not key.startswith("downscale_ratio")}
    return {**rest, "samples": finished}, report


def _prepared(model):
    """A clone whose context handler is set chunk by chunk."""
    if model is None:
        return None
    if isinstance(model.model_options.get("context_handler"), latent_blend.TimelineHandler):
        raise ValueError(
            "this model carries 1 Longreel Latent Blend, which samples all segments together, and rollout "
            "takes 0; wire the model from before that node, or use mode joint"
        )
    for feature in patching.features_of(model.model_options):
        if feature.name in NOT_IN_ROLLOUT:
            raise ValueError(
                f"{feature.name} cannot work in rollout, where 1 chunk is sampled at a time: "
                f"{NOT_IN_ROLLOUT[feature.name]}"
            )
    return model.clone()


def _check(task: Task) -> None:
    end = float(task.sigmas[-1]) if len(task.sigmas) else 0.0
    if end and len(task.chunks) > 1:
        raise ValueError(
            f"the sigmas end at {end:.4g}, and chunks that continue from each other must end at 0; wire all "
            f"sigmas, and the second expert of Wan 2.2 14B to low_noise_model"
        )
    low = task.experts.low
    if low is not None and not isinstance(low.get_model_object("model_sampling"), comfy.model_sampling.CONST):
        raise ValueError(
            f"{type(low.model).__name__} is no flow model, and 2 experts share a schedule only there (Wan 2.2 "
            f"14B); wire 1 model"
        )
    if low is not None:
        anchor_frame.check_experts(task.experts.high, low)
    for chunk in task.chunks:
        for entries in (task.positive, task.negative):
            for_chunk(entries, chunk, task.timeline, _shots_shown(task, chunk))


def _begin(task: Task, run: RunFolder) -> None:
    """What a run folder is told before anything is sampled."""
    board = task.timeline.storyboard
    plan = {"segment_frames": task.timeline.segment_frames, "chunks": [asdict(chunk) for chunk in task.chunks]}
    run.begin(board.to_json(), json.dumps(plan, indent=1), [board.prompt_of(shot) for shot in board.shots])
    most = max(chunk.new_frames for chunk in task.chunks)
    missing = max(0, len(task.chunks) - len(list(run.path.glob("chunk_*.safetensors"))))
    run.require_space(missing, task.start[:, :, :most].numel() * torch.float32.itemsize)


def _finish_all(task: Task, run: RunFolder | None) -> tuple[torch.Tensor, str]:
    finished = torch.zeros_like(task.start, dtype=torch.float32)
    hashes: dict[int, str] = {}
    common = _common_dependencies(task) if run is not None else {}
    progress = _Progress(task)
    for chunk in task.chunks:
        comfy.model_management.throw_exception_if_processing_interrupted()
        new = finished[:, :, chunk.new_start : chunk.end]
        if run is None:
            new.copy_(_make(task, chunk, finished, progress))
            continue
        key = chunk_key(chunk.number, chunk.shot, chunk.piece, _dependencies(task, chunk, hashes, common))
        locked = task.timeline.shots[chunk.shot].shot.locked
        saved = run.find(key, locked, {"samples": list(new.shape)})
        if saved is None:
            saved = run.save(key, {"samples": _make(task, chunk, finished, progress).contiguous()})
        else:
            progress.skip(chunk)
        hashes[chunk.number] = saved.hash
        new.copy_(saved.tensors["samples"])
    return finished, run.report() if run is not None else f"{len(task.chunks)} chunks made"


def _common_dependencies(task: Task) -> dict[str, object]:
    """Of every chunk, by names that people read."""
    low = task.experts.low
    return {
        "cfg": task.cfg,
        "the sampler": [identity.plain(task.sampler), task.sigmas],
        "the memory": [[feature.name, identity.plain(feature)] for feature in task.features],
        "the model": identity.of_model(task.experts.high),
        "the low-noise model": None if low is None else [identity.of_model(low), task.experts.meet],
    }


def _dependencies(task: Task, chunk: Chunk, hashes: dict[int, str], common: dict[str, object]) -> dict[str, object]:
    """The likeliest change first, because reports name it first."""
    window = slice(chunk.start, chunk.end)
    own = frozenset(shot for shot, _ in chunk.mix)

    def said(entries: list, of: frozenset[int]) -> list:
        return [
            [text, identity.plain({key: value for key, value in options.items() if key not in PLACES})]
            for text, options in for_chunk(entries, chunk, task.timeline, of)
        ]

    shots = [task.timeline.shots[shot].shot for shot, _ in chunk.mix]
    return {
        "the prompt": said(task.positive, own),
        "the negative prompt": said(task.negative, own),
        "the seed": [task.seed_of(chunk), task.add_noise, task.batch_index],
        "the strength": [[shot.strength, share] for shot, (_, share) in zip(shots, chunk.mix)],
        "the frames": [chunk.frames, chunk.known],
        "the latent": [task.start[:, :, window], None if task.mask is None else task.mask[:, :, window]],
        "the anchors": identity.plain([one.stored() for one in _anchors(task, chunk)]),
        **common,
        "the remembered prompts": [
            said(entries, _shots_shown(task, chunk) - own) for entries in (task.positive, task.negative)
        ],
        "the chunk before": [hashes[number] for number in _read_chunks(task, chunk)],
    }


def _read_chunks(task: Task, chunk: Chunk) -> list[int]:
    """Numbers of the finished chunks that this one continues from or remembers."""
    remembering = [feature for feature in task.features if isinstance(feature, Remembers)]
    before = max((feature.frames_before(task.timeline) for feature in remembering), default=0)
    first = max(task.timeline.take_starts[chunk.take], chunk.start - before)
    read = {c.number for c in task.chunks if c.end > first and c.new_start < chunk.new_start and c.take == chunk.take}
    if any(feature.reads_anchor() for feature in remembering):
        read |= {number for number in (0, _first_of(task, chunk.take).number) if number < chunk.number}
    return sorted(read)


def _shots_shown(task: Task, chunk: Chunk) -> frozenset[int]:
    """The chunk's own shots, and those under whose prompts remembered frames are shown once more."""
    shown = _read_chunks(task, chunk) if any(isinstance(feature, Remembers) for feature in task.features) else []
    seen = (chunk, *(task.chunks[number] for number in shown))
    return frozenset(shot for one in seen for shot, _ in one.mix)


def _make(task: Task, chunk: Chunk, finished: torch.Tensor, progress: "_Progress") -> torch.Tensor:
    """[B, C, new frames, H, W]"""
    remembered = _remembered(task, chunk, finished)
    noise, latent, mask = _inputs(task, chunk, finished)
    out = None
    for model, sigmas in task.experts.parts(task.sigmas):
        if out is not None:
            noise = _noise_within(out, latent, noise, mask, float(sigmas[0]), model)
        out = _sample(task, chunk, model, sigmas, noise, latent, mask, remembered, progress)
    if out is None:  # no sigmas: core gives the latent back
        out = latent
    new = out[:, :, chunk.known :].to(finished)
    for feature in task.features:
        if isinstance(feature, Finishes):
            new = feature.finish(new, remembered)
    return anchor_frame.paste(_anchors(task, chunk), new, chunk.known)


def _anchors(task: Task, chunk: Chunk) -> list[anchor_frame.AnchorFrame]:
    return anchor_frame.frames_in_window(task.experts.high, chunk.start, chunk.known, chunk.frames)


def _remembered(task: Task, chunk: Chunk, finished: torch.Tensor) -> Remembered:
    take_start = task.timeline.take_starts[chunk.take]

    def anchor_of(first: Chunk | None) -> torch.Tensor | None:
        return None if first is None else finished[:, :, first.new_start : first.end]

    take_first, video_first = (
        first if first.number < chunk.number else None for first in (_first_of(task, chunk.take), task.chunks[0])
    )
    return Remembered(
        finished=finished[:, :, take_start : chunk.new_start],
        made_by=task.makers[take_start : chunk.new_start],
        take_start=take_start,
        take_anchor=anchor_of(take_first),
        video_anchor=anchor_of(video_first),
        take_first=take_first,
        video_first=video_first,
    )


def _first_of(task: Task, take: int) -> Chunk:
    return next(chunk for chunk in task.chunks if chunk.take == take)


def _inputs(task: Task, chunk: Chunk, finished: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """(noise, latent, mask) of the window, [B, C, F, H, W]."""
    window = slice(chunk.start, chunk.end)
    latent = task.start[:, :, window].clone()
    noise = comfy.sample.prepare_noise(latent, task.seed_of(chunk), task.batch_index)
    if not task.add_noise:
        noise[:, :, chunk.known :] = 0
    anchors = _anchors(task, chunk)
    if task.mask is None and not chunk.known:
        return noise, *anchor_frame.write(anchors, latent, None, task.experts.high)
    mask = torch.ones_like(latent) if task.mask is None else task.mask[:, :, window].clone()
    if not latent.count_nonzero():  # core leaves an empty latent at the network's zero; so does the empty part here
        latent = task.experts.high.model.process_latent_out(latent)
    for frame in range(chunk.known):
        latent[:, :, frame] = finished[:, :, chunk.start + frame]
        mask[:, :, frame] = 1 - _keep_strength(task, chunk, chunk.start + frame)
    return noise, *anchor_frame.write(anchors, latent, mask, task.experts.high)


def _keep_strength(task: Task, chunk: Chunk, frame: int) -> float:
    hands_over = next((feature for feature in task.features if isinstance(feature, HandsOver)), None)
    if hands_over is None:
        return 1.0
    return hands_over.keep_strength(chunk.number - task.makers[frame].number)


def _noise_within(
    out: torch.Tensor, latent: torch.Tensor, noise: torch.Tensor, mask: torch.Tensor | None, sigma: float, model
) -> torch.Tensor:
    """The noise with which `latent` is what the first expert left at `sigma`, so that the second goes on from there
    while the mask still finds the clean latent beside it."""
    inner = model.model
    clean = inner.process_latent_in(latent) if latent.count_nonzero() else latent
    left = (1 - sigma) * inner.process_latent_in(out.to(latent)) - (1 - sigma) * clean
    within = left / (sigma * getattr(inner.model_sampling, "noise_scale", 1.0))
    return within if mask is None else torch.where(mask > 0, within, noise)


def _sample(
    task: Task,
    chunk: Chunk,
    model,
    sigmas: torch.Tensor,
    noise: torch.Tensor,
    latent: torch.Tensor,
    mask: torch.Tensor | None,
    remembered: Remembered,
    progress: "_Progress",
) -> torch.Tensor:
    inside = model.model_options.get("context_handler")
    model.model_options["context_handler"] = ChunkHandler(task.timeline, chunk, remembered, inside, task.cache)
    try:
        guider = comfy.samplers.CFGGuider(model)
        shots = _shots_shown(task, chunk)
        guider.set_conds(
            *(for_chunk(entries, chunk, task.timeline, shots) for entries in (task.positive, task.negative))
        )
        guider.set_cfg(task.cfg)
        return guider.sample(
            noise,
            latent,
            task.sampler,
            sigmas,
            denoise_mask=mask,
            callback=progress.callback(chunk),
            disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            seed=task.seed_of(chunk),
        )
    finally:
        if inside is None:
            del model.model_options["context_handler"]
        else:
            model.model_options["context_handler"] = inside


class _Progress:
    """One bar over all chunks; the preview shows the middle of the chunk's new frames."""

    def __init__(self, task: Task):
        self.task, self.text = task, ProgressText()
        self.steps = max(1, len(task.sigmas) - 1)
        self.done = 0  # steps of the chunk's first expert
        self.core = latent_preview.prepare_callback(task.experts.high, self.steps * len(task.chunks))

    def callback(self, chunk: Chunk):
        before, of_chunk = chunk.number * self.steps, self._steps_before(chunk)
        middle = chunk.known + chunk.new_frames // 2

        def callback(step: int, x0: torch.Tensor, x: torch.Tensor, total_steps: int) -> None:
            at = of_chunk + step
            self.text.show(f"{self._where(chunk)}, step {at + 1}/{self.steps}")
            self.core(before + at, x0[:, :, middle : middle + 1], x, self.steps * len(self.task.chunks))
            self.done = at + 1

        return callback

    def _steps_before(self, chunk: Chunk) -> int:
        """Steps of this chunk that another expert has made."""
        return self.done % self.steps

    def skip(self, chunk: Chunk) -> None:
        self.text.show(f"{self._where(chunk)}, found on disk")

    def _where(self, chunk: Chunk) -> str:
        return (
            f"shot {chunk.shot + 1}/{len(self.task.timeline.shots)}, chunk {chunk.number + 1}/{len(self.task.chunks)}"
        )
