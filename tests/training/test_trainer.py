"""training/trainer.py: what a run trains, shows, saves, and that stopping it changes nothing."""

import os
import signal
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from longreel.engine.sampling.denoising import VPrediction
from longreel.engine.ttt.files import load_ttt
from longreel.engine.ttt.layer import LACT
from longreel.training import draws
from longreel.training.live_bytes import LiveBytes
from longreel.training.stage_clips import StageClips
from longreel.training.stages import LAYERS, QKVO, Stage
from longreel.training.trainer import Trainer
from tests.training.tiny_student import TinyEncoder, TinyStudent, make_config, write_clip, write_dataset


class Stop(Exception):
    pass


def trainer_of(config, student=None, sample=None, dtype=torch.float32) -> Trainer:
    student = student or TinyStudent(dtype)
    trainer = Trainer(student, StageClips(config, TinyEncoder(), student.facts), config, sample=sample)
    trainer.prepare()
    return trainer


def stop_after(step: int):
    def tell(progress) -> None:
        if progress.done == step:
            raise Stop

    return tell


@pytest.fixture
def folder(tmp_path):
    write_dataset(tmp_path / "clips")
    return tmp_path


def test_training_lowers_the_loss_and_leaves_a_file_that_loads(folder):
    config = make_config(
        folder,
        (Stage("1s", 1, 25, 2, ttt_rate=2e-2, others_rate=2e-2, batch=3),),
        held_out=1,
        validate_every=5,
        clip_norm=1.0,
    )
    trainer = trainer_of(config)
    path = trainer.train()
    losses = [loss for _, loss in trainer.position.held_out]
    assert len(losses) == 5 and losses[-1] < 0.9 * losses[0]
    found = load_ttt(path)
    assert (found.family, found.segment_latent_frames, found.blocks, found.title) == ("Wan", 3, 1, "tiny")
    for name, value in trainer.optimiser.average.items():  # the average, and not the last step's weights
        if name.startswith("blocks.0."):
            assert torch.equal(found.layers[0][name.removeprefix("blocks.0.")], value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stopped", [1, 3, 4, 6])
def test_an_interrupted_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path, stopped, dtype):
    """Two stages of 3 steps that train other weights; stopped within one, at its end, and at the end of all."""
    stages = (
        Stage("1s", 1, 3, 1, ttt_rate=1e-2, others_rate=1e-2, batch=2),
        Stage("2s", 2, 3, ttt_rate=1e-3, adapter=LAYERS, batch=3),
    )
    files = []
    for name, stop in (("whole", None), ("stopped", stopped)):
        write_dataset(tmp_path / name / "clips")
        config = make_config(tmp_path / name, stages, held_out=1, text_dropout=0.5, checkpoint_every=2)
        if stop is not None:
            with pytest.raises(Stop):
                trainer_of(config, dtype=dtype).train(stop_after(stop))
        trainer = trainer_of(config, dtype=dtype)
        assert len(trainer.position.rows) == (stop or 0)
        trainer.train()
        files.append([load_file(path) for path in sorted((config.folder).rglob("*.safetensors"))])
        files[-1].append(dict(enumerate(trainer.position.held_out)))
    whole, resumed = files
    assert len(whole) == 4  # checkpoint, layers, others, held-out losses
    for one, other in zip(whole[:3], resumed[:3], strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert whole[3] == resumed[3]


def test_lact_layers_lower_the_loss_and_a_stopped_run_goes_on_as_if_it_had_not_been(tmp_path):
    stage = Stage("2s", 2, 6, 1, ttt_rate=2e-2, adapter=LAYERS, batch=2, checkpoint_blocks=False)
    found = []
    for name, stop in (("whole", None), ("stopped", 4)):
        write_dataset(tmp_path / name / "clips")
        config = make_config(
            tmp_path / name, (stage,), held_out=1, validate_every=2, checkpoint_every=3, clip_norm=1.0, ema=0.5
        )
        if stop is not None:
            with pytest.raises(Stop):
                trainer_of(config, TinyStudent(kind=LACT)).train(stop_after(stop))
        trainer = trainer_of(config, TinyStudent(kind=LACT))
        assert len(trainer.position.rows) == (stop or 0)
        path = trainer.train()
        assert load_ttt(path).config.kind == LACT
        losses = [loss for _, loss in trainer.position.held_out]
        assert losses[2] < losses[1] < losses[0]
        found.append((load_file(path), losses))
    assert all(torch.equal(found[0][0][name], found[1][0][name]) for name in found[0][0])
    assert found[0][1] == found[1][1]


def test_a_run_that_is_done_is_not_made_again(folder):
    config = make_config(folder)
    trainer_of(config).train()
    told = []
    again = trainer_of(config)
    again.train(told.append)
    assert not told and again.plan().text() == "all 6 steps are made"


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_text_is_dropped_for_whole_videos_and_counted(folder, share):
    """What the student hears, against the empty prompt and against what the run has recorded."""
    student = TinyStudent()
    trainer = trainer_of(make_config(folder, (Stage("2s", 2, 12, batch=4),), text_dropout=share, ema=0), student)
    trainer.train()
    empty = TinyEncoder().encode_text("")["text"]
    silent = torch.stack([(heard == empty).flatten(2).all(2) for heard in student.heard]).flatten(0, 1)  # [videos, 2]
    assert len(silent) == 48 and torch.equal(silent.all(1), silent.any(1))
    assert int(silent.all(1).sum()) == sum(row.dropped for row in trainer.position.rows)
    assert {0.0: 0, 1.0: 48}.get(share, int(silent.all(1).sum())) == int(silent.all(1).sum())
    assert share != 0.5 or 12 < int(silent.all(1).sum()) < 36


def test_a_micro_batch_changes_memory_and_not_the_result(tmp_path):
    found = []
    for size in (1, 2, 4):
        write_dataset(tmp_path / str(size) / "clips")
        config = make_config(tmp_path / str(size), (Stage("1s", 1, 3, ttt_rate=1e-2, batch=4),), micro_batch=size)
        student = TinyStudent()
        trainer_of(config, student).train()
        assert {len(heard) for heard in student.heard} == {size}
        found.append(student.state_dict())
    for other in found[1:]:
        for name, value in found[0].items():
            torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-6)


