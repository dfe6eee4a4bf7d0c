"""training/parallel.py: two processes on the CPU, started by torchrun, are one with the whole batch."""

import os

import pytest
import torch
from safetensors.torch import load_file

from longreel.training.parallel import ALONE, World
from longreel.training.stage_clips import StageClips
from longreel.training.stages import LAYERS, Stage
from longreel.training.trainer import Trainer
from tests.training.tiny_student import FACTS, TinyEncoder, TinyStudent, make_config, write_dataset
from tests.training.two_processes import run_together

STAGES = (
    Stage("1s", 1, 3, 1, ttt_rate=1e-2, others_rate=1e-2, batch=4),
    Stage("2s", 2, 3, ttt_rate=1e-3, adapter=LAYERS, batch=2),
)
TOGETHER = """
import sys
from pathlib import Path

from longreel.training.parallel import world_of_torchrun
from longreel.training.trainer import Trainer
from tests.training.test_parallel import run

with world_of_torchrun() as world:
    assert world.mean(world.rank) == 0.5 and world.agree(world.rank == 1) and not world.agree(False)
    world.check_same("one", "models")
    try:
        world.check_same(str(world.rank), "models")
    except ValueError as error:
        print(error, flush=True)
    run(Path(sys.argv[1]), world)
"""


def run(folder, world: World) -> Trainer:
    config = make_config(folder, STAGES, held_out=1, text_dropout=0.5)
    trainer = Trainer(TinyStudent(), StageClips(config, TinyEncoder(), FACTS), config, world)
    trainer.prepare()
    trainer.plan()
    trainer.train()
    return trainer


@pytest.mark.parametrize(("batch", "size", "expected"), [(4, 2, [range(2), range(2, 4)]), (3, 1, [range(3)])])
def test_a_batch_is_shared_evenly(batch, size, expected):
    assert [World(rank, size).share(batch) for rank in range(size)] == expected


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(ValueError, match="a batch of 3 videos cannot be shared evenly by 2 processes; use a multiple"):
        World(1, 2).share(3)


def test_a_process_alone_has_nothing_to_wait_for():
    ALONE.wait()
    assert ALONE.speaks and ALONE.mean(0.25) == 0.25 and ALONE.agree(True) and not ALONE.agree(False)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="torch for Windows has no Gloo store that torchrun could use")
def test_two_processes_train_what_one_does_with_the_whole_batch(tmp_path):
    """Videos, noise and dropped text are those of the batch's places; sums of float32 differ in their order alone."""
    for name in ("one", "two"):
        write_dataset(tmp_path / name / "clips")
    said = run_together(TOGETHER, tmp_path / "two")
    assert said.count("2 processes have 2 different models; start all of them with the same files") == 2
    trainer = run(tmp_path / "one", ALONE)
    found = load_file(tmp_path / "two" / "run" / "checkpoints" / "00000006.safetensors")
    expected = trainer._tensors()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)
    assert (tmp_path / "two" / "run" / "ttt.safetensors").is_file()
