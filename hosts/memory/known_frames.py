"""Known frames shown to the network without noise.

Core's denoise mask noises what is kept as much as the rest of the step. At the high noise levels at which a picture is
laid out hardly anything of it is left to see, and the new frames are laid out without it. Here the known frames are
clean in every step, at the time of the step, or, where a network takes a time for every frame (Wan), at time 0. Families
whose own masks do that already (Wan 2.2 5B, LTXV, HunyuanVideo) stay as they are. How firmly frames are held is said in
hosts/memory/short_memory.py.
"""

import torch

import comfy.patcher_extension as extension

from ..attention.patching import EVALUATION, RUN, Bystander, Start
from ..families import wan
from ..windows.chunk_handler import LOOK, ChunkHandler

KEY = "longreel_clean_frames"


class CleanFrames(Bystander):
    """One run of a sampler. `holds` say 0..1 how firmly each known frame is held; `at_zero`, that their time is 0."""

    def __init__(self, start: Start, handler: ChunkHandler, holds: tuple[float, ...], at_zero: bool):
        known = handler.chunk.known
        finished = handler.remembered.finished
        self.holds, self.at_zero = torch.tensor(holds), at_zero
        self.clean = start.model.process_latent_in(finished[:, :, finished.shape[2] - known :]) if known else None

    def show(self, x: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x [B, C, F, H, W] and t [B] -> x with its known frames clean, t [B] or [B, F]."""
        known, channels = self.clean.shape[2], self.clean.shape[1]
        clean = self.clean.to(x).repeat(x.shape[0] // self.clean.shape[0], 1, 1, 1, 1)
        hold = self.holds.to(x)[:, None, None]  # [known, 1, 1]
        x = x.clone()
        x[:, :channels, :known] = torch.lerp(x[:, :channels, :known], clean, hold)  # pictures may lie behind them
        if self.at_zero:
            t = t[:, None].repeat(1, x.shape[2])
            t[:, :known] *= 1 - self.holds.to(t)
        return x, t


def attach(model):
    """A clone that shows the frames of the run's CleanFrames."""
    model = model.clone()
    model.add_wrapper_with_key(extension.WrappersMP.DIFFUSION_MODEL, KEY, _show)
    return model


def check(start: Start, name: str, at_zero: bool) -> None:
    """Raises ValueError for a network that takes one time for all frames, or where others cut the chunk into windows."""
    if at_zero and start.family is not wan:
        raise ValueError(
            f"{name} is to show known frames at time 0, and {start.family.NAME} takes its own times, 1 for all "
            f"frames or those of the mask; choose clean"
        )
    if start.handler.inside is not None:
        raise ValueError(
            f"{name} needs a chunk to be seen at once, and this model carries 2 context handlers; remove the "
            f"context windows node, or choose noised"
        )


def _show(executor, x, t, *args, **kwargs):
    """DIFFUSION_MODEL: x and t come first in every family."""
    options = next(value for value in (*args, *kwargs.values()) if isinstance(value, dict) and RUN in value)
    run = next(run for run in options[RUN].runs if isinstance(run, CleanFrames))
    if run.clean is None or t.ndim > 1 or options[EVALUATION].role == LOOK:
        return executor(x, t, *args, **kwargs)
    return executor(*run.show(x, t), *args, **kwargs)
