"""Know the noise level of an evaluation on the host, read once for all windows and features that ask.

A sampler hands its level on as a tensor on the device, and to read it makes the host wait for all that the device was
asked before. Whoever shows a latent in windows, or several times, reads it once (`read_once`); features ask `level_of`.

No read at all cannot be had safely. Which level comes next is known to the sampler alone: heun, dpmpp_2s or er_sde look
between the levels of their schedule, two experts share one, samplers of other packs go over it as they like, and a
guider may evaluate a level several times. Counting evaluations would hold for some of them.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .. import keys


def level_of(timestep: torch.Tensor, options: dict) -> float:
    """Return the noise level of `timestep` [B], in core's sigmas. options: the transformer_options that came with
    it."""
    of, level = options.get(keys.NOISE_LEVEL, (None, 0.0))
    return level if of is timestep else float(timestep[0])


@contextmanager
def read_once(timestep: torch.Tensor, options: dict) -> Iterator[float]:
    """Yield the level of `timestep` [B]; meanwhile it is known to all who are handed these options or a copy."""
    before, level = options.get(keys.NOISE_LEVEL), level_of(timestep, options)
    options[keys.NOISE_LEVEL] = timestep, level
    try:
        yield level
    finally:
        options.pop(keys.NOISE_LEVEL)
        if before is not None:
            options[keys.NOISE_LEVEL] = before
