"""nodes/train_ttt.py, nodes/ttt_dataset.py and nodes/save_ttt.py: a graph that trains, saves and is used; cancelled
it goes on; every input matters."""

import re
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.comfy_inprocess import import_comfyui

core = import_comfyui()

import folder_paths
from comfy.model_management import InterruptProcessingException

from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.engine.ttt.files import load_ttt
from longreel.engine.ttt.layer import LINEAR
from longreel.hosts.ttt import apply as ttt
from longreel.hosts.ttt.student import TTTStudent
from longreel.nodes.save_ttt import LongreelSaveTTT
from longreel.nodes.train_ttt import LongreelTrainTTT
from longreel.nodes.ttt_dataset import LongreelTTTDataset
from tests.comfy_process import ComfyError
from tests.nodes.graphs import EULER, change, latent, node, refusals, whole, with_layers

pytestmark = pytest.mark.slow  # ComfyUI processes of their own, or training

SIDE, STEP_FRAMES, FPS = 32, 8, 16  # segments of 3 latent frames are 8 pixel frames apart


def write_clip(
    folder: Path, name: str, prompts: list[str], side: int = SIDE, seconds: float = STEP_FRAMES / FPS
) -> None:
    """A folder of pictures in which a grey bar moves, and its storyboard."""
    (folder / name).mkdir(parents=True)
    for frame in range(round(len(prompts) * seconds * FPS) + 1):
        pixels = torch.full((side, side, 3), 40, dtype=torch.uint8)
        pixels[:, frame % side] = 200
        Image.fromarray(pixels.numpy()).save(folder / name / f"{frame:04}.png")
    board = Storyboard(tuple(Shot(prompt, seconds) for prompt in prompts), fps=FPS, width=side, height=side)
    (folder / f"{name}.json").write_text(board.to_json(), encoding="utf-8")


def write_dataset(folder: Path, clips: int = 3, segments: int = 2, **more) -> Path:
    for number in range(clips):
        write_clip(folder, f"clip{number}", [f"scene {number} {part}" for part in range(segments)], **more)
    return folder


ONE_STAGE = {
    "stages": "one stage",
    "segments": 1,
    "steps": 2,
    "warmup_steps": 0,
    "rate": 1e-2,
    "end_rate": 1e-3,
    "adapter": "ttt",
}


@pytest.fixture(scope="module")
def loaded(tiny_models):
    return tiny_models["wan21"].load()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """ComfyUI's output folder in this process, lent to the tests."""
    kept, folder = folder_paths.get_output_directory(), tmp_path_factory.mktemp("output")
    folder_paths.set_output_directory(str(folder))
    yield folder
    folder_paths.set_output_directory(kept)


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


def weights(layers) -> torch.Tensor:
    return torch.cat([value.flatten() for block in layers.layers.values() for value in block.values()])


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


@pytest.mark.parametrize(
    ("plain", "changed"),
    [
        ({}, {"micro_batch": 2}),
        ({}, {"recompute_blocks": False}),
        ({"recompute_blocks": False, "scan_chunks": 0}, {"recompute_blocks": False, "scan_chunks": 1}),
    ],
)
def test_settings_of_memory_change_the_plan_and_nothing_that_is_learned(train, loaded, tmp_path, plain, changed):
    """On segments of three chunks."""
    given = {
        "dataset": write_dataset(tmp_path, 2, 4, side=64),
        "stages": {"segments": 4},
        "model": ttt.apply(loaded.model, None, heads=4, chunk=16),
    }
    before, after = train(**given, **plain), train(**given, **changed)
    assert memory(after[2]) != memory(before[2])
    torch.testing.assert_close(weights(after[0]), weights(before[0]), atol=2e-4, rtol=1e-3)


def memory(report: str) -> str:
    """Of a step, as the first line of the plan's table has it."""
    return re.findall(r"[\d.,]+ (?:[KMG]i)?B\b", report)[0]


def test_held_out_clips_are_measured_as_often_as_asked_for(train):
    assert "held-out clips" not in train()[2]
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


def test_layers_are_saved_under_the_next_number_as_asked_for(base, tmp_path, monkeypatch):
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "ttt", ([str(tmp_path)], {".safetensors"}))
    names = [
        LongreelSaveTTT.execute(base[0], "mine", dtype, title).result[0]
        for dtype, title in (("bfloat16", ""), ("float32", "a title"))
    ]
    assert names == ["mine_00001_.safetensors", "mine_00002_.safetensors"]
    half, whole_ones = (load_ttt(tmp_path / name) for name in names)
    assert torch.equal(weights(whole_ones), weights(base[0])) and whole_ones.title == "a title"
    assert weights(half).dtype == torch.bfloat16 and half.title == base[0].title


class Video:
    """As core's data set nodes hand one on."""

    def __init__(self, frames: torch.Tensor):
        self.images, self.frame_rate = frames, FPS

    def get_components(self):
        return self


def collected(segment_seconds: float = 0.5, name: str = "clips", texts=("a\nb",), frames: int = 17):
    videos = [Video(torch.zeros(frames, SIDE, SIDE, 3)) for _ in range(1)]
    return LongreelTTTDataset.execute(
        {
            "clips": ["videos"],
            "videos": videos,
            "texts": list(texts),
            "name": [name],
            "segment_seconds": [segment_seconds],
        }
    ).result


