"""Trained memories for the tests of hosts/memory/cam.py and hosts/memory/apm.py, on the tiny models."""

from dataclasses import replace
from types import ModuleType

import torch

import comfy.model_base
import comfy.samplers

from longreel.engine.memory.files import LoadedMemory
from longreel.hosts import keys
from longreel.hosts.memory import apm, cam
from longreel.hosts.memory.trained_memory import training
from longreel.hosts.sampling.alpha_space import AlphaSpaceSampler
from longreel.hosts.sampling.rollout import sample_rollout
from tests.hosts.sampling_cases import sampling_of
from tests.hosts.ttt_cases import denoise, encode, noise_for, plan

FRAMES = 2  # latent frames that are remembered; even, because CogVideoX 1.5 reads two as one
TEXT_TOKENS = 64  # room for the tiny models' prompts
GIVEN = {cam: keys.CAM_FRAMES, apm: keys.APM_ANCHOR}  # where a trainer says what is remembered


def drawn(memory: LoadedMemory, seed: int = 0, scale: float = 1.0) -> LoadedMemory:
    """The same memory with every weight drawn, those that begin at 0 too."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, value in memory.weights.items():
        spread = scale if value.ndim < 2 else scale * value[0].numel() ** -0.5
        weights[name] = torch.randn(value.shape, generator=generator) * spread
    return replace(memory, weights=weights)


def remembers(model, how: ModuleType, latents: torch.Tensor):
    """A clone whose every evaluation remembers these latents, in any sampler."""
    model = model.clone()
    model.model_options["transformer_options"][GIVEN[how]] = latents
    return model


def random_latents(like: torch.Tensor, frames: int = FRAMES, seed: int = 5) -> torch.Tensor:
    """[B, C, frames, H, W] of the size of `like` [B, C, F, H, W]."""
    shape = (*like.shape[:2], frames, *like.shape[3:])
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def shown(model, conds: tuple[list, list], noise: torch.Tensor) -> dict:
    """What core's sampling hands to the network in one evaluation, free for autograd: input, timestep, and its other
    arguments under "c"."""
    seen, model = [], model.clone()

    def keep(apply_model, given):
        seen.append(given)
        return apply_model(given["input"], given["timestep"], **given["c"])

    model.set_model_unet_function_wrapper(keep)
    denoise(model, conds, noise)
    return {name: free(value) for name, value in seen[0].items()}


def free(value):
    """Tensors that were made in inference mode, as ordinary ones."""
    if isinstance(value, dict):
        return {name: free(part) for name, part in value.items()}
    return value.clone() if isinstance(value, torch.Tensor) else value


def loss_of(model, options: dict, given: dict) -> torch.Tensor:
    """How far the network's prediction is from a drawn target; inside trained_memory.training(model)."""
    out = model.model.apply_model(given["input"], given["timestep"], **{**given["c"], "transformer_options": options})
    target = torch.randn(given["input"].shape, generator=torch.Generator().manual_seed(9))
    return torch.nn.functional.mse_loss(out, target)


def lower_a_loss(model, parameters: dict, options: dict, given: dict, steps: int) -> list[float]:
    """Adam on `loss_of`; -> the loss before each step."""
    optimizer, losses = torch.optim.Adam(parameters.values(), lr=3e-3), []
    for _ in range(steps):
        optimizer.zero_grad()
        with training(model):
            loss = loss_of(model, options, given)
            loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def chunks_of(loaded, model, frames: int = 6, overlap: int = 2) -> torch.Tensor:
    """A rollout of one shot in chunks of 4 latent frames that share `overlap` -> [1, C, frames, H, W]."""
    timeline = plan(loaded, shots=1, frames=frames, segment=4, overlap=overlap)
    alpha_space = isinstance(model.model, comfy.model_base.CogVideoX)
    sampler = AlphaSpaceSampler("ddim", eta=0.0) if alpha_space else comfy.samplers.sampler_object("euler")
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 2)
    latent = {"samples": torch.zeros_like(noise_for(timeline))}
    with torch.inference_mode():
        out, _ = sample_rollout(model, timeline, latent, sampling_of(encode(loaded, timeline), sigmas, sampler))
    return out["samples"]
