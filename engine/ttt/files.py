"""Store TTT layers in a file: the pack's own format, and the names that ttt-video publishes.

A file of the pack is one safetensors file: tensors `blocks.N.<name in engine/ttt/block.py>`, and in its metadata, as
JSON under one key, what shapes do not tell:

    {"version": 1, "family": "Wan", "kind": "mlp", "width": 1536, "heads": 12, "blocks": 30, "layers": [0, 1, ...],
     "chunk": 64, "base_rate": 0.1, "norm_eps": 1e-06, "rates": "own", "segment_latent_frames": 13, "title": "",
     "lead_frames": 1}

`lead_frames` is left out where there were none. `blocks` counts those of the network, `layers` names those that have
TTT; `kind` may also be LaCT (engine/ttt/lact.py), whose chunk counts latent frames, or what TTT is compared with
(engine/ttt/baselines.py). A ttt-video checkpoint saved as safetensors has no such metadata: it is known by its names,
and what it was trained as is what its authors published. Pickles are not read. Whether the layers fit a model is not
known here.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as short

import torch
from safetensors import SafetensorError, safe_open

from ..finite import not_finite, too_large
from ..runs.json_text import read_json
from ..runs.whole_file import check_whole, save_whole
from . import published as ttt_video
from .block import TTTBlock
from .layer import AS_TRAINED, GATED_DELTA, LACT, LINEAR, MLP, SLIDING_WINDOW, TTTConfig
from .weights import check_weights, config_of

KEY = "longreel_ttt"
VERSION = 1
FIELDS = {
    "family": str,
    "kind": str,
    "width": int,
    "heads": int,
    "blocks": int,
    "layers": list,
    "chunk": int,
    "base_rate": float,
    "norm_eps": float,
    "rates": str,
    "segment_latent_frames": int,
    "title": str,
}
IN_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
NAMES = {
    LINEAR: "TTT-linear",
    MLP: "TTT-mlp",
    GATED_DELTA: "gated delta rule",
    SLIDING_WINDOW: "sliding window",
    LACT: "LaCT",
}
READS = {
    LINEAR: "learns from {} tokens at once",
    MLP: "learns from {} tokens at once",
    GATED_DELTA: "learns token by token",
    SLIDING_WINDOW: "attends to neighbouring segments",
    LACT: "learns from up to {} latent frames at once",
}
LARGEST_NUMBER = 2**20  # far beyond the widths, blocks and chunks of any network
LARGEST_WEIGHT = torch.finfo(torch.float16).max  # infinite where ComfyUI casts to float16; trained ones are below 100
MISSING_REMEDY = "save or convert it again"


# What ComfyUI and the pack do otherwise than the code that trained such layers; none are public, so nothing of it could
# be compared.
OTHERWISE_THAN_TTT_VIDEO = (
    "trained by ttt-video, whose sampler this is not: there a prompt before a cut ends with <end_scene> and the one "
    "behind it begins with <start_scene>, as tokens of their own that ComfyUI's T5 does not know; a text has 458 to "
    "502 tokens, here 226, which moves the borders of chunks; and its public configurations train on latents that are "
    "not scaled, where ComfyUI multiplies them by 0.7. Expect other videos than its authors show"
)


@dataclass(frozen=True)
class LoadedTTT:
    """These are TTT layers as a file has them. layers: weights by the names of engine/ttt/block.py, for each block of
    the network that has TTT, from 0. blocks: of the network. family: as engine/plan/facts.ModelFacts names it.
    segment_latent_frames: of a training segment; lead_frames: latent frames in front of it that its attention saw too.
    """

    layers: dict[int, dict[str, torch.Tensor]]
    config: TTTConfig
    family: str
    segment_latent_frames: int
    blocks: int
    title: str = ""
    lead_frames: int = 0

    def summary(self) -> str:
        """Say for people what the layers are, and how large."""
        config = self.config
        numbers = sum(weight.numel() for block in self.layers.values() for weight in block.values())
        size = sum(weight.nbytes for block in self.layers.values() for weight in block.values())
        lines = [self.title] if self.title else []
        lines += [
            f"{NAMES[config.kind]} for {self.family}: {len(self.layers)} of {self.blocks} blocks, "
            f"{config.heads} heads of {config.head_width} channels",
            f"{READS[config.kind].format(config.chunk)}; trained on segments of {self.segment_latent_frames} "
            f"latent frames" + (f" led by {self.lead_frames}" if self.lead_frames else ""),
            f"{numbers / 1e6:,.1f} million numbers, {size / 2**20:,.1f} MiB",
        ]
        if config.rates == AS_TRAINED and self.family == ttt_video.FAMILY:
            lines.append(OTHERWISE_THAN_TTT_VIDEO)
        return "\n".join(lines)


def save_ttt(path: Path | str, ttt: LoadedTTT) -> None:
    """Write the pack's format; a file that is there is replaced once the new one is complete.

    Raises ValueError where the weights are not what `ttt` says, so that no file is written that cannot be read.
    """
    check_layers(ttt)
    about = {
        "version": VERSION,
        "family": ttt.family,
        "kind": ttt.config.kind,
        "width": ttt.config.width,
        "heads": ttt.config.heads,
        "blocks": ttt.blocks,
        "layers": sorted(ttt.layers),
        "chunk": ttt.config.chunk,
        "base_rate": ttt.config.base_rate,
        "norm_eps": ttt.config.norm_eps,
        "rates": ttt.config.rates,
        "segment_latent_frames": ttt.segment_latent_frames,
        "title": ttt.title,
    }
    if ttt.lead_frames:
        about["lead_frames"] = ttt.lead_frames
    tensors = {
        f"blocks.{number}.{name}": weight.detach().contiguous()
        for number, block in ttt.layers.items()
        for name, weight in block.items()
    }
    _check_numbers(tensors)
    save_whole(path, tensors, {KEY: json.dumps(about)})


def load_ttt(path: Path | str, chunk: int | None = None, shapes_only: bool = False) -> LoadedTTT:
    """Load the layers in a file of the pack or of ttt-video.

    chunk: tokens that the small networks learn from at once, for a file that does not say (ttt-video's: 64 or 16 as
    published if None). shapes_only: tensors on torch's "meta" device, in the time that a file's header takes.

    Raises ValueError, naming the file, two facts and the remedy: a pickle, a file that was cut short, no TTT layers, an
    unknown version, missing or unknown weights, shapes that do not belong together, a chunk other than the file's,
    numbers that are none or beyond float16.
    """
    path = Path(path)
    if path.suffix.lower() != ".safetensors":
        raise ValueError(
            f"{path.name} is a {path.suffix or 'file without a suffix'}, and TTT layers are read from "
            f".safetensors alone, because pickles can run programs; convert ttt-video's checkpoint folder "
            f"with `python -m longreel.engine.ttt.convert`"
        )
    try:
        check_whole(path)
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            about = _read_about(metadata[KEY]) if KEY in metadata else None
            names = _names_of_layers(file.keys(), published=about is None)
            ttt = _described({name: _shape_of(file.get_slice(name), name) for name in names}, about, chunk)
            check_layers(ttt)
            if shapes_only:
                return ttt
            weights = {name: file.get_tensor(name) for name in names}
        _check_numbers(weights)
        return _described(weights, about, chunk)
    except SafetensorError as error:
        raise ValueError(
            f"{path.name} has {path.stat().st_size} bytes that are no whole safetensors file ({error}); "
            f"copy or convert it again"
        ) from error
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error


def check_layers(ttt: LoadedTTT) -> None:
    """Raise ValueError unless every block's weights are what the config says."""
    wanted = TTTBlock(ttt.config, device=torch.device("meta"))
    if not ttt.layers or not all(0 <= number < ttt.blocks for number in ttt.layers):
        raise ValueError(
            f"TTT layers for the blocks {_listed(ttt.layers)} of a network of {ttt.blocks}; use blocks 0 "
            f"to {ttt.blocks - 1}, one at least"
        )
    for number, weights in ttt.layers.items():
        try:
            check_weights(wanted, weights)
        except ValueError as error:
            raise ValueError(f"block {number}: {error}") from error