def test_memory_is_linear_in_the_number_of_checkpoints(folder):
    """A scan of many chunks of 4 tokens: each state that is kept costs the same."""
    write_clip(folder / "long", "clip", 12)
    config = make_config(folder, (Stage("12s", 12, 1, batch=1),))
    config = replace(config, data=replace(config.data, folder=str(folder / "long")))
    student = TinyStudent()
    trainer = trainer_of(config, student)

    def kept(chunks: int, blocks: bool = False) -> int:
        student.checkpoint(chunks, blocks)
        with LiveBytes() as memory:
            loss = trainer._losses(config.stages[0], 0, [0])
        return memory.alive - loss.nbytes

    chunks_of_scan = 31  # 25 frames of 4 tokens and 12 texts of 2
    counts = {every: -(-chunks_of_scan // every) for every in (1, 2, 4, 8)}
    found = {every: kept(every) for every in counts}
    each = [(found[every] - found[2 * every]) / (counts[every] - counts[2 * every]) for every in (1, 2, 4)]
    assert max(each) < 1.2 * min(each)
    assert kept(0) > 3 * found[4]
    assert kept(8, blocks=True) < 0.5 * found[8]


def test_both_kinds_of_prediction_are_trained(folder):
    """The loss of a step, against the form that the paper writes for CogVideoX."""
    student = TinyStudent()
    alphas = torch.linspace(0.99, 0.0, 100, dtype=torch.float64)
    student.objective = VPrediction(alphas)
    config = make_config(folder, (Stage("1s", 1, 4, ttt_rate=1e-2, batch=2),), text_dropout=0.0)
    trainer = trainer_of(config, student)
    seen = []
    predict = student.predict

    def watched(noised, levels, conditioning, windows):
        seen.append((noised, levels, predict(noised, levels, conditioning, windows)))
        return seen[-1][2]

    student.predict = watched
    found = trainer._losses(config.stages[0], 0, [0, 1])
    noised, levels, said = seen[0]
    shown = draws.order(config.seed, "1s", 0, 2, len(trainer.clips.trained[0]))
    clean = torch.stack([trainer.clips.latent(trainer.clips.trained[0][place]) for place in shown])
    alpha = alphas[levels.long()].view(-1, 1, 1, 1, 1)
    denoised = alpha * noised - (1 - alpha**2).sqrt() * said
    paper = ((denoised - clean).square() / (1 - alpha**2)).flatten(1).mean(1)
    torch.testing.assert_close(found, paper.float(), rtol=1e-4, atol=1e-5)
    trainer.train()
    assert all(row.loss > 0 for row in trainer.position.rows)


def test_weights_that_only_an_earlier_stage_trained_are_kept_and_saved(folder):
    stages = (Stage("1s", 1, 2, others_rate=1e-2, batch=2, adapter=QKVO), Stage("2s", 2, 2, batch=2, adapter=LAYERS))
    student = TinyStudent()
    before = student.attention.weight.detach().clone()
    config = make_config(folder, stages)
    trainer_of(config, student).train()
    others = load_file(config.folder / "ttt.others.safetensors")
    assert set(others) == {"attention.weight", "attention.bias"}
    assert torch.equal(others["attention.weight"], student.attention.weight)
    assert not torch.equal(others["attention.weight"], before)


def test_layers_alone_leave_no_other_weights(folder):
    config = make_config(folder, (Stage("1s", 1, 2, batch=2, adapter=LAYERS),))
    trainer_of(config).train()
    assert not (config.folder / "ttt.others.safetensors").exists()


def test_the_plan_is_measured_and_changes_nothing(folder):
    student = TinyStudent()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    plan = trainer_of(make_config(folder), student).plan()
    assert [(one.stage.name, one.steps, one.latent_frames, one.tokens, one.videos) for one in plan.stages] == [
        ("1s", 3, 3, 3 * 4 + 2, 6),
        ("2s", 3, 5, 5 * 4 + 2 * 2, 3),
    ]
    assert plan.measured.seconds > 0 and plan.measured.bytes > 0 and plan.done == 0
    assert plan.stages[0].parameters == sum(
        value.numel() for part in (student.block, student.attention) for value in part.parameters()
    )
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert all(value.grad is None for value in student.parameters())


def test_pictures_are_made_while_it_runs(folder):
    shown = []

    def sample():
        shown.append(None)
        return [torch.rand(9, 16, 16, 3)]

    config = make_config(folder, held_out=1, validate_every=2, checkpoint_every=2)
    trainer = trainer_of(config, sample=sample)
    seen = []
    trainer.train(lambda progress: seen.append((config.folder / "loss.png").exists()))
    assert seen == [False, True, True, True, True, True]
    with Image.open(config.folder / "loss.png") as curve:
        assert curve.format == "PNG" and curve.size == trainer.curve().size
    assert sorted(path.name for path in (config.folder / "samples").iterdir()) == [
        "00000002.png",
        "00000003.png",
        "00000004.png",
        "00000006.png",
    ]
    assert len(shown) == 4 and [step for step, _ in trainer.position.held_out] == [2, 3, 4, 6]


def test_held_out_clips_are_not_trained_on(folder):
    trainer = trainer_of(make_config(folder, held_out=1))
    assert {part.clip.name for part in trainer.clips.trained[0]} == {"clip0", "clip1"}
    assert {part.clip.name for part in trainer.clips.held_out[0]} == {"clip2"}


def test_holding_out_everything_is_refused(folder):
    with pytest.raises(ValueError, match="data.held_out is 3 and the data set has 3 clips; leave at least one"):
        trainer_of(make_config(folder, held_out=3))


def test_a_data_set_that_changed_since_the_run_began_is_refused(folder):
    config = make_config(folder)
    with pytest.raises(Stop):
        trainer_of(config).train(stop_after(2))
    (folder / "clips" / "clip1" / "0000.png").write_bytes((folder / "clips" / "clip0" / "0005.png").read_bytes())
    with pytest.raises(ValueError, match="the one that this run began with: 1 of 3 clips have changed, first clip1"):
        trainer_of(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: replace(config, seed=1), "holds a run with seed 0, and now it is 1"),
        (lambda config: replace(config, training=replace(config.training, ema=0.5)), "holds a run with training "),
        (
            lambda config: replace(config, stages=(replace(config.stages[0], steps=4), config.stages[1])),
            "holds a run whose stage 1 of 1 begun is Stage",
        ),
    ],
)
def test_another_recipe_is_no_resumed_run(folder, change, message):
    config = make_config(folder)
    with pytest.raises(Stop):
        trainer_of(config).train(stop_after(2))
    with pytest.raises(ValueError, match=message):
        trainer_of(change(config))


