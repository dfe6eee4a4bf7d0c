"""training/shards.py and parallel.py: two processes on the CPU, started once by torchrun, are one with the whole batch,
keep a part of it each, and their runs can be stopped and gone on with.

A run that was begun by one process has the files of one begun by two, which one test compares; so one of them is
enough to go on with.
"""

import os
import shutil

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.distributed.tensor import DTensor

from longreel.training import draws
from longreel.training.checkpoint import load_last
from longreel.training.parallel import ALONE, World
from longreel.training.shards import Shards, local_bytes
from longreel.training.stage_clips import StageClips
from longreel.training.stages import LAYERS, Stage
from longreel.training.trainer import CHECKPOINTS, Trainer
from tests.training import test_parallel
from tests.training.tiny_student import WIDTH, TinyEncoder, TinyStudent, make_config, write_dataset
from tests.training.two_processes import run_together

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
STOPS = (2, 3, 5)  # within a stage, at its end, within the next one
STOPPED = {"float32": STOPS, "bfloat16": (5,)}  # where one stops is no matter of the numbers' form
BY_ONE = 5
STAGES = (
    Stage("1s", 1, 3, 1, ttt_rate=1e-3, others_rate=1e-3, batch=4, scan_chunks=2),
    Stage("2s", 2, 3, ttt_rate=1e-3, adapter=LAYERS, batch=4, checkpoint_blocks=False),
    Stage("2s again", 2, 2, ttt_rate=1e-3, others_rate=1e-3, batch=4),
)
TOGETHER = """
import sys
from pathlib import Path

from longreel.training.checkpoint import load_last
from longreel.training.parallel import world_of_torchrun
from tests.training import test_parallel, test_shards

with world_of_torchrun() as world:
    test_shards.two_processes(Path(sys.argv[1]), world)
    test_parallel.two_processes(Path(sys.argv[1]) / "two", world)
"""

pytestmark = pytest.mark.skipif(os.name == "nt", reason="torch for Windows has no Gloo store that torchrun could use")


class Stop(Exception):
    pass


class Picky(TinyStudent):
    """Of its attention's parameters one is for videos without prompts alone, and one for none. Two more weights are of
    kinds that cannot be divided."""

    def __init__(self, dtype: torch.dtype):
        super().__init__(dtype)
        for name in ("silent", "never"):
            self.attention.register_parameter(name, nn.Parameter(torch.full((WIDTH,), 0.1, dtype=dtype)))
        self.enter.register_parameter("quantised", nn.Parameter(torch.ones(4).to(torch.float8_e4m3fn), False))
        self.enter.register_parameter("number", nn.Parameter(torch.tensor(1.0), False))
        self.nothing = TinyEncoder().encode_text("")["text"]

    def _mix(self, x, layout):
        mixed = super()._mix(x, layout)
        silent = (self.heard[-1][:, 0] == self.nothing).all((1, 2))  # [B]
        return mixed + self.attention.silent * silent[:, None, None] if silent.any() else mixed


def trainer_of(folder, world: World = ALONE, dtype: str = "float32", micro_batch: int = 1) -> Trainer:
    """Validated by an uneven number of clips, and by pictures that take an evaluation of the student."""
    if world.speaks and not (folder / "clips").exists():
        write_dataset(folder / "clips", clips=4)
    world.wait()
    student = Picky(DTYPES[dtype])
    config = make_config(
        folder, STAGES, held_out=3, text_dropout=0.4, micro_batch=micro_batch, checkpoint_every=2, validate_every=2
    )
    clips = StageClips(config, TinyEncoder(), student.facts)

    def sample():
        windows = ((0, 3),)
        text = clips.cache.conditioning(("",))["text"][None]
        with torch.no_grad():
            said = student.predict(torch.ones(1, 4, 3, 2, 2), torch.full((1,), 0.5), {"text": text}, windows)
        return [said[0, :3].permute(1, 2, 3, 0).sigmoid().contiguous()]

    trainer = Trainer(student, clips, config, world, sample)
    trainer.prepare()
    return trainer


def train(
    folder, world: World = ALONE, dtype: str = "float32", stop: int | None = None, micro_batch: int = 1
) -> Trainer:
    """Planned first, which changes nothing: but for the runs that will be stopped, which end like the others."""
    trainer = trainer_of(folder, world, dtype, micro_batch)
    if stop is None:
        trainer.plan()

    def tell(progress) -> None:
        if progress.done == stop:
            raise Stop

    try:
        trainer.train(tell)
    except Stop:
        assert len(trainer.position.rows) == stop
    return trainer


