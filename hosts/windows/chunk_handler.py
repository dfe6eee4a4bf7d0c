"""Show the network one chunk of a rollout, by a context handler for each chunk.

It picks, and between shots mixes, the prompts of the chunk, applies the shot's strength, lets a context handler that
was there before work inside, and carries to the features (hosts/attention/patching.py) what the chunk is and what is
remembered of the video: latents alone, so that a chunk that is made again from files on disk is the same to the bit.

A feature that needs keys and values of finished frames asks for a context pass (hosts/windows/context_pass.py), which
is made before the network sees the chunk.
"""

from contextlib import nullcontext
from dataclasses import dataclass

import torch

import comfy.context_windows as context_windows

from ...engine.plan.rollout_chunks import Chunk, Mix
from ...engine.plan.timeline import Timeline
from .. import keys
from ..attention.feature import WHOLE, Start
from ..attention.noise_level import read_once
from ..families import motion_frames
from ..prompts import conditioning
from ..prompts.guidance import scale_guidance
from ..types import BaseModel, CalcCondBatch, CondLists, ContextHandler, ContextWindow, Entry, ModelOptions
from .context_pass import CONTEXT_PASS, FRAME_AXIS, ContextPass, NeedsContextPasses, entry_of_pass, noised
from .picture_channels import of_context_pass


@dataclass(frozen=True, kw_only=True)
class Remembered:
    """These are finished latents [B, C, F, H, W], as a LATENT holds them.

    finished: the chunk's take, from its first frame, the latent frame `take_start`, up to the chunk's first new one; F
    may be 0. made_by: for each of these frames the chunk that made it. take_anchor, video_anchor: what the first chunk
    of the take, and of the video, added; take_first, video_first: those chunks; None while that chunk is being made.
    """

    finished: torch.Tensor
    made_by: tuple[Chunk, ...]
    take_start: int
    take_anchor: torch.Tensor | None
    video_anchor: torch.Tensor | None
    take_first: Chunk | None = None
    video_first: Chunk | None = None

    def before(self, frame: int, most: int) -> torch.Tensor:
        """Return up to `most` finished frames, [B, C, F, H, W], that end where the latent frame `frame` begins."""
        end = frame - self.take_start
        return self.finished[:, :, max(0, end - most) : end]

    def maker_of(self, frame: int) -> Chunk:
        """Return the chunk that made this finished latent frame of the take."""
        return self.made_by[frame - self.take_start]


