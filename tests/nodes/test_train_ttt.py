"""nodes/train_ttt.py: a graph that trains, saves and is used; cancelled it goes on; every input matters."""

import re
import threading
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.comfy_inprocess import import_comfyui

core = import_comfyui()

from comfy.model_management import InterruptProcessingException

from longreel.engine.ttt.files import load_ttt
from longreel.engine.ttt.layer import LINEAR
from longreel.hosts.ttt import apply as ttt
from longreel.hosts.ttt.student import TTTStudent
from longreel.nodes.train_ttt import LongreelTrainTTT
from tests.comfy_process import ComfyError
from tests.nodes.graphs import EULER, change, latent, refusals, whole, with_layers
from tests.nodes.ttt_training import FPS, ONE_STAGE, STEP_FRAMES, graph, weights, write_dataset

pytestmark = pytest.mark.slow  # ComfyUI processes of their own, or training


@pytest.fixture(scope="module")
def loaded(tiny_models):
    return tiny_models["wan21"].load()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def train(loaded, dataset, output):
    """Run the node in this process, in a run folder of its own -> (layers, curve, report)."""
    count = iter(range(1000))

    def run(stages: dict | None = None, **inputs):
        given = {
            "model": ttt.apply(loaded.model, None, heads=4),
            "clip": loaded.clip,
            "vae": loaded.vae,
            "dataset": dataset,
            "run": f"run {next(count)}",
            "stages": {**ONE_STAGE, **(stages or {})},
            "batch": 2,
            "segment_latent_frames": 3,
            "seed": 0,
            "held_out": 0,
            "plan_only": False,
            "compute": "float32",
            "ema": 0.5,
            "samples": 0,
        }
        with torch.inference_mode():  # as ComfyUI runs nodes
            return LongreelTrainTTT.execute(**{**given, **inputs}).result

    return run


@pytest.fixture(scope="module")
def base(train):
    return train()


def test_a_run_gives_layers_a_curve_and_a_report_that_begins_with_the_plan(base, output):
    layers, curve, report = base
    assert layers.family == "Wan" and layers.segment_latent_frames == 3 and len(layers.layers) == 4
    assert curve.shape == (1, 480, 960, 3) and 0 <= curve.min() < curve.max() <= 1
    head = report.splitlines()[0]
    assert all(word in head for word in ("segments", "tokens", "memory", "time per step"))
    assert "2 steps, loss of the first" in report and str(output / "longreel" / "ttt") in report


def test_the_same_run_twice_is_the_same_to_the_bit(train, base):
    assert torch.equal(weights(train()[0]), weights(base[0]))


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 1},
        {"batch": 1},
        {"held_out": 1},
        {"text_dropout": 1.0},
        {"ema": 0.0},
        {"clip_norm": 0.001},
        {"start_gate": 0.3},
        {"compute": "bfloat16"},
        {"stages": {"segments": 2}},
        {"stages": {"steps": 3}},
        {"stages": {"warmup_steps": 2}},
        {"stages": {"rate": 2e-2}},
        {"stages": {"end_rate": 5e-3}},
    ],
    ids=lambda changed: re.sub(r"\W+", "-", str(changed)),
)
def test_every_setting_of_the_training_changes_what_is_learned(train, base, changed):
    assert not torch.equal(weights(train(**changed)[0]), weights(base[0]))


def test_model_clip_vae_and_dataset_decide_what_is_learned(train, base, tiny_models, loaded, tmp_path):
    others = tiny_models["wan22_14b_low"].load()
    linear = train(model=ttt.apply(loaded.model, None, kind=LINEAR, heads=4))[0]
    assert linear.config.kind == LINEAR
    clips = write_dataset(tmp_path, 2, 1)
    for inputs in ({"model": ttt.apply(others.model, None, heads=4)}, {"dataset": clips}):
        assert not torch.equal(weights(train(**inputs)[0]), weights(base[0])), list(inputs)


