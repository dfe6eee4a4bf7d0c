"""Trained memories for the tests of hosts/cam.py and hosts/apm.py, on the tiny models."""

from dataclasses import replace
from types import ModuleType

import torch

from longreel.engine.memory_files import LoadedMemory

FRAMES = 2  # latent frames that are remembered; even, because CogVideoX 1.5 reads two as one
TEXT_TOKENS = 64  # room for the tiny models' prompts


def drawn(memory: LoadedMemory, seed: int = 0, scale: float = 1.0) -> LoadedMemory:
    """The same memory with every weight drawn, those that begin at 0 too."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, value in memory.weights.items():
        spread = scale if value.ndim < 2 else scale * value[0].numel() ** -0.5
        weights[name] = torch.randn(value.shape, generator=generator) * spread
    return replace(memory, weights=weights)


def remembers(model, how: ModuleType, latents: torch.Tensor):
    """A clone whose every evaluation remembers these latents, as a trainer's do."""
    model = model.clone()
    model.model_options["transformer_options"] = how.remembering(model, latents)
    return model


def random_latents(like: torch.Tensor, frames: int = FRAMES, seed: int = 5) -> torch.Tensor:
    """[B, C, frames, H, W] of the size of `like` [B, C, F, H, W]."""
    shape = (*like.shape[:2], frames, *like.shape[3:])
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
