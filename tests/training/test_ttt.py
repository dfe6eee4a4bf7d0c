"""training/ttt.py: the command."""

import os
import signal
import subprocess
import sys
import time

import pytest

from longreel.engine.ttt.files import load_ttt
from longreel.training import checkpoint, command, ttt
from tests.training import tiny_student
from tests.training.tiny_student import write_dataset

CONFIG = """{
  "title": "by command", "folder": "run",
  "model": {"builder": "tests.training.tiny_student:build"},
  "data": {"folder": "clips", "width": 16, "height": 16, "segment_latent_frames": 3},
  "training": {"checkpoint_every": 1000},
  "stage": [{"name": "1s", "segments": 1, "steps": STEPS, "batch": 1, "scan_chunks": 0, "checkpoint_blocks": false}]
}"""


@pytest.fixture
def config(tmp_path):
    """A .json file, which every Python reads, of 4 steps."""
    write_dataset(tmp_path / "clips", clips=2)
    path = tmp_path / "config.json"
    path.write_text(CONFIG.replace("STEPS", "4"))
    return path


def test_the_command_trains_and_a_second_one_has_nothing_to_do(config, capsys):
    assert ttt.main([str(config)]) == 0
    said = capsys.readouterr().out
    assert "steps left" in said and "step 1 of 4: loss" in said and "step 4 of 4" in said
    file = config.parent / "run" / "ttt.safetensors"
    assert f"finished: {file}" in said and load_ttt(file).title == "by command"
    assert ttt.main([str(config)]) == 0
    assert "all 4 steps are made" in capsys.readouterr().out


def test_the_plan_is_shown_and_nothing_is_trained(config, capsys):
    assert ttt.main([str(config), "--plan"]) == 0
    said = capsys.readouterr().out
    assert "time per step" in said and "measured on one step of stage 1s on cpu" in said
    assert not (config.parent / "run").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"width": 16', '"width": 32', "clip0 has 16x16 pixels and the data set 32x16"),
        ('"training": {', '"training": {"emma": 1, ', 'training.emma is no known key; did you mean "ema"?'),
        ("tiny_student:build", "tiny_student:make", "cannot be loaded"),
        ("tests.training.tiny_student:build", "no_such_module:build", "cannot be loaded"),
        ("tiny_student:build", "tiny_student", "cannot be loaded"),
    ],
)
def test_bad_input_ends_with_its_message(config, capsys, old, new, message):
    config.write_text(config.read_text().replace(old, new))
    assert ttt.main([str(config)]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and message in said.err and not said.out


def test_ctrl_c_ends_after_the_step_with_a_checkpoint(config, capsys, monkeypatch):
    def interrupting(settings):
        student, encoder, sample = tiny_student.build(settings)
        predict, calls = student.predict, []

        def predict_and_press(*args):
            calls.append(None)
            if len(calls) == 4:  # two are the plan's
                signal.raise_signal(signal.SIGINT)
            return predict(*args)

        student.predict = predict_and_press
        return student, encoder, sample

    monkeypatch.setattr(ttt, "builder_of", lambda config: interrupting)
    handler = signal.getsignal(signal.SIGINT)
    assert ttt.main([str(config)]) == command.INTERRUPTED
    assert "interrupted; the same command goes on from here" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is handler
    assert len(checkpoint.load_last(config.parent / "run" / "checkpoints").tensors["rows"]) == 2
    monkeypatch.undo()
    assert ttt.main([str(config)]) == 0
    assert "goes on after 2 steps" in capsys.readouterr().out


def test_a_second_ctrl_c_ends_at_once(monkeypatch):
    monkeypatch.setattr(command, "SAME_WISH_SECONDS", -1.0)
    with command.interrupts() as asked:
        signal.raise_signal(signal.SIGINT)
        assert len(asked) == 1
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals to other processes are POSIX's")
def test_a_process_that_is_asked_to_end_leaves_a_checkpoint(config):
    config.write_text(CONFIG.replace("STEPS", "100000"))
    process = subprocess.Popen(
        [sys.executable, "-m", "longreel.training.ttt", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if "step 1 of 100000" in line:
            break
    time.sleep(0.2)
    process.terminate()
    _, said = process.communicate(timeout=120)
    assert process.returncode == command.INTERRUPTED, said
    assert len(checkpoint.load_last(config.parent / "run" / "checkpoints").tensors["rows"]) >= 1


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="a killed process is POSIX's")
def test_a_killed_process_goes_on_from_its_last_checkpoint(config, capsys):
    config.write_text(CONFIG.replace("STEPS", "100000").replace("1000}", "1}"))
    process = subprocess.Popen(
        [sys.executable, "-m", "longreel.training.ttt", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    for line in process.stdout:
        if "step 1 of 100000" in line:
            break
    time.sleep(0.5)
    process.kill()
    process.communicate(timeout=120)
    made = len(checkpoint.load_last(config.parent / "run" / "checkpoints").tensors["rows"])
    assert made >= 1
    assert ttt.main([str(config), "--plan"]) == 0
    assert f"goes on after {made:,} steps" in capsys.readouterr().out
