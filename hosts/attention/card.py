"""What the device of a MODEL has free for a run, and what its weights need there, as ComfyUI reckons it.

ComfyUI unloads other models for a run, and leaves to other programs what --reserve-vram (and --vram-headroom, where
its dynamic loader works) says. Weights that have no room on the card it brings in layer by layer; what it cannot do so
on this device must fit whole. Where the device is the CPU, weights lie in main memory already, and are added to what
is free there as they are to what is needed.
"""

from collections.abc import Sequence

import torch

import comfy.cli_args
import comfy.model_management as management

from ...engine.plan.card_memory import GIB, WORKING_COPIES, Card, CoreNeeds
from ..families import core_shape
from ..types import ModelPatcher

STREAMING = (  # ComfyUI's states in which weights may stay in main memory
    management.VRAMState.NORMAL_VRAM,
    management.VRAMState.LOW_VRAM,
    management.VRAMState.NO_VRAM,
)


def card_of(model: ModelPatcher) -> Card:
    """Return what the device has that `model` is sampled on."""
    device, cpu = model.load_device, torch.device("cpu")
    ours = parts_of(model)
    available = int(management.get_free_memory(cpu))
    if device.type == "cpu":
        own = sum(part.model_size() for part in ours)
        return Card(str(device), int(management.get_total_memory(device)), available + own, 0, is_main_memory=True)
    loaded = sum(part.loaded_size() for part in management.loaded_models() if part and part.load_device == device)
    for_others = management.extra_reserved_memory() + getattr(comfy.cli_args.args, "vram_headroom", 0) * GIB
    free = int(management.get_free_memory(device) + loaded - for_others)
    elsewhere = sum(part.model_size() - part.loaded_size() for part in ours)
    return Card(str(device), int(management.get_total_memory(device)), max(0, free), available + elsewhere)


def parts_of(model: ModelPatcher) -> list[ModelPatcher]:
    """Return the model and those that are loaded beside it on the same device (TTT layers, trained memories)."""
    beside = [*model.get_nested_additional_models(), *model.model_patches_models()]
    return [model, *(part for part in dict.fromkeys(beside) if part.load_device == model.load_device)]


def weights_of(model: ModelPatcher) -> tuple[int, int]:
    """Return the bytes of all weights, and the fewest that must lie on the card at once."""
    parts = parts_of(model)
    whole = sum(part.model_size() for part in parts)
    if model.load_device.type == "cpu" or management.vram_state not in STREAMING:
        return whole, whole
    return whole, min(whole, sum(_least(part) for part in parts))


def core_needs(
    model: ModelPatcher, window: Sequence[int], prompts: int, latent_numbers: int, whole_timeline: int = 0
) -> CoreNeeds:
    """Return what the network needs of the card to be shown a window [B, C, F, H, W] under so many prompts.

    latent_numbers: of the latent that the sampler works on. whole_timeline: bytes that one forward of one prompt keeps
    of it (TTT). On a CPU ComfyUI asks for no room for a window, and its estimate refuses nothing.
    """
    batch, *rest = window
    whole, least = weights_of(model)
    estimate, least_estimate = (
        int(model.model.memory_required(core_shape(model.model, [rows, *rest]))) for rows in (prompts * batch, batch)
    )
    if model.load_device.type == "cpu":
        least_estimate = 0
    return CoreNeeds(
        whole, least, estimate, least_estimate, latent_numbers * WORKING_COPIES * torch.float32.itemsize, whole_timeline
    )


def _least(part: ModelPatcher) -> int:
    """Return the bytes of modules that ComfyUI cannot bring in one by one, and of the largest that it can: the one in
    use, as kept and as computed with, and those on their way.
    """
    fixed, largest = 0, 0
    computed_with = getattr(part.model, "manual_cast_dtype", None)
    for module in part.model.modules():
        own = list(module.parameters(recurse=False))
        size = sum(parameter.nbytes for parameter in own)
        if not hasattr(module, "comfy_cast_weights"):
            fixed += size
            continue
        cast = 0 if computed_with is None else sum(parameter.numel() * computed_with.itemsize for parameter in own)
        largest = max(largest, size * (1 + management.NUM_STREAMS) + cast)
    return fixed + largest
