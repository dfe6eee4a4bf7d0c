"""training/config.py: a run as a file, whose mistakes are named."""

import json
import sys

import pytest

from longreel.engine.ttt.layer import LINEAR
from longreel.training.config import BUILDER, Training, config_of, read_config
from longreel.training.stages import PAPER, Stage, scaled

DATA = {"folder": "clips", "width": 832, "height": 480}
STAGE = {"name": "first", "segments": 1, "steps": 10}
TABLE = {"folder": "runs/first", "data": DATA, "stage": [STAGE]}

needs_tomllib = pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib comes with Python 3.11; .json is read")


def test_what_is_not_said_is_as_published(tmp_path):
    config = config_of(TABLE, tmp_path)
    assert config.stages == (Stage("first", 1, 10),) and config.builder == BUILDER and config.model == {}
    assert config.training == Training(text_dropout=0.1, weight_decay=1e-4, betas=(0.9, 0.95), clip_norm=0.1)
    assert config.data.segment_latent_frames == 13
    assert config.cache_folder == tmp_path / "clips" / "cache" and config.folder == tmp_path / "runs" / "first"


@needs_tomllib
def test_the_file_that_the_help_shows_is_read(tmp_path):
    from longreel.training import config as module

    shown = module.__doc__.split("\n\n", 1)[1].rsplit("\n\n", 1)[0]
    (tmp_path / "run.toml").write_text(shown)
    config = read_config(tmp_path / "run.toml")
    assert config.title == "Wan 2.1 1.3B, cartoon" and (config.data.width, config.data.held_out) == (832, 2)
    assert config.stages == scaled(PAPER["mlp"], 0.1, "18s", batch=8)


@needs_tomllib
def test_every_key_of_a_file_arrives(tmp_path):
    (tmp_path / "run.toml").write_text("""
title = "all"
folder = "/elsewhere"
seed = 3
[model]
builder = "a.b:c"
unet = "wan.safetensors"
[data]
folder = "clips"
cache = "shared"
width = 64
height = 96
segment_latent_frames = 5
held_out = 4
[training]
micro_batch = 2
text_dropout = 0
weight_decay = 0.5
betas = [0, 0.99]
clip_norm = 1
ema = 0.5
checkpoint_every = 7
validate_every = 8
[[stage]]
name = "one"
segments = 2
steps = 3
warmup_steps = 1
ttt_rate = 1
ttt_end_rate = 2.0
others_rate = 3.0
others_end_rate = 4.0
adapter = "ttt"
batch = 5
scan_chunks = 6
checkpoint_blocks = false
[[stage]]
name = "two"
segments = 4
steps = 5
""")
    config = read_config(tmp_path / "run.toml")
    assert str(config.folder) == "/elsewhere" and (config.title, config.seed, config.builder) == ("all", 3, "a.b:c")
    assert config.model == {"unet": "wan.safetensors"} and config.cache_folder == tmp_path / "shared"
    assert (config.data.width, config.data.height, config.data.segment_latent_frames, config.data.held_out) == (
        64,
        96,
        5,
        4,
    )
    assert config.training == Training(2, 0.0, 0.5, (0.0, 0.99), 1.0, 0.5, 7, 8)
    assert config.stages == (Stage("one", 2, 3, 1, 1.0, 2.0, 3.0, 4.0, "ttt", 5, 6, False), Stage("two", 4, 5))


def test_the_same_keys_are_read_from_json(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(TABLE))
    assert read_config(tmp_path / "run.json") == config_of(TABLE, tmp_path)


def test_a_recipe_is_the_papers_made_smaller(tmp_path):
    table = {"folder": "r", "data": DATA, "recipe": {"kind": LINEAR, "last": "9s", "adapter": "ttt", "ttt_rate": 1e-3}}
    assert config_of(table, tmp_path).stages == scaled(PAPER[LINEAR], 1.0, "9s", adapter="ttt", ttt_rate=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sed": 1}, 'sed is no known key; did you mean "seed"?'),
        ({"data": DATA | {"heigth": 3}}, r'data.heigth is no known key; did you mean "height"?'),
        ({"training": {"microbatch": 3}}, r'training.microbatch is no known key; did you mean "micro_batch"?'),
        ({"stage": [STAGE | {"warm_up": 3}]}, r'stage\[0\].warm_up is no known key; did you mean "warmup_steps"?'),
        ({"data": {"folder": "clips", "width": 8}}, "data.height is missing; write height = ..."),
        ({"data": DATA | {"width": 83.5}}, "data.width is 83.5, not a whole number"),
        ({"data": DATA | {"width": True}}, "data.width is True, not a whole number"),
        ({"title": 4}, "title is 4, not text"),
        ({"training": {"betas": [0.9]}}, r"training.betas is \[0.9\], not two numbers"),
        ({"training": {"text_dropout": 1.5}}, "training.text_dropout is 1.5, not 0 to 1"),
        ({"training": {"micro_batch": 0}}, "training.micro_batch is 0; use 1 or more"),
        ({"seed": -1}, "seed is -1; use 0 or more"),
        ({"data": [1]}, r"data is \[1\], not a table; write \[data\]"),
        ({"stage": [STAGE, STAGE]}, "2 stages have 1 names"),
        ({"stage": []}, "0 stages have 0 names"),
        ({"recipe": {}}, "the file has both of the keys recipe and stage"),
    ],
)
def test_a_mistake_is_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        config_of(TABLE | change, tmp_path)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"kind": "lstm"}, "recipe.kind is 'lstm'; use mlp or linear or lact"),
        ({"steps": 4}, "recipe.steps is no known key"),
        ({"last": "10s"}, "the last stage is '10s'"),
    ],
)
def test_a_mistake_in_a_recipe_is_named(tmp_path, recipe, message):
    with pytest.raises(ValueError, match=message):
        config_of({"folder": "r", "data": DATA, "recipe": recipe}, tmp_path)


@pytest.mark.parametrize("missing", ["folder", "data"])
def test_a_key_that_every_run_needs_is_named(tmp_path, missing):
    with pytest.raises(ValueError, match=f"the key {missing} is missing"):
        config_of({name: value for name, value in TABLE.items() if name != missing}, tmp_path)


def test_a_run_without_stages_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the file has neither of the keys recipe and stage"):
        config_of({"folder": "r", "data": DATA}, tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [("run.json", "{", "run.json: "), ("run.json", "[]", r"run.json: the file is \[\], not a table")],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_config(tmp_path / name)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="none.toml: there is no such file"):
        read_config(tmp_path / "none.toml")


def test_what_a_resumed_run_must_share_leaves_out_what_changes_no_weight(tmp_path):
    def settled(**training):
        return config_of(TABLE | {"training": training}, tmp_path).settled()

    assert settled(micro_batch=4, checkpoint_every=1, validate_every=2) == settled()
    assert settled(ema=0.5) != settled() and settled(text_dropout=0.2) != settled()
