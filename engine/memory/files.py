"""Store CAM and APM in a file, in the pack's own format for trained memories.

One safetensors file: tensors under the names of engine/memory/cam.py or engine/memory/apm.py, and in its metadata, as
JSON under one key, what shapes do not tell:

    {"version": 1, "kind": "cam", "family": "Wan", "blocks": 30, "layers": [15, ..., 29], "config": {...}, "title": ""}

`blocks` counts those of the network, `layers` names those that the memory works in, `config` holds the fields of
CAMConfig or APMConfig. Pickles are not read. Whether a memory fits a model is not known here.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as short
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from ..finite import not_finite
from ..runs.json_text import read_json
from ..runs.whole_file import check_whole, save_whole
from .apm import APM, APMConfig
from .cam import CAM, CAMConfig

KEY = "longreel_memory"
VERSION = 1
CAM_KIND, APM_KIND = "cam", "apm"
KINDS = {CAM_KIND: (CAM, CAMConfig), APM_KIND: (APM, APMConfig)}
FIELDS = {"kind": str, "family": str, "blocks": int, "layers": list, "config": dict, "title": str}
REMEDY = "save it again"
PER_LAYER = ("injectors", "mixers")  # parts of CAM and APM that are there once for each layer
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
DTYPES |= {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}
MOST_LEVELS, LARGEST_SIZE = 64, 2**20  # far beyond the encoders and widths of any network


@dataclass(frozen=True)
class LoadedMemory:
    """This is a memory as a file has it. kind: CAM_KIND or APM_KIND. weights: the module's state dict. family: as
    engine/plan/facts.ModelFacts names it. blocks: of the network. layers: those that the memory works in, from 0.
    """

    kind: str
    config: CAMConfig | APMConfig
    weights: dict[str, torch.Tensor]
    family: str
    blocks: int
    layers: tuple[int, ...]
    title: str = ""

    def build(self, operations=nn) -> CAM | APM:
        """Build the module, with layers of `operations`, holding the given tensors themselves."""
        module = KINDS[self.kind][0](self.config, self.layers, operations, device=torch.device("meta"))
        module.load_state_dict(self.weights, assign=True)
        return module.requires_grad_(False).eval()

    def summary(self) -> str:
        """Say for people what the memory is, and how large."""
        numbers = sum(weight.numel() for weight in self.weights.values())
        size = sum(weight.nbytes for weight in self.weights.values())
        lines = [self.title] if self.title else []
        lines.append(
            f"{self.kind.upper()} for {self.family}: {len(self.layers)} of {self.blocks} blocks, "
            f"{self.config.width} channels"
        )
        lines.append(f"{numbers / 1e6:,.1f} million numbers, {size / 2**20:,.1f} MiB")
        return "\n".join(lines)


def save_memory(path: Path | str, memory: LoadedMemory) -> None:
    """Write the format above; a file that is there is replaced once the new one is complete.

    Raises ValueError where the weights are not what `memory` says, so that no file is written that cannot be read.
    """
    check_memory(memory)
    about = {
        "version": VERSION,
        "kind": memory.kind,
        "family": memory.family,
        "blocks": memory.blocks,
        "layers": list(memory.layers),
        "config": dataclasses.asdict(memory.config),
        "title": memory.title,
    }
    tensors = {name: weight.detach().contiguous() for name, weight in memory.weights.items()}
    save_whole(path, tensors, {KEY: json.dumps(about)})


def load_memory(path: Path | str, kind: str | None = None, shapes_only: bool = False) -> LoadedMemory:
    """Load the memory in a file; `kind` is the one that is wanted, None for either.

    shapes_only: tensors on torch's "meta" device, in the time that a file's header takes.

    Raises ValueError, naming the file, two facts and the remedy: a pickle, a file that was cut short, one that holds
    something else, the other kind, an unknown version, missing or unknown weights, shapes that do not belong together,
    weights that are no numbers.
    """
    path = Path(path)
    if path.suffix.lower() != ".safetensors":
        raise ValueError(
            f"{path.name} is a {path.suffix or 'file without a suffix'}, and trained memories are read from "
            f".safetensors alone, because pickles can run programs; {REMEDY} as safetensors"
        )
    try:
        check_whole(path)
        with safe_open(path, "pt") as file:
            metadata, names = file.metadata() or {}, list(file.keys())
            if KEY not in metadata:
                raise ValueError(
                    f"none of the {len(names)} tensors is known to be a trained memory's, without {KEY} in the "
                    f"metadata; choose a file that Longreel saved (LoRAs go into a LoRA loader)"
                )
            about = _read_about(metadata[KEY])
            if kind not in (None, about["kind"]):
                raise ValueError(
                    f"holds {about['kind'].upper()} and {kind.upper()} is wanted; choose another file: CAM "
                    f"is the short-term memory, APM the long-term one"
                )
            if len(about["layers"]) > len(names):  # before they are looked at one by one
                raise ValueError(
                    f"says that it works in {len(about['layers']):,} blocks and holds {len(names)} tensors; the file "
                    f"is damaged: {REMEDY}"
                )
            shapes = {name: _shape_of(file.get_slice(name), name) for name in names}
            memory = LoadedMemory(
                about["kind"],
                _read_config(about),
                shapes,
                about["family"],
                about["blocks"],
                tuple(about["layers"]),
                about["title"],
            )
            check_memory(memory)
            if shapes_only:
                return memory
            weights = {name: file.get_tensor(name) for name in names}
        if (found := not_finite(weights)) is not None:
            raise ValueError(f"{found}; the file is damaged: {REMEDY}")
        return dataclasses.replace(memory, weights=weights)
    except SafetensorError as error:
        raise ValueError(
            f"{path.name} has {path.stat().st_size} bytes that are no whole safetensors file ({error}); "
            f"copy or save it again"
        ) from error
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error


def check_memory(memory: LoadedMemory) -> None:
    """Raise ValueError unless the layers are blocks of the network and the weights what kind and config say."""
    if not memory.layers or not all(0 <= number < memory.blocks for number in memory.layers):
        raise ValueError(
            f"works in the blocks {short(list(memory.layers))} of a network of {memory.blocks}; use some of 0 "
            f"to {memory.blocks - 1}, one at least"
        )
    _check_weights(_wanted(memory), memory.weights)


def _wanted(memory: LoadedMemory) -> dict[str, torch.Tensor]:
    """Return a tensor without numbers for each weight of a memory: one layer is built, and all have the shapes of it,
    because building thousands, which a file may name, takes minutes."""
    first = memory.layers[0]
    module = KINDS[memory.kind][0](memory.config, (first,), device=torch.device("meta"))
    wanted: dict[str, torch.Tensor] = {}
    for name, value in module.state_dict().items():
        part, number, rest = (*name.split(".", 2), "", "")[:3]
        if part in PER_LAYER and number == str(first):
            wanted.update((f"{part}.{layer}.{rest}", value) for layer in memory.layers)
        else:
            wanted[name] = value
    return wanted


def _shape_of(entry: Any, name: str) -> torch.Tensor:
    """Return a tensor of this shape without numbers."""
    dtype = entry.get_dtype()
    if dtype not in DTYPES:
        raise ValueError(
            f"{name} is stored as {dtype}, and weights are floating point numbers of {', '.join(DTYPES)}; {REMEDY}"
        )
    return torch.empty(entry.get_shape(), dtype=DTYPES[dtype], device="meta")


def _check_weights(wanted: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]) -> None:
    missing, unknown = sorted(set(wanted) - set(weights)), sorted(set(weights) - set(wanted))
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(wanted)} weights are missing, first {missing[0]}; the file is not whole: {REMEDY}"
        )
    if unknown:
        raise ValueError(
            f"{len(unknown)} of {len(weights)} weights are not this memory's, first {unknown[0]}; the file "
            f"holds something else: choose another"
        )
    for name, value in wanted.items():
        if weights[name].shape != value.shape:
            raise ValueError(
                f"{name} has shape {list(weights[name].shape)} and the file says {list(value.shape)}; the "
                f"file is damaged: {REMEDY}"
            )
        if not weights[name].is_floating_point():
            raise ValueError(
                f"{name} is stored as {weights[name].dtype}, and weights are floating point numbers; {REMEDY}"
            )


def _read_about(text: str) -> dict:
    """Return the metadata's JSON, checked but for the config."""
    try:
        about = read_json(text)
    except ValueError as error:
        raise ValueError(f"metadata {KEY} is {len(text)} characters that are no JSON ({error}); {REMEDY}") from error
    version = about.get("version") if isinstance(about, dict) else None
    if version != VERSION:
        raise ValueError(
            f"metadata {KEY} is of version {short(version)}, and this Longreel reads {VERSION}; update the pack, or "
            f"{REMEDY}"
        )
    for name, kind in FIELDS.items():
        value = about.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(
                f"metadata {KEY}: {name} is {short(value)} and should be of type {kind.__name__}; {REMEDY}"
            )
    if about["kind"] not in KINDS:
        raise ValueError(
            f"metadata {KEY}: kind {short(about['kind'])} is none of {len(KINDS)}, {', '.join(KINDS)}; update "
            f"the pack, or {REMEDY}"
        )
    if not all(type(number) is int for number in about["layers"]):
        raise ValueError(f"metadata {KEY}: layers is {short(about['layers'])}, not a list of blocks; {REMEDY}")
    return about


def _read_config(about: Mapping) -> CAMConfig | APMConfig:
    given, kind = about["config"], KINDS[about["kind"]][1]
    names = [field.name for field in dataclasses.fields(kind)]
    if sorted(given) != sorted(names):
        raise ValueError(
            f"metadata {KEY}: config has the fields {short(sorted(given))} and should have {sorted(names)}; {REMEDY}"
        )
    for name, value in given.items():
        many = name == "channels"
        numbers = [value] if not many else value if isinstance(value, list) else []
        if not numbers or not all(type(number) is int and number > 0 for number in numbers):
            wanted = "a list of whole numbers" if many else "a whole number"
            raise ValueError(f"metadata {KEY}: {name} is {short(value)}, not {wanted} above 0; {REMEDY}")
        if len(numbers) > MOST_LEVELS or max(numbers) > LARGEST_SIZE:  # before a module of it is built
            raise ValueError(
                f"metadata {KEY}: {name} is {short(value)}, and up to {MOST_LEVELS} numbers up to "
                f"{LARGEST_SIZE:,} are read; {REMEDY}"
            )
    return kind(**{name: tuple(value) if name == "channels" else value for name, value in given.items()})
