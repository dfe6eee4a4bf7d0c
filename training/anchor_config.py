"""Read a run that trains an anchor LoRA from a TOML file.

    title = "Wan 2.1 1.3B, anchors"      # goes into the finished file
    folder = "runs/anchors"              # checkpoints, the loss curve and the finished LoRA; relative to this file
    seed = 0

    [model]                              # all but `builder` is the builder's
    builder = ".hosts.anchor.student:build"
    diffusion_model = "models/diffusion_models/wan2.1_t2v_1.3B_bf16.safetensors"

    [data]                               # as for TTT, see training/dataset.py; held_out clips are measured, not
    trained on folder = "clips"
    width = 832
    height = 480
    segment_latent_frames = 21

    [lora]
    rank = 256
    targets = "blocks.*.self_attn.*, blocks.*.cross_attn.*, blocks.*.ffn.*"
    steps = 6000
    batch = 8

A key that is not known is an error that names the nearest known one. Without [data] the builder brings clips of its
own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..engine.lora.low_rank import MOST_RANK
from .config import Data
from .config_file import check_keys, fill, read_table, table_of, value_of

BUILDER = ".hosts.anchor.student:build"


@dataclass(frozen=True)
class LoRASettings:
    """These settings say what is trained. rank: 1 to 256, as published 256. alpha: above 0, or 0 for the rank. targets:
    patterns of names of linear layers, separated by commas, "*" for any text.

    steps, warmup_steps; rate, end_rate: AdamW's, warmed up in a line and falling as a cosine. batch: clips of a step;
    micro_batch: of them, shown at once: memory grows with it, the result does not depend on it.

    first_share: 0..1 of the clips, whose anchor is their first latent frame; that of the others is drawn from all
    frames. still_share: 0..1 of the anchors at later frames, that are a picture encoded by itself, where the clips
    bring such pictures; the others are the clip's own latent frame. text_dropout: 0..1 of the clips, shown without
    prompt. noise_from, noise_to: share of the noise schedule that is trained, 0 (clean) to 1; for Wan 2.2's high-noise
    expert 0.875 to 1, for its low-noise one 0 to 0.875.

    Raises ValueError that names the field for numbers out of range.
    """

    rank: int = MOST_RANK
    alpha: float = 0.0
    targets: str = "blocks.*"
    steps: int = 6000
    warmup_steps: int = 100
    rate: float = 1e-4
    end_rate: float = 1e-5
    batch: int = 8
    micro_batch: int = 1
    first_share: float = 0.5
    still_share: float = 0.5
    text_dropout: float = 0.1
    noise_from: float = 0.0
    noise_to: float = 1.0
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    ema: float = 0.99
    checkpoint_every: int = 250
    validate_every: int = 250

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= MOST_RANK:
            raise ValueError(f"lora.rank is {self.rank}, not 1 to {MOST_RANK}; use {MOST_RANK} as published")
        for name in ("steps", "batch", "micro_batch", "checkpoint_every", "validate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"lora.{name} is {getattr(self, name)}; use 1 or more")
        for name in ("first_share", "still_share", "text_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"lora.{name} is {getattr(self, name):g}, not 0 to 1")
        if not 0 <= self.warmup_steps <= self.steps:
            raise ValueError(
                f"lora.warmup_steps is {self.warmup_steps} and there are {self.steps} steps; use 0 to {self.steps}"
            )
        if not 0 <= self.noise_from < self.noise_to <= 1:
            raise ValueError(
                f"lora.noise_from {self.noise_from:g} to noise_to {self.noise_to:g} is no part of 0 to 1; use 0 "
                f"to 1 for all noise levels"
            )
        for name in ("alpha", "rate", "end_rate"):
            if getattr(self, name) < 0:
                raise ValueError(f"lora.{name} is {getattr(self, name):g}; use 0 or more")

    @property
    def patterns(self) -> tuple[str, ...]:
        return tuple(part.strip() for part in self.targets.split(",") if part.strip())


@dataclass(frozen=True)
class AnchorConfig:
    """This is one run. model: the builder's own settings. data: None where the builder brings the clips."""

    folder: Path
    lora: LoRASettings = LoRASettings()
    data: Data | None = None
    title: str = ""
    seed: int = 0
    builder: str = BUILDER
    model: Mapping[str, Any] = field(default_factory=dict)


def read_config(path: Path) -> AnchorConfig:
    """Read a config file. Raises ValueError, naming the file, the key and the nearest known one, or what its value must
    be.
    """
    path = Path(path)
    try:
        return config_of(read_table(path), path.parent)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error


def config_of(table: Mapping[str, Any], beside: Path) -> AnchorConfig:
    """Return the config of a parsed file; relative folders are relative to `beside`."""
    check_keys(table, ("title", "folder", "seed", "model", "data", "lora"), "")
    if "folder" not in table:
        raise ValueError('the key folder is missing; write folder = "runs/first"')
    data = None
    if "data" in table:
        given = dict(table_of(table["data"], "data"))
        for name in ("folder", "cache"):
            if given.get(name):
                given[name] = str(beside / value_of(given[name], str, f"data.{name}"))
        data = fill(Data, given, "data")
    model = dict(table_of(table.get("model", {}), "model"))
    builder = value_of(model.pop("builder", BUILDER), str, "model.builder")
    return AnchorConfig(
        beside / value_of(table["folder"], str, "folder"),
        fill(LoRASettings, table.get("lora", {}), "lora"),
        data,
        value_of(table.get("title", ""), str, "title"),
        value_of(table.get("seed", 0), int, "seed"),
        builder,
        model,
    )