class ChunkHandler(context_windows.ContextHandlerABC):
    """This is the context handler of one chunk.

    inside: the context handler that was on the model before, or None. cache: handed from chunk to chunk; what context
    passes over frames that stay the same have left behind. A feature that finds nothing there makes its passes again,
    with the same result. fresh_noise: whether the sampler begins with noise alone in the new frames. context_pass: the
    pass under way, or None while the network sees the chunk. longest_window: the latent frames of the longest chunk.
    """

    def __init__(
        self,
        timeline: Timeline,
        chunk: Chunk,
        remembered: Remembered,
        inside: ContextHandler | None = None,
        cache: dict | None = None,
        fresh_noise: bool = True,
        longest_window: int = 0,
    ):
        self.timeline, self.chunk, self.remembered, self.inside = timeline, chunk, remembered, inside
        self.cache = {} if cache is None else cache
        self.context_pass: ContextPass | None = None
        # What core's wrappers of its Context Windows nodes ask of the handler on a model, whichever it is.
        self.dim = getattr(inside, "dim", FRAME_AXIS)
        self.context_length = getattr(inside, "context_length", timeline.latent_frames)
        self.longest_window = longest_window
        self.freenoise = fresh_noise and getattr(inside, "freenoise", False)

    def _apply_freenoise(self, noise: torch.Tensor, conds: CondLists, seed: int) -> torch.Tensor:
        """Shuffle a chunk's noise [B, C, F, H, W] for the windows inside, as core's wrapper asks."""
        return self.inside._apply_freenoise(noise, conds, seed)

    @property
    def window_frames(self) -> int:
        """Return how many latent frames the network is shown at once, at most."""
        return min(max(self.longest_window, self.chunk.latent_frames), self.context_length)

    def shorter_windows(self, frames: int) -> str:
        """Return the setting with which the network sees so many latent frames at once."""
        return f"segment_frames {self.timeline.facts.pixel_frames(frames)} in Longreel Plan"

    def should_use_context(
        self,
        model: BaseModel,
        conds: CondLists,
        x_in: torch.Tensor,
        timestep: torch.Tensor,
        model_options: ModelOptions,
    ) -> bool:
        return True

    def get_resized_cond(
        self, cond_in: list[Entry] | None, x_in: torch.Tensor, window: ContextWindow, device: torch.device | None = None
    ) -> list:
        return conditioning.entries_for(cond_in, self.chunk.mix)

    def execute(
        self,
        calc_cond_batch: CalcCondBatch,
        model: BaseModel,
        conds: CondLists,
        x_in: torch.Tensor,
        timestep: torch.Tensor,
        model_options: ModelOptions,
    ):
        told = model_options.get("transformer_options", {})
        running = told.get(keys.RUNNING)
        with read_once(timestep, told) if running else nullcontext(0.0) as level:
            for run in running.runs if running else ():
                for context in run.context_passes(level) if isinstance(run, NeedsContextPasses) else ():
                    self._make_context_pass(context, calc_cond_batch, model, conds, x_in, model_options)
            of_chunk = _conds_for(conds, self.chunk.mix)
            options = _seen_as(model_options, self.chunk.number, WHOLE)
            if self.inside is not None and self.inside.should_use_context(model, of_chunk, x_in, timestep, options):
                out = self.inside.execute(calc_cond_batch, model, of_chunk, x_in, timestep, options)
            else:
                out = calc_cond_batch(model, of_chunk, x_in, timestep, options)
        scale_guidance(conds, out, self.chunk.mix, self.timeline)
        return out

    def _motion_before(self, frame: int | None, most: int) -> torch.Tensor | None:
        """Return up to `most` finished frames of the take, [B, C, F, H, W], in front of a frame of the timeline."""
        if not most or frame is None or frame <= self.remembered.take_start:
            return None
        return self.remembered.before(frame, most)

    def _make_context_pass(
        self,
        context: ContextPass,
        calc_cond_batch: CalcCondBatch,
        model: BaseModel,
        conds: CondLists,
        x_in: torch.Tensor,
        model_options: ModelOptions,
    ) -> None:
        x, motion = noised(model, context, x_in), self._motion_before(context.first_frame, motion_frames(model))

        def told(entry: Entry) -> Entry:
            return entry_of_pass(model, entry, x, context.first_frame, motion)

        of_pass = [
            cond if cond is None else [of_context_pass(told(entry), model, x, context.latents) for entry in cond]
            for cond in _conds_for(conds, context.mix)
        ]
        sigma = x.new_full([x.shape[0]], context.sigma)
        options = _seen_as(model_options, self.chunk.number, CONTEXT_PASS)
        rounded = float(torch.tensor(context.sigma, dtype=x.dtype))
        options["transformer_options"][keys.NOISE_LEVEL] = sigma, rounded
        self.context_pass = context
        try:
            calc_cond_batch(model, of_pass, x, sigma, options)
        finally:
            self.context_pass = None


def handler_of(start: Start, name: str) -> ChunkHandler:
    """Return the handler that a feature of node `name` finds where it starts.

    Raises ValueError where the sampler does not work chunk by chunk.
    """
    if not isinstance(start.handler, ChunkHandler):
        raise ValueError(
            f"{name} remembers finished chunks, and this sampler makes none; use Longreel Sampler with mode rollout"
        )
    return start.handler


def _conds_for(conds: list[list[dict] | None], mix: Mix) -> list[list[dict] | None]:
    return [cond if cond is None else conditioning.entries_for(cond, mix) for cond in conds]


def _seen_as(model_options: dict, chunk: int, role: str) -> dict:
    options = {**model_options.get("transformer_options", {}), keys.SEGMENT_AND_ROLE: (chunk, role)}
    return {**model_options, "transformer_options": options}