def test_segments_are_as_long_as_asked_for(train, tmp_path):
    clips = write_dataset(tmp_path, 1, 1, seconds=2 * STEP_FRAMES / FPS)
    layers, _, report = train(dataset=clips, segment_latent_frames=5, batch=1)
    assert layers.segment_latent_frames == 5 and re.search(r"1 segments +1 +5 ", report)


@pytest.fixture(scope="module")
def train_with_memory(train, loaded, tmp_path_factory):
    """Train on segments of three chunks with settings of memory: once with the same ones."""
    given = {
        "dataset": write_dataset(tmp_path_factory.mktemp("long"), 2, 4, side=64),
        "stages": {"segments": 4},
        "model": ttt.apply(loaded.model, None, heads=4, chunk=16, blocks=frozenset({1, 2})),
    }
    return cache(lambda **settings: train(**given, **settings))


@pytest.mark.parametrize(
    ("plain", "changed"),
    [
        ({}, {"micro_batch": 2}),
        ({}, {"recompute_blocks": False}),
        ({"recompute_blocks": False, "scan_chunks": 0}, {"recompute_blocks": False, "scan_chunks": 1}),
    ],
)
def test_settings_of_memory_change_the_plan_and_nothing_that_is_learned(train_with_memory, plain, changed):
    before, after = train_with_memory(**plain), train_with_memory(**changed)
    assert memory(after[2]) != memory(before[2])
    torch.testing.assert_close(weights(after[0]), weights(before[0]), atol=2e-4, rtol=1e-3)


def memory(report: str) -> str:
    """Of a step, as the first line of the plan's table has it."""
    return re.findall(r"[\d.,]+ (?:[KMG]i)?B\b", report)[0]


def test_held_out_clips_are_measured_as_often_as_asked_for(train, base):
    assert "held-out clips" not in base[2]
    often = train(held_out=1, validate_every=1)[2]
    assert re.search(r"held-out clips: [\d.]+ after 1 steps, [\d.]+ after 2", often)
    assert "after 2 steps" in train(held_out=1, validate_every=5)[2]


def pages(report: str) -> list[np.ndarray]:
    """The pages of samples that a report speaks of."""
    last = Path(re.search(r"samples: \d+ pages, the last one (.*)", report)[1])
    return [np.array(Image.open(path)) for path in sorted(last.parent.iterdir())]


def test_samples_are_pages_of_the_last_clips_prompts(train):
    given = {"validate_every": 1, "sample_steps": 2}
    assert "samples:" not in train(**given)[2]
    first, second = pages(train(samples=1, **given)[2])
    assert first.shape == second.shape and (first != second).any()
    assert pages(train(samples=2, **given)[2])[0].shape[0] > first.shape[0]
    for changed in ({"sample_steps": 3}, {"sample_cfg": 1.0}):
        assert (pages(train(samples=1, **{**given, **changed})[2])[0] != first).any()


def test_the_title_goes_into_the_layers(train, base):
    assert (base[0].title, train(title="seen twice")[0].title) == ("", "seen twice")


def test_other_weights_go_into_a_file_for_a_lora_loader(train, base, output):
    report = train(stages={"adapter": "qkvo"})[2]
    assert "ttt.others.safetensors, for core's Load LoRA" in report and "others" not in base[2]


def test_the_papers_stages_follow_each_other(train, tmp_path):
    clips = write_dataset(tmp_path, 1, 3)
    stages = {"stages": "paper", "steps_share": 1e-4, "last": "9s"}
    _, _, report = train(stages=stages, dataset=clips, batch=1)
    assert [line.split()[0] for line in report.splitlines()[1:3]] == ["3s", "9s"]
    assert "2 steps, loss of the first" in report


def test_plan_only_trains_nothing(train, output):
    layers, _, report = train(run="only planned", plan_only=True)
    assert "measured on one step" in report and "loss of" not in report
    assert (layers.layers[0]["forward_video"] == 0.1).all()
    assert not list((output / "longreel" / "ttt" / "only planned").glob("*.safetensors"))


