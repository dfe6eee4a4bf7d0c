"""What the network sees of one chunk of a rollout: a context handler, one per chunk.

It picks, and between shots mixes, the prompts that the chunk hears, applies the shot's strength, lets a context handler
that was there before work inside, and carries to the features (hosts/attention/patching.py) what the chunk is and what is
remembered of the video: latents alone, so that a chunk that is made again from files on disk is the same to the bit.

A feature that needs keys and values of finished frames asks for a `Look`: the network is shown those frames once, noised
to some level, before it sees the chunk. Which frames and levels are worth it is the features' matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

import comfy.context_windows as context_windows
import comfy.model_sampling

from ...engine.plan.rollout_chunks import Chunk, Mix
from ...engine.plan.timeline import Timeline
from ...engine.sampling import alpha_space
from ..anchor.run import HOLD
from ..attention import patching
from ..prompts import conditioning

LOOK = "look"  # the role of an evaluation that shows finished frames
FRAME_AXIS = 2  # [B, C, F, H, W]


@dataclass(frozen=True)
class Remembered:
    """Finished latents [B, C, F, H, W], as a LATENT holds them.

    `finished`: the chunk's take, from its first frame, the latent frame `take_start`, up to the chunk's first new one;
    F may be 0; `made_by` has for each of them the chunk that made it. `take_anchor` and `video_anchor`: what the first
    chunk of the take, and of the video, added, and `take_first` and `video_first` those chunks; None while that is being
    made.
    """

    finished: torch.Tensor
    made_by: tuple[Chunk, ...]
    take_start: int
    take_anchor: torch.Tensor | None
    video_anchor: torch.Tensor | None
    take_first: Chunk | None = None
    video_first: Chunk | None = None

    def before(self, frame: int, most: int) -> torch.Tensor:
        """Up to `most` finished frames that end where the latent frame `frame` begins."""
        end = frame - self.take_start
        return self.finished[:, :, max(0, end - most) : end]

    def maker_of(self, frame: int) -> Chunk:
        """The chunk that made this finished latent frame of the take."""
        return self.made_by[frame - self.take_start]


@dataclass(frozen=True, eq=False)
class Look:
    """`latents` [B, C, F, H, W], as a LATENT holds them, to be shown at noise level `sigma` with the noise of `seed`, while
    the network hears the prompts `mix`."""

    latents: torch.Tensor
    sigma: float
    mix: Mix
    seed: int = 0


@runtime_checkable
class Looking(Protocol):
    """A feature's run that is shown finished frames."""

    def looks(self, sigma: float) -> Sequence[Look]:
        """What the network is to be shown now, before it sees the chunk at `sigma`."""


class ChunkHandler(context_windows.ContextHandlerABC):
    """`look` is the look under way, or None while the network sees the chunk. `inside` is another context handler.
    `shelf` is handed from chunk to chunk: what looks at frames that stay the same have left behind. Who finds nothing there
    looks again, with the same result."""

    def __init__(
        self, timeline: Timeline, chunk: Chunk, remembered: Remembered, inside=None, shelf: dict | None = None
    ):
        self.timeline, self.chunk, self.remembered, self.inside = timeline, chunk, remembered, inside
        self.shelf = {} if shelf is None else shelf
        self.look: Look | None = None

    def should_use_context(self, model, conds, x_in, timestep, model_options) -> bool:
        return True

    def get_resized_cond(self, cond_in, x_in, window, device=None) -> list:
        return conditioning.entries_for(cond_in, self.chunk.mix)

    def execute(self, calc_cond_batch, model, conds, x_in, timestep, model_options):
        heard = [cond if cond is None else conditioning.entries_for(cond, self.chunk.mix) for cond in conds]
        running = model_options.get("transformer_options", {}).get(patching.RUN)
        for run in running.runs if running else ():
            for look in run.looks(float(timestep[0])) if isinstance(run, Looking) else ():
                self._show(look, calc_cond_batch, model, conds, x_in, model_options)
        options = _seen_as(model_options, self.chunk.number, patching.WHOLE)
        if self.inside is not None and self.inside.should_use_context(model, heard, x_in, timestep, options):
            out = self.inside.execute(calc_cond_batch, model, heard, x_in, timestep, options)
        else:
            out = calc_cond_batch(model, heard, x_in, timestep, options)
        conditioning.scale_guidance(conds, out, self.chunk.mix, self.timeline)
        return out

    def _show(self, look: Look, calc_cond_batch, model, conds, x_in, model_options) -> None:
        """One evaluation whose prediction nobody needs."""
        x = noised(model, look, x_in)
        heard = [cond if cond is None else conditioning.entries_for(cond, look.mix) for cond in conds]
        conds = [cond if cond is None else [_of_length(entry, x) for entry in cond] for cond in heard]
        self.look = look
        try:
            calc_cond_batch(
                model, conds, x, x.new_full([x.shape[0]], look.sigma), _seen_as(model_options, self.chunk.number, LOOK)
            )
        finally:
            self.look = None


def handler_of(start: patching.Start, name: str) -> ChunkHandler:
    """What a feature of node `name` finds where it starts. Raises ValueError where the sampler has no chunks."""
    if not isinstance(start.handler, ChunkHandler):
        raise ValueError(
            f"{name} remembers finished chunks, and this sampler makes 0 of them; use Longreel Sampler with "
            f"mode rollout"
        )
    return start.handler


def noised(model, look: Look, like: torch.Tensor) -> torch.Tensor:
    """The look's frames as the sampler's latent has them, [B, C, F, H, W]."""
    clean = model.process_latent_in(look.latents.to(like))
    drawn = torch.randn(clean.shape[1:], generator=torch.Generator().manual_seed(look.seed))  # the same for each video
    noise = drawn.to(like).expand_as(clean)
    sampling = model.model_sampling
    if isinstance(sampling, comfy.model_sampling.V_PREDICTION_DDPM):  # CogVideoX, see hosts/sampling/alpha_space.py
        return alpha_space.add_noise(clean, noise, alpha_space.alpha_of_sigma(look.sigma))
    return sampling.noise_scaling(clean.new_full([clean.shape[0]], look.sigma), noise, clean)


def _seen_as(model_options: dict, chunk: int, role: str) -> dict:
    options = {**model_options.get("transformer_options", {}), patching.SEEN: (chunk, role)}
    return {**model_options, "transformer_options": options}


def _of_length(entry: dict, x: torch.Tensor) -> dict:
    """An entry for as many frames as x [B, C, F, H, W] has. Finished frames are all of one noise level, so there is no
    mask and no frame held clean; pictures beside the latent are those of the chunk's last frames, which nobody gave."""
    frames = x.shape[FRAME_AXIS]
    model_conds = {key: value for key, value in entry["model_conds"].items() if key not in ("denoise_mask", HOLD)}
    for key, value in model_conds.items():
        full = getattr(value, "cond", None)
        if isinstance(full, torch.Tensor) and full.ndim == x.ndim:
            last = full.shape[FRAME_AXIS] - 1
            at = [max(0, last - frames + 1 + i) for i in range(frames)]
            model_conds[key] = value._copy_with(full[:, :, at])
    return {**entry, "model_conds": model_conds}
