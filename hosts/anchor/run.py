"""One call of a sampler with frames that are known: clean ones among noisy ones, and masked ones that need noise.

Clean frames, for networks that ComfyUI gives one time for all frames: around every evaluation a known frame takes its
place, before and after, with the arithmetic of core's own masks; and the network is told each frame's time, as the
family's frame-time adapter (hosts/anchor/<family>.py) can. So any sampler works, those included that know no masks.
Each frame's keep strength travels with the conditioning, where every context handler cuts it as it cuts the latent.

Masked frames are shown by core with the sampler's noise. A second sampler, which adds none, would show them without: it
is drawn here from the same seed.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch

import comfy.conds
import comfy.sample
from comfy.patcher_extension import WrappersMP

from ...engine.to_device import sent
from .. import keys
from ..attention.compiled import outside_of_graphs
from ..families.family import Family
from ..types import Executor, Guider

FRAME_AXIS = 2  # [B, C, F, H, W]


class FrameTimeAdapter(Protocol):
    """What a family's file (hosts/anchor/<family>.py) knows: how its network takes a time for each latent frame."""

    FAMILY: Family
    IN_SEGMENTS: bool  # whether times per frame work in blocks that TTT evaluates segment by segment
    FRAMES_ALIKE: bool  # whether all rows of a batch must have the same anchor frames

    def refuse(self, network: torch.nn.Module) -> None:
        """Raise ValueError, before sampling, for a network that cannot take a time for each frame."""

    def recomputed_blocks(self, network: torch.nn.Module) -> list[torch.nn.Module]:
        """Return the blocks that keep their input alone for the gradients, and are recomputed in the backward pass."""

    def evaluate(
        self, executor: Executor, keep_strengths: torch.Tensor, x: torch.Tensor, t: torch.Tensor, *args, **kwargs
    ):
        """DIFFUSION_MODEL: evaluates x [B, C, F, H, W] at times t (1 - keep_strengths), keep_strengths [B, F] of
        0..1, in the dtype of x, on the host or the device."""


class AnchorFramesRun:
    """The clean anchor frames of one call of a sampler.

    keep_strengths: 0..1 for each clean frame, by its number in the latent of `frames`. adapter: evaluates the network
    with a time for each frame (hosts/anchor/<family>.py).
    """

    def __init__(self, keep_strengths: Mapping[int, float], frames: int, adapter: FrameTimeAdapter):
        """Spread the strengths over all frames, 0 where no anchor stands."""
        self.keep_strengths, self.adapter = dict(keep_strengths), adapter
        self.of_all_frames = torch.zeros(1, 1, frames, 1, 1)
        for frame, strength in self.keep_strengths.items():
            self.of_all_frames[:, :, frame] = strength
        self.latent: torch.Tensor | None = None  # [B, C, F, H, W] in the model's scale, once the sampler has it

    def predict(self, executor: Executor, x: torch.Tensor, *args, **kwargs):
        """PREDICT_NOISE: x [B, C, F, H, W] of the whole latent, before windows."""
        if x.shape[FRAME_AXIS] != self.of_all_frames.shape[FRAME_AXIS]:
            raise ValueError(
                f"a clean anchor stands in a latent of {self.of_all_frames.shape[FRAME_AXIS]} frames, and "
                f"this sampler shows {x.shape[FRAME_AXIS]} at a time; use mode inpaint, or in Longreel "
                "Refine blend x0"
            )
        return self._with_anchors(executor(self._with_anchors(x), *args, **kwargs))

    def _with_anchors(self, x: torch.Tensor) -> torch.Tensor:
        """Return x [B, C, F, H, W] with the anchors blended in by their keep strengths."""
        mask = 1.0 - sent(self.of_all_frames, x)
        x = x.clone()
        for frame in self.keep_strengths:
            m = mask[:, :, frame]  # [1, 1, 1, 1]
            x[:, :, frame] = x[:, :, frame] * m + self.latent[:, :, frame] * (1.0 - m)  # as core blends
        return x

    def show(self, executor: Executor, x: torch.Tensor, t: torch.Tensor, *args, **kwargs):
        """DIFFUSION_MODEL: gives the network the times of the frames of the window that it sees."""
        strengths: _OfFrames | None = kwargs.pop(keys.ANCHOR_KEEP_STRENGTHS, None)
        # Finished frames that a memory shows once more have none, and so have windows without an anchor.
        if strengths is None or not strengths.on_host.any():
            return executor(x, t, *args, **kwargs)
        of_frames = strengths.on_host[:, 0, :, 0, 0].to(x.dtype)  # [B, F]
        return self.adapter.evaluate(executor, of_frames, x, t, *args, **kwargs)


@dataclass(frozen=True)
class _OfFrames:
    """Keep strengths [B, 1, F, 1, 1] of the frames of one window; core takes a tensor to the device, and not this."""

    on_host: torch.Tensor


class KeepStrengths(comfy.conds.CONDRegular):
    """Keep strengths in a conditioning: context handlers cut them as the latent, and they stay on the host, where one
    can ask without a wait whether a window has an anchor.
    """

    def concat(self, others: list["KeepStrengths"]) -> _OfFrames:
        """Return what the network's wrappers are handed for a batch."""
        return _OfFrames(super().concat(others))


@contextmanager
def around_sampler(guider: Guider, run: AnchorFramesRun | None, masked_frames: Sequence[int]) -> Iterator[None]:
    """Put a run around the sampler of a guider, innermost, for as long as the context lasts.

    run: None where no anchor is clean. masked_frames: numbers of the latent frames that core's noise mask holds.
    """

    def begin(
        executor: Executor,
        wrap,
        sigmas: torch.Tensor,
        extra_args,
        callback,
        noise: torch.Tensor,
        latent_image: torch.Tensor,
        *args,
        **kwargs,
    ):
        """SAMPLER_SAMPLE: noise and latent as the sampler has them, on its device."""
        if run is not None:
            run.latent = latent_image
        noise = _with_noise(noise, masked_frames, latent_image, extra_args)
        return executor(wrap, sigmas, extra_args, callback, noise, latent_image, *args, **kwargs)

    wrappers = {WrappersMP.SAMPLER_SAMPLE: begin}
    before = guider.conds
    if run is not None:
        wrappers |= {WrappersMP.PREDICT_NOISE: run.predict, WrappersMP.DIFFUSION_MODEL: run.show}
        wrappers |= {WrappersMP.APPLY_MODEL: outside_of_graphs}
        strengths = KeepStrengths(run.of_all_frames)
        guider.conds = {
            name: [
                {**entry, "model_conds": {**entry["model_conds"], keys.ANCHOR_KEEP_STRENGTHS: strengths}}
                for entry in entries
            ]
            for name, entries in before.items()
        }
    known = guider.model_options["transformer_options"].setdefault("wrappers", {})
    for kind, wrapper in wrappers.items():
        known.setdefault(kind, {})[keys.ANCHOR_RUN] = [wrapper]
    try:
        yield
    finally:
        for kind in wrappers:
            del known[kind][keys.ANCHOR_RUN]


def _with_noise(
    noise: torch.Tensor, masked_frames: Sequence[int], latent: torch.Tensor, extra_args: dict
) -> torch.Tensor:
    """Return the noise [B, C, F, H, W] of a sampler, drawn from the sampler's seed where a masked frame has none."""
    missing = [frame for frame in masked_frames if not noise[:, :, frame].any()]
    if not missing:
        return noise
    drawn = comfy.sample.prepare_noise(latent.cpu(), extra_args["seed"] or 0)
    noise = noise.clone()
    noise[:, :, missing] = drawn[:, :, missing].to(noise)
    return noise