def test_a_run_goes_on_where_it_stands(train, base):
    assert torch.equal(weights(train(run="twice")[0]), weights(train(run="twice")[0]))
    with pytest.raises(ValueError, match="holds a run with seed 0, and now it is 1; change it back, or start a new"):
        train(run="twice", seed=1)


def test_cancel_in_the_middle_of_a_step_keeps_the_steps_before_it(train, base, monkeypatch):
    """Core raises it from inside the network."""
    predict, calls = TTTStudent.predict, []

    def cancelled(self, *args):
        calls.append(1)
        if len(calls) == 6:  # the plan's two, two of the first step, and then the second video of the second
            raise InterruptProcessingException
        return predict(self, *args)

    monkeypatch.setattr(TTTStudent, "predict", cancelled)
    with pytest.raises(InterruptProcessingException):
        train(run="cut short")
    monkeypatch.undo()
    layers, _, report = train(run="cut short")
    assert "goes on after 1 steps" in report and torch.equal(weights(layers), weights(base[0]))


def test_a_prompt_longer_than_text_tokens_is_named(train):
    with pytest.raises(ValueError, match="tokens and prompts are filled up to 2; shorten it, or set text_tokens to"):
        train(text_tokens=2)


# The whole graph, in a running ComfyUI.


def test_what_a_graph_trains_is_saved_loaded_and_sampled_with(server, tiny_models, clips):
    tiny = tiny_models["wan21"]
    previews, texts = [], []

    def listen(kind: str, data: object) -> None:
        (previews if kind == "preview" else texts if kind == "progress_text" else []).append(data)

    outputs = server.run(graph(tiny, clips, "whole graph"), listen=listen)
    assert "loss of the first" in outputs["report"]["text"][0] and outputs["curve"]["images"] and previews
    file = "whole graph_00001_.safetensors"
    assert "TTT-mlp for Wan: 4 of 4 blocks" in outputs["save"]["text"][0]
    prompt = whole(tiny, EULER)
    plain, trained = latent(server, prompt), latent(server, with_layers(prompt, file))
    assert trained.isfinite().all() and not torch.equal(trained, plain)


STEPS_TO_CANCEL = 15  # cancelled after three of them; an interrupt is there before the next few


def test_a_cancelled_run_goes_on_when_it_is_queued_again(server, tiny_models, clips):
    """And ends with the layers of a run that nobody cancelled."""
    tiny, steps = tiny_models["wan21"], {"stages.steps": STEPS_TO_CANCEL}
    stopped = graph(tiny, clips, "cancelled", **steps)

    def cancel(kind: str, data: object) -> None:
        if kind == "progress" and data["node"] == "train" and data["value"] >= 3:
            threading.Thread(target=server.interrupt).start()

    with pytest.raises(ComfyError, match=r"interrupted in LongreelTrainTTT"):
        server.run(stopped, listen=cancel)
    report = server.run(stopped)["report"]["text"][0]
    assert 0 < int(re.search(r"goes on after (\d+) steps", report)[1]) < STEPS_TO_CANCEL
    server.run(graph(tiny, clips, "in one go", **steps))
    folder = Path(server.base) / "models" / "ttt"
    ends = [weights(load_ttt(folder / f"{run}_00001_.safetensors")) for run in ("cancelled", "in one go")]
    assert torch.equal(*ends)


def test_names_that_leave_the_folder_are_refused_before_anything_is_loaded(server, tiny_models, clips):
    prompt = graph(tiny_models["wan21"], clips, "../outside")
    found = "\n".join(refusals(server, prompt))
    for what in ("run", "name"):
        assert f"{what} is '../outside', which names no folder or file" in found


def test_a_model_without_layers_is_refused(server, tiny_models, clips):
    prompt = change(graph(tiny_models["wan21"], clips, "none"), "train", model=["model", 0])
    with pytest.raises(ComfyError, match="carries no TTT layers to train"):
        server.run(prompt)