def test_videos_with_texts_become_a_folder(output):
    folder, summary = collected()
    assert folder.parent == output / "longreel" / "datasets" and folder.name.startswith("clips-")
    assert summary == f"1 clips in {folder}, first clip_00000"
    assert len({collected()[0], collected(0.25)[0], collected(name="other")[0], collected(texts=["a\nc"])[0]}) == 4


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"texts": ["a", "b"]}, "1 videos come with 2 texts"),
        ({"texts": [" "]}, "clip 1: the text has no prompts"),
        ({"name": "../x"}, "name is '../x', which names no folder or file"),
    ],
)
def test_bad_clips_are_named(output, inputs, message):
    with pytest.raises(ValueError, match=message):
        collected(**inputs)


# The whole graph, in a running ComfyUI.


@pytest.fixture(scope="module")
def clips(server):
    """A folder in the input folder of the running ComfyUI."""
    folder = write_dataset(server.input_path / "ttt_clips")
    yield folder.name
    shutil.rmtree(folder)


def graph(tiny, clips: str, run: str, **inputs) -> dict:
    given = {
        "run": run,
        "stages": "one stage",
        **{f"stages.{name}": value for name, value in ONE_STAGE.items() if name != "stages"},
        "batch": 1,
        "segment_latent_frames": 3,
        "seed": 0,
        "held_out": 0,
        "plan_only": False,
    }
    return {
        **tiny.prompt_nodes(),
        "apply": node(
            "LongreelApplyTTT", **{"model": ["model", 0], "weights": "new", "weights.kind": "mlp", "layers": "all"}
        ),
        "dataset": node("LongreelTTTDataset", **{"clips": "folder", "clips.folder": clips}),
        "train": node(
            "LongreelTrainTTT",
            model=["apply", 0],
            clip=["clip", 0],
            vae=["vae", 0],
            dataset=["dataset", 0],
            **{**given, **inputs},
        ),
        "save": node("LongreelSaveTTT", ttt=["train", 0], name=run, stored_as="float32"),
        "report": node("PreviewAny", source=["train", 2]),
        "curve": node("SaveImage", images=["train", 1], filename_prefix="curve"),
    }


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


def test_a_cancelled_run_goes_on_when_it_is_queued_again(server, tiny_models, clips):
    """And ends with the layers of a run that nobody cancelled."""
    tiny, steps = tiny_models["wan21"], {"stages.steps": 40}
    stopped = graph(tiny, clips, "cancelled", **steps)

    def cancel(kind: str, data: object) -> None:
        if kind == "progress" and data["node"] == "train" and data["value"] >= 3:
            threading.Thread(target=server.interrupt).start()

    with pytest.raises(ComfyError, match=r"interrupted in LongreelTrainTTT"):
        server.run(stopped, listen=cancel)
    report = server.run(stopped)["report"]["text"][0]
    assert 0 < int(re.search(r"goes on after (\d+) steps", report)[1]) < 40
    server.run(graph(tiny, clips, "in one go", **steps))
    folder = Path(server.base) / "models" / "ttt"
    ends = [weights(load_ttt(folder / f"{run}_00001_.safetensors")) for run in ("cancelled", "in one go")]
    assert torch.equal(*ends)


def test_core_s_data_set_nodes_are_taken(server, tiny_models, clips):
    """Videos with captions, cut by one of core's nodes on the way."""
    folder = server.input_path / "captioned"
    folder.mkdir()
    try:
        for number in range(2):
            frames = [Image.open(path) for path in sorted((server.input_path / clips / "clip0").iterdir())]
            write_video(folder / f"v{number}.mp4", frames)
            (folder / f"v{number}.txt").write_text(f"first {number}\nsecond {number}\n", encoding="utf-8")
        prompt = {
            "load": node("LoadVideoTextDataSetFromFolder", folder="captioned"),
            "dataset": node(
                "LongreelTTTDataset",
                **{
                    "clips": "videos",
                    "clips.videos": ["load", 0],
                    "clips.texts": ["load", 1],
                    "clips.segment_seconds": STEP_FRAMES / FPS,
                    "clips.name": "captioned",
                },
            ),
            "summary": node("PreviewAny", source=["dataset", 1]),
        }
        summary = server.run(prompt)["summary"]["text"][0]
        assert summary.startswith("2 clips in ") and "captioned-" in summary
        prompt = graph(tiny_models["wan21"], clips, "captions") | {name: prompt[name] for name in ("load", "dataset")}
        assert "loss of the first" in server.run(prompt)["report"]["text"][0]
    finally:
        shutil.rmtree(folder)


def write_video(path: Path, frames: list[Image.Image]) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", FPS)
        stream.width, stream.height, stream.pix_fmt = *frames[0].size, "yuv420p"
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_image(frame.convert("RGB"))):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def test_names_that_leave_the_folder_are_refused_before_anything_is_loaded(server, tiny_models, clips):
    prompt = graph(tiny_models["wan21"], clips, "../outside")
    found = "\n".join(refusals(server, prompt))
    for what in ("run", "name"):
        assert f"{what} is '../outside', which names no folder or file" in found


def test_a_bad_clip_is_named_with_its_node(server, tiny_models, clips):
    bad = server.input_path / clips / "clip1.json"
    kept = bad.read_text(encoding="utf-8")
    try:
        bad.unlink()
        with pytest.raises(ComfyError, match=r"LongreelTTTDataset(.|\n)*1 of 3 clips have no prompts, first clip1"):
            server.run(graph(tiny_models["wan21"], clips, "bad"))
    finally:
        bad.write_text(kept, encoding="utf-8")


def test_a_model_without_layers_is_refused(server, tiny_models, clips):
    prompt = change(graph(tiny_models["wan21"], clips, "none"), "train", model=["model", 0])
    with pytest.raises(ComfyError, match="carries no TTT layers to train"):
        server.run(prompt)
