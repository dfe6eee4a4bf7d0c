"""One call of a sampler with frames that are known: clean ones among noisy ones, and masked ones that need noise.

Clean frames, for networks that ComfyUI gives one time for all frames: around every evaluation a known frame takes its
place, before and after, with the arithmetic of core's own masks; and the network is told each frame's time, as the
family's page (hosts/anchor_<family>.py) can. So any sampler works, those included that know no masks. How firmly each
frame is held travels with the conditioning, where every context handler cuts it as it cuts the latent.

Masked frames are shown by core with the sampler's noise. A second sampler, which adds none, would show them without: it
is drawn here from the same seed.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

import comfy.conds
import comfy.sample
from comfy.patcher_extension import WrappersMP

KEY = "longreel_anchor_run"
HOLD = "longreel_anchor_hold"  # in model_conds: how firmly each latent frame is held, [1, 1, F, 1, 1]
FRAME_AXIS = 2  # [B, C, F, H, W]


class CleanFrames:
    """`hold` says 0..1 how firmly each clean frame of the latent's `frames` is held; `recipe` is a page that evaluates
    the network with a time for each frame."""

    def __init__(self, hold: Mapping[int, float], frames: int, recipe: Any):
        self.hold, self.recipe = dict(hold), recipe
        self.all_frames = torch.zeros(1, 1, frames, 1, 1)
        for frame, firmly in self.hold.items():
            self.all_frames[:, :, frame] = firmly
        self.latent: torch.Tensor | None = None  # [B, C, F, H, W] in the model's scale, once the sampler has it

    def predict(self, executor, x, *args, **kwargs):
        """PREDICT_NOISE: x [B, C, F, H, W] of the whole latent, before windows."""
        if x.shape[FRAME_AXIS] != self.all_frames.shape[FRAME_AXIS]:
            raise ValueError(
                f"a clean anchor stands in a latent of {self.all_frames.shape[FRAME_AXIS]} frames, and "
                f"this sampler shows {x.shape[FRAME_AXIS]} at a time; use mode inpaint, or in Longreel "
                "Refine blend x0"
            )
        return self._held(executor(self._held(x), *args, **kwargs))

    def _held(self, x: torch.Tensor) -> torch.Tensor:
        mask = 1.0 - self.all_frames.to(x)
        x = x.clone()
        for frame in self.hold:
            m = mask[:, :, frame]  # [1, 1, 1, 1]
            x[:, :, frame] = x[:, :, frame] * m + self.latent[:, :, frame] * (1.0 - m)  # as core blends
        return x

    def show(self, executor, x, t, *args, **kwargs):
        """DIFFUSION_MODEL: of the window that the network sees."""
        hold = kwargs.pop(HOLD, None)
        if hold is None or not hold.any():  # finished frames that a memory shows once more, or a window without any
            return executor(x, t, *args, **kwargs)
        return self.recipe.evaluate(executor, hold[:, 0, :, 0, 0], x, t, *args, **kwargs)  # [B, F]


@contextmanager
def at_work(guider, clean: CleanFrames | None, noised: Sequence[int]) -> Iterator[None]:
    """Puts the run around the sampler of a guider, innermost. `noised` are the frames that core's mask holds."""

    def begin(executor, wrap, sigmas, extra_args, callback, noise, latent_image, *args, **kwargs):
        """SAMPLER_SAMPLE: noise and latent as the sampler has them, on its device."""
        if clean is not None:
            clean.latent = latent_image
        silent = [frame for frame in noised if not noise[:, :, frame].any()]
        if silent:
            drawn = comfy.sample.prepare_noise(latent_image.cpu(), extra_args["seed"] or 0)
            noise = noise.clone()
            noise[:, :, silent] = drawn[:, :, silent].to(noise)
        return executor(wrap, sigmas, extra_args, callback, noise, latent_image, *args, **kwargs)

    wrappers = {WrappersMP.SAMPLER_SAMPLE: begin}
    before = guider.conds
    if clean is not None:
        wrappers |= {WrappersMP.PREDICT_NOISE: clean.predict, WrappersMP.DIFFUSION_MODEL: clean.show}
        told = comfy.conds.CONDRegular(clean.all_frames)
        guider.conds = {
            name: [{**entry, "model_conds": {**entry["model_conds"], HOLD: told}} for entry in entries]
            for name, entries in before.items()
        }
    known = guider.model_options["transformer_options"].setdefault("wrappers", {})
    for kind, wrapper in wrappers.items():
        known.setdefault(kind, {})[KEY] = [wrapper]
    try:
        yield
    finally:
        for kind in wrappers:
            del known[kind][KEY]
