"""training/parallel.py: who shows which videos of a batch; two processes are started in test_shards.py."""

import pytest

from longreel.training.parallel import ALONE, World
from longreel.training.stage_clips import StageClips
from longreel.training.stages import LAYERS, Stage
from longreel.training.trainer import Trainer
from tests.training.tiny_student import FACTS, TinyEncoder, TinyStudent, make_config

STAGES = (
    Stage("1s", 1, 3, 1, ttt_rate=1e-2, others_rate=1e-2, batch=4),
    Stage("2s", 2, 3, ttt_rate=1e-3, adapter=LAYERS, batch=2),
)


def run(folder, world: World) -> Trainer:
    config = make_config(folder, STAGES, held_out=1, text_dropout=0.5)
    trainer = Trainer(TinyStudent(), StageClips(config, TinyEncoder(), FACTS), config, world)
    trainer.prepare()
    trainer.plan()
    trainer.train()
    return trainer


def two_processes(folder, world: World) -> None:
    """What tests/training/test_shards.py, which starts two processes, compares with a run of one."""
    assert world.mean(world.rank) == 0.5 and world.agree(world.rank == 1) and not world.agree(False)
    world.check_same("one", "models")
    try:
        world.check_same(str(world.rank), "models")
    except ValueError as error:
        print(error, flush=True)
    run(folder, world)


@pytest.mark.parametrize(("batch", "size", "expected"), [(4, 2, [range(2), range(2, 4)]), (3, 1, [range(3)])])
def test_a_batch_is_shared_evenly(batch, size, expected):
    assert [World(rank, size).share(batch) for rank in range(size)] == expected


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(ValueError, match="a batch of 3 videos cannot be shared evenly by 2 processes; use a multiple"):
        World(1, 2).share(3)


def test_a_process_alone_has_nothing_to_wait_for():
    ALONE.wait()
    assert ALONE.speaks and ALONE.mean(0.25) == 0.25 and ALONE.agree(True) and not ALONE.agree(False)
