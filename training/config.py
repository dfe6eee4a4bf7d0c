"""Read a training run from a TOML file.

    title = "Wan 2.1 1.3B, cartoon"      # goes into the finished file
    folder = "runs/cartoon"              # checkpoints, pictures and the finished layers; relative to this file
    seed = 0

    [model]                              # all but `builder` is the builder's; see hosts/ttt/builder.py
    builder = ".hosts.ttt.builder:build" # the default; a module that starts with a dot is one of this pack

    [data]
    folder = "clips"                     # see training/dataset.py; relative to this file
    width = 832
    height = 480
    segment_latent_frames = 13
    held_out = 2

    [training]
    micro_batch = 1

    [recipe]                             # the paper's stages, or smaller ones; instead of it any number of [[stage]]
    kind = "mlp"
    steps_share = 0.1
    last = "18s"
    batch = 8

The same keys are read from a .json file (training/config_file.py). Which model, clips and prompts there are is not
known here.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..engine.ttt.layer import MLP
from .config_file import check_keys, fill, kinds_of, read_table, table_of, value_of
from .stages import PAPER, Stage, scaled

BUILDER = ".hosts.ttt.builder:build"


@dataclass(frozen=True)
class Data:
    """These settings name the data. folder: clips with storyboards. cache: where their latents and conditionings go;
    "cache" in `folder` if empty. width, height: pixels of every clip. segment_latent_frames: of each prompt, 2 or more.
    held_out: clips, the last by name, that are not trained on but measured, 0 or more.
    """

    folder: str
    width: int
    height: int
    segment_latent_frames: int = 13
    held_out: int = 0
    cache: str = ""


@dataclass(frozen=True)
class Training:
    """These settings say how to train. micro_batch: videos that a process shows the model at once; memory grows with
    it, the result does not depend on it. text_dropout: share of the videos that are shown without prompts, 0..1; 0.1 as
    published. weight_decay, betas, clip_norm: see training/optimise.py. ema: 0..1, share of the average that a step
    keeps; 0 for none. checkpoint_every, validate_every: steps, counted over all stages.
    """

    micro_batch: int = 1
    text_dropout: float = 0.1
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.95)
    clip_norm: float = 0.1
    ema: float = 0.999
    checkpoint_every: int = 100
    validate_every: int = 250


@dataclass(frozen=True)
class Config:
    """This is one run. model: the builder's own settings. stages: one or more, with names of their own.

    Raises ValueError that names the field for numbers out of range.
    """

    folder: Path
    data: Data
    stages: tuple[Stage, ...]
    training: Training = Training()
    title: str = ""
    seed: int = 0
    builder: str = BUILDER
    model: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        training = self.training
        for name, value, least in (
            ("data.held_out", self.data.held_out, 0),
            ("seed", self.seed, 0),
            ("training.micro_batch", training.micro_batch, 1),
            ("training.checkpoint_every", training.checkpoint_every, 1),
            ("training.validate_every", training.validate_every, 1),
        ):
            if value < least:
                raise ValueError(f"{name} is {value}; use {least} or more")
        if not 0 <= training.text_dropout <= 1:
            raise ValueError(f"training.text_dropout is {training.text_dropout:g}, not 0 to 1; use 0.1 as published")
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) != len(names):
            raise ValueError(
                f"{len(names)} stages have {len(set(names))} names; write at least one stage, each with a name of its "
                f"own"
            )

    @property
    def cache_folder(self) -> Path:
        return Path(self.data.cache or Path(self.data.folder) / "cache")

    def settled(self) -> dict[str, Any]:
        """Return what a resumed run must share with the one that began, as JSON holds it; stages are compared
        apart.
        """
        return json.loads(
            json.dumps(
                {
                    "seed": self.seed,
                    "training": {
                        name: value
                        for name, value in asdict(self.training).items()
                        if name not in ("checkpoint_every", "validate_every", "micro_batch")
                    },
                    "segment_latent_frames": self.data.segment_latent_frames,
                    "held_out": self.data.held_out,
                }
            )
        )


def read_config(path: Path) -> Config:
    """Read a config file. Raises ValueError, naming the file, the key and the nearest known one, or what its value must
    be.
    """
    path = Path(path)
    try:
        return config_of(read_table(path), path.parent)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error


def config_of(table: Mapping[str, Any], beside: Path) -> Config:
    """Return the config of a parsed file; relative folders are relative to `beside`."""
    known = ("title", "folder", "seed", "model", "data", "training", "recipe", "stage")
    check_keys(table, known, "")
    for name in ("folder", "data"):
        if name not in table:
            raise ValueError(f'the key {name} is missing; write folder = "runs/first" and a table [data]')
    if ("recipe" in table) == ("stage" in table):
        raise ValueError(
            f"the file has {'both' if 'stage' in table else 'neither'} of the keys recipe and stage; write a table "
            f"[recipe], or stages as [[stage]]"
        )
    data = fill(Data, table["data"], "data")
    data = replace(data, folder=str(beside / data.folder), cache=str(beside / data.cache) if data.cache else "")
    model = dict(table_of(table.get("model", {}), "model"))
    builder = value_of(model.pop("builder", BUILDER), str, "model.builder")
    return Config(
        beside / value_of(table["folder"], str, "folder"),
        data,
        _stages(table),
        fill(Training, table.get("training", {}), "training"),
        value_of(table.get("title", ""), str, "title"),
        value_of(table.get("seed", 0), int, "seed"),
        builder,
        model,
    )


def _stages(table: Mapping[str, Any]) -> tuple[Stage, ...]:
    if "stage" in table:
        stages = table["stage"] if isinstance(table["stage"], list) else [table["stage"]]
        return tuple(fill(Stage, stage, f"stage[{number}]") for number, stage in enumerate(stages))
    recipe = dict(table_of(table["recipe"], "recipe"))
    changes = {
        one.name: kind for one, kind in kinds_of(Stage) if one.name not in ("name", "segments", "steps", "warmup_steps")
    }
    own = {"kind": str, "steps_share": float, "last": str}
    check_keys(recipe, (*own, *changes), "recipe")
    given = {name: value_of(value, (own | changes)[name], f"recipe.{name}") for name, value in recipe.items()}
    kind = given.pop("kind", MLP)
    if kind not in PAPER:
        raise ValueError(f"recipe.kind is {kind!r}; use {' or '.join(PAPER)}")
    return scaled(PAPER[kind], given.pop("steps_share", 1.0), given.pop("last", None), **given)