def _check_numbers(weights: Mapping[str, torch.Tensor]) -> None:
    if (wrong := not_finite(weights) or too_large(weights, LARGEST_WEIGHT)) is not None:
        raise ValueError(f"{wrong}; the training went wrong, or the file is damaged: use another")


def _names_of_layers(names: Iterable[str], published: bool) -> list[str]:
    names = list(names)
    found = [name for name in names if (ttt_video.ttt_layers({name: None}) if published else IN_BLOCK.fullmatch(name))]
    if not found:
        said = "no" if published else "a"
        raise ValueError(
            f"none of the {len(names)} tensors is TTT's, with {said} {KEY} in the metadata; choose a file that "
            f"Longreel saved or converted, or ttt-video's weights (LoRAs go into a LoRA loader)"
        )
    return found


def _shape_of(entry, name: str) -> torch.Tensor:
    """Return a tensor of this shape without numbers."""
    dtype = entry.get_dtype()
    if dtype not in DTYPES:
        raise ValueError(
            f"{name} is stored as {dtype}, and TTT layers are read from {', '.join(DTYPES)}; "
            f"{MISSING_REMEDY} as one of them"
        )
    return torch.empty(entry.get_shape(), dtype=DTYPES[dtype], device="meta")


def _described(tensors: Mapping[str, torch.Tensor], about: Mapping | None, chunk: int | None) -> LoadedTTT:
    """Return layers with their description. `about`: the pack's metadata, or None for tensors under
    ttt-video's names.
    """
    if about is not None:
        return _of_the_pack(tensors, about, chunk)
    layers = ttt_video.ttt_layers(tensors)
    blocks = max(layers) + 1
    if len(layers) != blocks:
        missing = next(number for number in range(blocks) if number not in layers)
        raise ValueError(
            f"{len(layers)} of {blocks} blocks have TTT layers, and block {missing} has none; the file is "
            f"not whole: {MISSING_REMEDY}"
        )
    config = config_of(layers[0], chunk)
    return LoadedTTT(layers, config, ttt_video.FAMILY, ttt_video.SEGMENT_LATENT_FRAMES, blocks)