def two_processes(folder, world: World) -> None:
    """What the tests compare, by one start of two processes."""
    for dtype in DTYPES:
        trainer = train(folder / f"whole {dtype}", world, dtype)
        kept = trainer.optimiser.state()
        own, all_bytes = local_bytes(kept.values()), sum(value.nbytes for value in kept.values())
        print(f"{dtype}: process {world.rank} keeps {own} of {all_bytes} bytes of masters, moments and averages")
        assert own < 0.6 * all_bytes
        enter = trainer.student.enter
        assert not any(isinstance(one, DTensor) for one in (enter.quantised, enter.number))
        assert isinstance(enter.weight, DTensor)
        weights = list(trainer.student.parameters())
        own, all_bytes = local_bytes(weights), sum(value.nbytes for value in weights)
        print(f"{dtype}: process {world.rank} keeps {own} of {all_bytes} bytes of weights", flush=True)
        assert own < 0.6 * all_bytes
        for stop in STOPPED[dtype]:
            stopped = folder / f"stopped {dtype} {stop}"
            train(stopped, world, dtype, stop)
            if world.speaks and dtype == "float32":
                shutil.copytree(stopped, folder / f"begun by two {stop}")
            world.wait()
            train(stopped, world, dtype)
    train(folder / "ended by two", world)
    train(folder / "at once", world, micro_batch=2)
    broken = trainer_of(folder / "broken", world)
    with torch.no_grad():
        broken.optimiser.parameters["blocks.0.forward_video"].fill_(float("nan"))
    with pytest.raises(ValueError, match="parameters are no numbers, first blocks.0."):
        broken.train()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where two processes have trained, and one has begun what they finish."""
    folder = tmp_path_factory.mktemp("shards")
    for stop in STOPS:
        train(folder / f"begun by one {stop}", stop=stop)
    shutil.copytree(folder / f"begun by one {BY_ONE}", folder / "ended by two")
    write_dataset(folder / "two" / "clips")
    (folder / "said").write_text(run_together(TOGETHER, folder))
    return folder


@pytest.fixture(scope="module")
def alone(folder):
    """Files of the same run by one process, which shows all videos at once."""
    train(folder / "alone", micro_batch=4)
    return files(folder / "alone")


def files(folder) -> dict[str, dict[str, torch.Tensor]]:
    found = {path.name: load_file(path) for path in sorted((folder / "run").rglob("*.safetensors"))}
    assert list(found) == ["00000008.safetensors", "ttt.others.safetensors", "ttt.safetensors"]
    return found


def assert_close(found, expected) -> None:
    assert found.keys() == expected.keys()
    for file, tensors in expected.items():
        assert found[file].keys() == tensors.keys()
        for name, value in tensors.items():
            torch.testing.assert_close(found[file][name], value, rtol=1e-3, atol=2e-5)


def test_what_cannot_be_divided_is_not_trained_by_several_processes():
    with pytest.raises(ValueError, match=r"scale has shape \[\] and dtype torch.float32, which 2 processes cannot"):
        Shards(TinyStudent().units(), {"scale": nn.Parameter(torch.tensor(1.0))}, World(0, 2))


def test_a_step_uses_a_parameter_in_both_processes_in_one_and_in_none():
    """What the runs below are about: a share of the processes, or none, has videos without prompts."""
    counts = set()
    for stage in STAGES:
        for step in range(stage.steps):
            silent = [draws.drops_text(0, stage.name, step, place, 0.4) for place in range(4)]
            counts.add(any(silent[:2]) + any(silent[2:]))
    assert counts >= {1, 2}


@pytest.mark.slow
def test_two_processes_train_what_one_does_where_each_uses_other_parameters(folder, alone):
    for name in ("whole float32", "at once"):
        assert_close(files(folder / name), alone)
    state = files(folder / "whole float32")["00000008.safetensors"]
    assert "first.attention.silent" in state and "first.attention.never" not in state


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "stop"), [(dtype, stop) for dtype, stops in STOPPED.items() for stop in stops])
def test_a_run_of_two_processes_that_was_stopped_ends_like_one_that_was_not(folder, dtype, stop):
    """To the bit."""
    one, other = files(folder / f"whole {dtype}"), files(folder / f"stopped {dtype} {stop}")
    for file, tensors in one.items():
        assert tensors.keys() == other[file].keys()
        assert all(torch.equal(value, other[file][name]) for name, value in tensors.items())


@pytest.mark.slow
@pytest.mark.parametrize("stop", STOPS)
def test_one_process_goes_on_with_the_run_of_two(folder, alone, stop, tmp_path):
    shutil.copytree(folder / f"begun by two {stop}", tmp_path, dirs_exist_ok=True)
    trainer = trainer_of(tmp_path)
    assert len(trainer.position.rows) == stop
    trainer.train()
    assert_close(files(tmp_path), alone)


@pytest.mark.slow
def test_two_processes_go_on_with_the_run_of_one(folder, alone):
    assert_close(files(folder / "ended by two"), alone)


@pytest.mark.slow
@pytest.mark.parametrize("stop", STOPS)
def test_a_checkpoint_of_one_process_is_one_of_two(folder, stop):
    """Wherever it stops."""
    one, two = (load_last(folder / f"begun by {who} {stop}" / "run" / CHECKPOINTS) for who in ("one", "two"))
    assert one.path.name == two.path.name == f"{stop:08}.safetensors"
    measured = [torch.tensor(about.about.pop("held_out")) for about in (one, two)]
    torch.testing.assert_close(*measured, rtol=1e-3, atol=2e-5)
    assert one.about == two.about
    assert_close({"": one.tensors}, {"": two.tensors})
    assert {name: value.dtype for name, value in one.tensors.items()} == {
        name: value.dtype for name, value in two.tensors.items()
    }


@pytest.mark.slow
def test_two_processes_train_what_one_does_with_the_whole_batch(folder, tmp_path):
    """Videos, noise and dropped text are those of the batch's places; sums of float32 differ in their order alone."""
    said = (folder / "said").read_text()
    assert said.count("2 processes have 2 different models; start all of them with the same files") == 2
    write_dataset(tmp_path / "clips")
    expected = test_parallel.run(tmp_path, ALONE)._tensors()
    found = load_file(folder / "two" / "run" / "checkpoints" / "00000006.safetensors")
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)
    assert (folder / "two" / "run" / "ttt.safetensors").is_file()
