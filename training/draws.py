"""Make every random choice of a training run, as a function of the seed and of where in the run it is made.

Nothing random is kept from step to step. So a run that was interrupted draws what it would have drawn, a process draws
its own videos' noise without that of the others, and two processes draw together what one would. Numbers come from the
CPU's generator whatever the device, because GPUs draw others.
"""

import hashlib
import json

import torch


def generator(seed: int, *where: int | str) -> torch.Generator:
    """Return a generator that depends on the seed and on every entry of `where`."""
    digest = hashlib.sha256(json.dumps([seed, *where]).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def order(seed: int, stage: str, step: int, batch: int, count: int) -> list[int]:
    """Return which of `count` videos the batch of a step holds: all are shown once, in random order, before one is
    shown again.
    """
    places = range(step * batch, (step + 1) * batch)
    rounds = {place // count for place in places}
    shuffled = {
        number: torch.randperm(count, generator=generator(seed, stage, "order", number)).tolist() for number in rounds
    }
    return [shuffled[place // count][place % count] for place in places]


def noise(seed: int, stage: str, step: int, place: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Return the noise of the video at one place of a batch; float32, normal."""
    return torch.randn(shape, generator=generator(seed, stage, "noise", step, place))


def drops_text(seed: int, stage: str, step: int, place: int, share: float) -> bool:
    """Tell whether the video at one place of a batch is shown without its prompts; true in `share`, 0..1, of all."""
    return torch.rand((), generator=generator(seed, stage, "text", step, place)).item() < share
