"""training/stages.py: the paper's recipe as data."""

import pytest

from longreel.engine.ttt.layer import LINEAR, MLP
from longreel.training.stages import ALL, LAYERS, PAPER, QKVO, Stage, scaled

PUBLISHED = [  # docs/ttt.md, Training: name, segments, steps of MLP, steps of linear, warm-up, rate of the TTT layers
    ("3s", 1, 5000, 5000, 100, 1e-4),
    ("9s", 3, 5000, 5000, 100, 1e-5),
    ("18s", 6, 1000, 1000, 50, 1e-5),
    ("30s", 10, 1000, 500, 50, 1e-5),
    ("63s", 21, 250, 250, 25, 1e-5),
]


def test_the_stages_are_the_published_ones():
    for kind, steps in ((MLP, 2), (LINEAR, 3)):
        assert [
            (stage.name, stage.segments, stage.steps, stage.warmup_steps, stage.ttt_rate) for stage in PAPER[kind]
        ] == [(row[0], row[1], row[steps], row[4], row[5]) for row in PUBLISHED]
        for stage in PAPER[kind]:
            assert (stage.ttt_end_rate, stage.others_rate, stage.others_end_rate, stage.batch) == (1e-5, 1e-5, 1e-5, 64)
    assert [stage.adapter for stage in PAPER[MLP]] == [ALL, QKVO, QKVO, QKVO, QKVO]
    assert [stage.adapter for stage in PAPER[LINEAR]] == [QKVO] * 5
    assert [stage.scan_chunks for stage in PAPER[LINEAR]] == [4, 16, 16, 16, 16]


def test_a_smaller_recipe_keeps_the_shape_of_the_large_one():
    small = scaled(PAPER[MLP], 0.01, "18s", batch=4, adapter=LAYERS)
    assert [(stage.name, stage.steps, stage.warmup_steps, stage.batch) for stage in small] == [
        ("3s", 50, 1, 4),
        ("9s", 50, 1, 4),
        ("18s", 10, 0, 4),
    ]
    assert {stage.adapter for stage in small} == {LAYERS}
    assert [stage.steps for stage in scaled(PAPER[MLP], 1e-9)] == [1] * 5
    assert scaled(PAPER[MLP]) == PAPER[MLP]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps_share": 0.0}, "steps_share is 0, not above 0"),
        ({"last": "10s"}, "the last stage is '10s'; use 3s, 9s, 18s, 30s, 63s"),
        ({"batch": 0}, "stage 3s: batch is 0; use 1 or more"),
    ],
)
def test_a_recipe_that_cannot_be_made_smaller_so_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        scaled(PAPER[MLP], **wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"segments": 0}, "segments is 0; use 1 or more"),
        ({"steps": 0}, "steps is 0; use 1 or more"),
        ({"warmup_steps": 11}, "warmup_steps is 11 and the stage has 10 steps; use 0 to 10"),
        ({"ttt_rate": -1e-5}, "ttt_rate is -1e-05; use 0 or more"),
        ({"others_end_rate": float("nan")}, "others_end_rate is nan; use 0 or more"),
        ({"adapter": "lora"}, "adapter is 'lora'; use ttt, qkvo, sft"),
        ({"scan_chunks": -1}, "scan_chunks is -1; use 16, or 0"),
    ],
)
def test_numbers_out_of_range_are_named(wrong, message):
    with pytest.raises(ValueError, match=f"stage first: {message}"):
        Stage(**{"name": "first", "segments": 1, "steps": 10, **wrong})
