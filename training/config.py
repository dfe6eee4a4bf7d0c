"""A training run as a TOML file.

    title = "Wan 2.1 1.3B, cartoon"      # goes into the finished file
    folder = "runs/cartoon"              # checkpoints, pictures and the finished layers; relative to this file
    seed = 0

    [model]                              # all but `builder` is the builder's; see hosts/ttt_builder.py
    builder = ".hosts.ttt_builder:build" # the default; a module that starts with a dot is one of this pack

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

tomllib reads it, which Python has from 3.11 on; for 3.10 the same keys are read from a .json file. A key that is not
known is an error that names the nearest known one. Which model, clips and prompts there are is not known here.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_origin

from ..engine.storyboard import nearest
from ..engine.ttt_layer import MLP
from .stages import PAPER, Stage, scaled

BUILDER = ".hosts.ttt_builder:build"


@dataclass(frozen=True)
class Data:
    """folder: clips with storyboards. cache: where their latents and conditionings go; "cache" in `folder` if empty.
    width, height: pixels of every clip. segment_latent_frames: of each prompt, 2 or more. held_out: clips, the last by
    name, that are not trained on but measured, 0 or more."""

    folder: str
    width: int
    height: int
    segment_latent_frames: int = 13
    held_out: int = 0
    cache: str = ""


@dataclass(frozen=True)
class Training:
    """micro_batch: videos that a process shows the model at once; memory grows with it, the result does not depend on
    it. text_dropout: share of the videos that are shown without prompts, 0..1; 0.1 as published. weight_decay, betas,
    clip_norm: see training/optimise.py. ema: 0..1, share of the average that a step keeps; 0 for none.
    checkpoint_every, validate_every: steps, counted over all stages."""

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
    """One run. model: the builder's own settings. stages: one or more, with names of their own.

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
        for name, value, least in (("data.held_out", self.data.held_out, 0), ("seed", self.seed, 0),
                                   ("training.micro_batch", training.micro_batch, 1),
                                   ("training.checkpoint_every", training.checkpoint_every, 1),
                                   ("training.validate_every", training.validate_every, 1)):
            if value < least:
                raise ValueError(f"{name} is {value}; use {least} or more")
        if not 0 <= training.text_dropout <= 1:
            raise ValueError(f"training.text_dropout is {training.text_dropout:g}, not 0 to 1; use 0.1 as published")
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"{len(names)} stages have {len(set(names))} names; give each of at least 1 its own")

    @property
    def cache_folder(self) -> Path:
        return Path(self.data.cache or Path(self.data.folder) / "cache")

    def settled(self) -> dict[str, Any]:
        """What a resumed run must share with the one that began, as JSON holds it; stages are compared apart."""
        return json.loads(json.dumps({"seed": self.seed, "training": {
            name: value for name, value in asdict(self.training).items()
            if name not in ("checkpoint_every", "validate_every", "micro_batch")},
            "segment_latent_frames": self.data.segment_latent_frames, "held_out": self.data.held_out}))


def read_config(path: Path) -> Config:
    """Raises ValueError, naming the file, the key and the nearest known one, or what its value must be."""
    path = Path(path)
    try:
        return config_of(_read(path), path.parent)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error


def config_of(table: Mapping[str, Any], beside: Path) -> Config:
    """A parsed file; relative folders are relative to `beside`."""
    known = ("title", "folder", "seed", "model", "data", "training", "recipe", "stage")
    _check_keys(table, known, "")
    for name in ("folder", "data"):
        if name not in table:
            raise ValueError(f"{name} is missing, 1 of the 2 keys that every run needs; write folder = \"runs/first\" "
                             f"and a table [data]")
    if ("recipe" in table) == ("stage" in table):
        raise ValueError(f"{2 * ('stage' in table)} of the 2 keys recipe and stage are there; write a table [recipe], "
                         f"or stages as [[stage]]")
    data = _fill(Data, table["data"], "data")
    data = replace(data, folder=str(beside / data.folder), cache=str(beside / data.cache) if data.cache else "")
    model = dict(_table(table.get("model", {}), "model"))
    builder = _value(model.pop("builder", BUILDER), str, "model.builder")
    return Config(beside / _value(table["folder"], str, "folder"), data, _stages(table),
                  _fill(Training, table.get("training", {}), "training"), _value(table.get("title", ""), str, "title"),
                  _value(table.get("seed", 0), int, "seed"), builder, model)


def _stages(table: Mapping[str, Any]) -> tuple[Stage, ...]:
    if "stage" in table:
        stages = table["stage"] if isinstance(table["stage"], list) else [table["stage"]]
        return tuple(_fill(Stage, stage, f"stage[{number}]") for number, stage in enumerate(stages))
    recipe = dict(_table(table["recipe"], "recipe"))
    changes = {one.name: kind for one, kind in _kinds(Stage) if one.name not in ("name", "segments", "steps",
                                                                                 "warmup_steps")}
    own = {"kind": str, "steps_share": float, "last": str}
    _check_keys(recipe, (*own, *changes), "recipe")
    given = {name: _value(value, (own | changes)[name], f"recipe.{name}") for name, value in recipe.items()}
    kind = given.pop("kind", MLP)
    if kind not in PAPER:
        raise ValueError(f"recipe.kind {kind!r} is none of {len(PAPER)}; use {' or '.join(PAPER)}")
    return scaled(PAPER[kind], given.pop("steps_share", 1.0), given.pop("last", None), **given)


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise ValueError("0 files of this name; write one, see `python -m longreel.training.ttt --help`")
    text = path.read_text(encoding="utf-8")
    if path.suffix.lower() == ".json":
        table = json.loads(text)
        return _table(table, "the file")
    if sys.version_info < (3, 11):
        raise ValueError("Python 3.10 cannot read TOML and 3.11 can; write the same keys as a .json file")
    import tomllib

    return tomllib.loads(text)


def _fill(kind: type, given: Any, where: str) -> Any:
    kinds = {one.name: value for one, value in _kinds(kind)}
    _check_keys(_table(given, where), tuple(kinds), where)
    for one in fields(kind):
        if one.default is MISSING and one.name not in given:
            raise ValueError(f"{where}.{one.name} is missing, 1 of {len(kinds)} keys; write {one.name} = ...")
    return kind(**{name: _value(value, kinds[name], f"{where}.{name}") for name, value in given.items()})


def _kinds(kind: type) -> list[tuple[Any, type]]:
    """Each field of a dataclass with the kind of value that it takes."""
    return [(one, get_origin(one.type) or one.type) for one in fields(kind)]


def _check_keys(given: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for name in given:
        if name not in known:
            place = f"{where}.{name}" if where else name
            raise ValueError(f'{place} is none of {len(known)} known keys; did you mean "{nearest(name, known)}"?')


def _table(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} is {value!r}, and 1 table of keys is needed; write [{where}]")
    return value


def _value(value: Any, kind: type, where: str) -> Any:
    if kind is float and type(value) is int:
        return float(value)
    if kind is tuple and isinstance(value, list) and [type(one) in (int, float) for one in value] == [True, True]:
        return tuple(float(one) for one in value)
    if type(value) is not kind:
        wanted = {int: "a whole number", float: "a number", str: "text", bool: "true or false", tuple: "two numbers"}
        raise ValueError(f"{where} is {value!r}, not {wanted[kind]}; correct it")
    return value
