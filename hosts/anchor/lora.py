"""A LoRA file under whatever names its trainer gave it, put onto a MODEL by ComfyUI's own patches.

The names are converted by engine/lora/keys.py; ComfyUI then loads, offloads, quantises and merges the LoRA as any
other. Whatever is loaded here counts as trained for anchors (hosts/anchor/frame.py chooses a mode by it); a file does
not say.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

import comfy.lora

from ...engine.finite import not_finite
from ...engine.lora.keys import OWN_PREFIX, ConvertedLoRA, alpha_and_source, convert
from ...engine.runs.whole_file import check_whole
from .. import keys
from ..families import facts_of
from ..types import ModelPatcher

SUFFIX = ".safetensors"
_WEIGHT = ".weight"


@dataclass(frozen=True)
class LoRAFile:
    """weights: as the file names them. alpha: what its metadata says, or the adapter_config.json that belongs to it.
    alpha_source: which of the two.
    """

    name: str
    weights: Mapping[str, torch.Tensor]
    alpha: float | None
    alpha_source: str = ""


def read_lora(path: Path, given_alpha: bool = False) -> LoRAFile:
    """Read a LoRA file. given_alpha: the user says alpha, and what is said beside the file is not looked at.

    Raises ValueError, naming the file, for one that is no safetensors file or damaged, and naming the tensor for
    numbers that are none.
    """
    lora = _read(Path(path), given_alpha, lambda file, names: {name: file.get_tensor(name) for name in names})
    if (found := not_finite(lora.weights)) is not None:
        raise ValueError(f"{lora.name}: {found}; the training went wrong, or the file is damaged: use another")
    return lora


def check_lora(path: Path, given_alpha: bool = False) -> None:
    """Raise ValueError as `read_lora` does for what the file's header tells: its numbers are not read."""
    _read(Path(path), given_alpha, lambda file, names: {})


def _read(path: Path, given_alpha: bool, weights_of: Callable[[Any, list[str]], dict[str, torch.Tensor]]) -> LoRAFile:
    if path.suffix.lower() != SUFFIX:
        raise ValueError(
            f"{path.name} is a {path.suffix or 'file without ending'}, and LoRAs are read from {SUFFIX} alone, "
            f"which cannot run code; convert it"
        )
    try:
        check_whole(path)
        with safe_open(path, "pt") as file:
            weights = weights_of(file, list(file.keys()))
            stated = None if given_alpha else alpha_and_source(file.metadata(), path)
    except SafetensorError as error:
        raise ValueError(
            f"{path.name} has {path.stat().st_size} bytes that are no whole safetensors file ({error}); copy it again"
        ) from error
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error
    alpha, source = stated or (None, "")
    return LoRAFile(path.name, weights, alpha, source)


def attach(
    model: ModelPatcher, lora: LoRAFile, strength: float = 1.0, alpha: float | None = None, allow_partial: bool = False
) -> tuple[object, ConvertedLoRA]:
    """A clone of the ModelPatcher with the LoRA's patches -> (clone, what was converted).

    strength: 1 as trained, 0 for the model as it is. alpha: instead of what the file says; None: as the file says.
    Raises ValueError, naming the file, where it does not fit this model, see engine/lora/keys.convert.
    """
    known = comfy.lora.model_lora_keys_unet(model.model, {})
    layers = {
        name.removeprefix(OWN_PREFIX).removesuffix(_WEIGHT): value.shape
        for name, value in model.model.state_dict().items()
        if name.startswith(OWN_PREFIX) and name.endswith(_WEIGHT)
    }
    weights = lora.weights
    if alpha is not None:
        weights = {name: value for name, value in weights.items() if not name.endswith(".alpha")}
    try:
        converted = convert(
            weights,
            facts_of(model).family,
            layers,
            known,
            lora.alpha if alpha is None else alpha,
            allow_partial,
            lora.alpha_source if alpha is None else "",
        )
    except ValueError as error:
        raise ValueError(f"{lora.name}: {error}") from error
    patches = comfy.lora.load_lora(converted.weights, known, log_missing=False)
    patched = model.clone()
    if strength == 0:
        return patched, converted
    patched.set_attachments(keys.ANCHOR_TRAINED, True)  # mode auto of an anchor asks for it
    taken = patched.add_patches(patches, strength)
    if len(taken) < len(converted.layers):
        raise ValueError(
            f"{lora.name}: ComfyUI took {len(taken)} of {len(converted.layers)} layers; this kind of LoRA is "
            f"not one that it knows: convert it to lora_down and lora_up"
        )
    return patched, converted