def test_another_model_is_no_resumed_run(folder):
    config = make_config(folder)
    with pytest.raises(Stop):
        trainer_of(config).train(stop_after(2))
    student = TinyStudent()
    student.identity = "another"
    with pytest.raises(ValueError, match="holds a run of another model, 2 steps long: tiny then, another now"):
        trainer_of(config, student)


def test_stages_that_have_not_begun_may_change_and_more_may_follow(folder):
    config = make_config(folder)
    with pytest.raises(Stop):
        trainer_of(config).train(stop_after(2))
    longer = replace(config, stages=(config.stages[0], Stage("2s again", 2, 1, batch=2), Stage("end", 1, 1, batch=2)))
    trainer = trainer_of(longer)
    trainer.train()
    assert len(trainer.position.rows) == 5


def test_memory_settings_may_change_when_a_run_goes_on(folder):
    config = make_config(folder)
    with pytest.raises(Stop):
        trainer_of(config).train(stop_after(2))
    stages = tuple(replace(stage, scan_chunks=0, checkpoint_blocks=False) for stage in config.stages)
    trainer_of(replace(config, stages=stages, training=replace(config.training, micro_batch=2))).train()


@pytest.mark.skipif(os.name == "nt", reason="a limit on the size of files is POSIX's")
def test_a_disk_that_is_full_in_the_middle_of_a_checkpoint_leaves_a_run_that_goes_on(folder):
    """The limit on the size of files stands for the disk: the kernel fails the write half way."""
    import resource

    config = make_config(folder, (Stage("1s", 1, 6, ttt_rate=1e-2, batch=2),), checkpoint_every=2)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(progress) -> None:
        if progress.done == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))

    try:
        with pytest.raises(OSError, match="could not be written .*; the last good one, 00000002.safetensors, is still"):
            trainer_of(config).train(fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    trainer = trainer_of(config)
    assert len(trainer.position.rows) == 2
    trainer.train()
    assert [path.name for path in (config.folder / "checkpoints").iterdir()] == ["00000006.safetensors"]