def _of_the_pack(tensors: Mapping[str, torch.Tensor], about: Mapping, chunk: int | None) -> LoadedTTT:
    if chunk not in (None, about["chunk"]):
        unit = "latent frames" if about["kind"] == LACT else "tokens"
        raise ValueError(
            f"trained with {about['chunk']} {unit} at once, and chunk is {chunk}, which would compute something else; "
            f"use 0, the file's own"
        )
    layers: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        if match := IN_BLOCK.fullmatch(name):  # as all of them, see _names_of_layers
            layers.setdefault(int(match[1]), {})[match[2]] = value
    if set(layers) != set(about["layers"]):
        raise ValueError(
            f"holds the blocks {_listed(layers)} and should hold {_listed(about['layers'])}; the file is "
            f"not whole: {MISSING_REMEDY}"
        )
    config = TTTConfig(
        about["kind"],
        about["width"],
        about["heads"],
        about["chunk"],
        about["base_rate"],
        about["norm_eps"],
        about["rates"],
    )
    return LoadedTTT(
        dict(sorted(layers.items())),
        config,
        about["family"],
        about["segment_latent_frames"],
        about["blocks"],
        about["title"],
        about["lead_frames"],
    )


def _read_about(text: str) -> dict:
    """Return the metadata's JSON, checked."""
    try:
        about = read_json(text)
    except ValueError as error:
        raise ValueError(
            f"metadata {KEY} is {len(text)} characters that are no JSON ({error}); {MISSING_REMEDY}"
        ) from error
    version = about.get("version") if isinstance(about, dict) else None
    if version != VERSION:
        raise ValueError(
            f"metadata {KEY} is of version {short(version)}, and this Longreel reads {VERSION}; update the "
            f"pack, or {MISSING_REMEDY}"
        )
    for name, kind in FIELDS.items():
        value = about.get(name)
        fits = isinstance(value, (int, float) if kind is float else kind) and not isinstance(value, bool)
        if not fits or (kind in (int, float) and not (0 < value < math.inf)):
            wanted = {int: "a whole number above 0", float: "a number above 0", str: "text", list: "a list"}[kind]
            raise ValueError(f"metadata {KEY}: {name} is {short(value)}, not {wanted}; {MISSING_REMEDY}")
        if kind is int and value > LARGEST_NUMBER:  # before a module of it is built
            raise ValueError(
                f"metadata {KEY}: {name} is {short(value)}, and numbers up to {LARGEST_NUMBER:,} are read; "
                f"{MISSING_REMEDY}"
            )
    lead = about.setdefault("lead_frames", 0)
    if type(lead) is not int or not 0 <= lead <= LARGEST_NUMBER:
        raise ValueError(f"metadata {KEY}: lead_frames is {short(lead)}, not a whole number from 0; {MISSING_REMEDY}")
    if not all(type(number) is int for number in about["layers"]):
        raise ValueError(f"metadata {KEY}: layers is {short(about['layers'])}, not a list of blocks; {MISSING_REMEDY}")
    return about


def _listed(blocks) -> str:
    """Write numbers in order as people do, as in "0-3, 7"."""
    runs: list[list[int]] = []
    for number in sorted(blocks):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs) or "none"
