"""Show known frames to the network without noise.

Core's denoise mask noises what is kept as much as the rest of the step. At the high noise levels at which a picture is
laid out hardly anything of it is left to see, and the new frames are laid out without it. Here the known frames are
clean in every step, at the time of the step, or, where a network takes a time for every frame (Wan), at time 0. A
network that has a channel for it (Kandinsky 5) is told which frames are clean. Families whose own masks do that already
(Wan 2.2 5B, LTXV, HunyuanVideo) stay as they are, and so do image-to-video networks, which see known frames clean in
channels of their own and have learned them noised in the latent. The keep strength of each frame comes from
hosts/memory/short_memory.py.
"""

import torch

import comfy.patcher_extension as extension

from ...engine.to_device import sent
from .. import keys
from ..attention.feature import Bystander, Start
from ..types import Executor, ModelPatcher
from ..windows.chunk_handler import ChunkHandler
from ..windows.context_pass import CONTEXT_PASS


class KnownFramesRun(Bystander):
    """This is one run of a sampler that shows the chunk's known frames clean.

    keep_strengths: 0..1 for each known frame; 1 shows it clean, 0 as noisy as the step. at_zero: their time is 0.
    """

    def __init__(self, start: Start, handler: ChunkHandler, keep_strengths: tuple[float, ...], at_zero: bool):
        known = handler.chunk.known_frames
        finished = handler.remembered.finished
        self.keep_strengths, self.at_zero = torch.tensor(keep_strengths), at_zero
        self.clean = start.model.process_latent_in(finished[:, :, finished.shape[2] - known :]) if known else None
        self.mask_channel = start.family.mask_of_clean_frames(start.model.diffusion_model)

    def show(self, x: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return x [B, C, F, H, W] with its known frames clean, and their times: t [B], or [B, F] where they are 0."""
        known, channels = self.clean.shape[2], self.clean.shape[1]
        self.clean = self.clean.to(x)  # on the device from the first step on
        clean = self.clean.repeat(x.shape[0] // self.clean.shape[0], 1, 1, 1, 1)
        keep = sent(self.keep_strengths, x)[:, None, None]  # [known, 1, 1]
        x = x.clone()
        x[:, :channels, :known] = torch.lerp(x[:, :channels, :known], clean, keep)  # pictures may lie behind them
        if self.mask_channel is not None:
            x[:, self.mask_channel, :known] = torch.maximum(x[:, self.mask_channel, :known], keep)
        if self.at_zero:
            t = t[:, None].repeat(1, x.shape[2])
            t[:, :known] *= 1 - sent(self.keep_strengths, t)
        return x, t


def attach(model: ModelPatcher):
    """Return a clone of `model` that shows the frames of its KnownFramesRun."""
    model = model.clone()
    around = model.wrappers.get(extension.WrappersMP.DIFFUSION_MODEL, {})
    # Outside all other wrappers: what another node sees of the frames (EasyCache compares them) does not depend on the
    # order of the nodes.
    model.wrappers[extension.WrappersMP.DIFFUSION_MODEL] = {keys.KNOWN_FRAMES: [_show], **around}
    return model


def check(start: Start, name: str, at_zero: bool) -> None:
    """Raise ValueError for a network that takes one time for all frames, or where others cut the chunk into windows."""
    if at_zero and not start.family.TAKES_FRAME_TIMES:
        raise ValueError(
            f"{name} is to show known frames at time 0, and {start.family.NAME} takes its own times, one for all "
            f"frames or those of the mask; choose clean"
        )
    if start.handler.inside is not None:
        raise ValueError(
            f"{name} needs a chunk to be seen at once, and another context handler on this model cuts it; remove the "
            f"context windows node, or choose noised"
        )


def _show(executor: Executor, x: torch.Tensor, t: torch.Tensor, *args, **kwargs):
    """Wrap DIFFUSION_MODEL: x and t come first in every family."""
    options = next(value for value in (*args, *kwargs.values()) if isinstance(value, dict) and keys.RUNNING in value)
    run = next((run for run in options[keys.RUNNING].runs if isinstance(run, KnownFramesRun)), None)
    if run is None or run.clean is None or t.ndim > 1 or options[keys.EVALUATION].role == CONTEXT_PASS:
        return executor(x, t, *args, **kwargs)
    return executor(*run.show(x, t), *args, **kwargs)
