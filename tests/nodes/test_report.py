"""nodes/report.py: in a running ComfyUI the node ends a graph; every input matters; the JSON lies beside the video."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.comfy_inprocess import import_comfyui

import_comfyui()

from comfy_api.latest import InputImpl

from longreel.engine.measure.video_file import write_video
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.nodes.report import LongreelReport
from tests.comfy_process import ComfyError
from tests.engine.measure.films import film
from tests.hosts.measure.test_report import FRAMES, NO_SLOW, TIMELINE, vision
from tests.nodes.graphs import node, planned
from tests.tiny_text_encoders import tiny_text_encoder


def test_a_video_of_the_editor_is_measured_against_its_plan(server, tiny_models):
    prompt = planned(tiny_models["wan21"])
    frames = 97  # of the plan: three shots of 2 s
    path = write_video([film(frames, step=0.2)], server.input_path, "measured", 1, 16.0, 10).path
    prompt["video"] = node("LoadVideo", file=path.name)
    prompt["report"] = node("LongreelReport", video=["video", 0], timeline=["plan", 0], motion=False, cuts=False)
    prompt["plot"] = node("SaveImage", images=["report", 1], filename_prefix="plot")
    outputs = server.run(prompt)
    (text,) = outputs["report"]["text"]
    assert text.startswith(f"{path.name}: {frames} frames, 32 x 32 pixels, 16 fps, 6.06 s")
    file = text.splitlines()[-1].removeprefix("JSON: ")
    assert file == str(server.output_path / "longreel" / f"{path.stem.strip('_')}_report_00001_.json")
    figures = json.loads(Path(file).read_text(encoding="utf-8"))
    assert [shot["frames"] for shot in figures["shots"]] == [33, 32, 32]
    assert [joint["how"] for joint in figures["joints"]] == ["blend", "cut"]
    assert outputs["report"]["images"] and outputs["plot"]["images"]  # the plot is shown in the node, and wired on
    prompt["plan"] = {**prompt["plan"], "inputs": {**prompt["plan"]["inputs"], "storyboard": ["other", 0]}}
    prompt["other"] = node("LongreelStoryboard", text=Storyboard((Shot("a", 1.0),), width=32, height=32).to_json())
    with pytest.raises(ComfyError, match="has 97 frames and the timeline 17; wire the video that was made from"):
        server.run(prompt)


@pytest.fixture
def report(output, monkeypatch):
    """Run the node on frames in memory; other inputs by name. Gives the text and the figures."""
    monkeypatch.setattr(LongreelReport, "hidden", SimpleNamespace(prompt=None, extra_pnginfo=None), raising=False)

    def run(**inputs):
        given = {"images": film(FRAMES), **NO_SLOW, **inputs}
        text, plot, figures = LongreelReport.execute(**given).result
        assert plot.ndim == 4 and plot.shape[-1] == 3 and 0 <= plot.min() < plot.max() <= 1
        return text, json.loads(figures)

    return run


def test_every_input_changes_the_report(report):
    _, plain = report()
    assert (plain["video"]["fps"], plain["shots"], plain["whole"]["cscv"]) == (16.0, [], None)
    _, other = report(images=film(FRAMES, seed=4))
    assert other["whole"]["worst_pair"] != plain["whole"]["worst_pair"]
    _, planned_ = report(timeline=TIMELINE)
    assert planned_["video"]["fps"] == 8 and len(planned_["shots"]) == 3 and len(planned_["joints"]) == 2
    assert report(timeline=TIMELINE, fps=12.0)[1]["video"]["fps"] == 12
    _, seen = report(timeline=TIMELINE, clip_vision=vision())
    assert seen["whole"]["cscv"] is not None and seen["whole"]["text_alignment"] is None
    _, read = report(timeline=TIMELINE, clip_vision=vision(), clip=tiny_text_encoder("clip_l"))
    assert all(shot["text_alignment"] is not None for shot in read["shots"])
    assert report(cuts=True)[1]["whole"]["cuts"] == {
        "pyscenedetect": {"found": 0, "planned": 0, "unplanned_frames": []}
    }
    moved = report(images=film(5, step=2.0), motion=True)[1]["whole"]
    assert moved["motion_pixels"] > 0 and moved["mawe_code"] > 0 and moved["mawe_paper"] > 0


def test_the_file_is_what_is_put_out_and_lies_beside_the_video(report, output):
    folder = output / "films"
    folder.mkdir(exist_ok=True)
    path = write_video([film(FRAMES)], folder, "ship", 1, 8.0, 10).path
    video = InputImpl.VideoFromFile(str(path))
    texts = [report(video=video, images=None)[0] for _ in range(2)]
    files = [folder / f"ship_00001_report_0000{n}_.json" for n in (1, 2)]
    assert [text.splitlines()[-1] for text in texts] == [f"JSON: {file}" for file in files]
    assert json.loads(files[1].read_text()) == report(video=video, images=None)[1]
    said = report()[0].splitlines()[-1]
    assert said.startswith(f"JSON: {output / 'longreel' / 'images_report_0000'}")


def test_a_long_name_is_cut_so_that_its_report_fits(report, output):
    path = write_video([film(6)], output, "界" * 80, 1, 8.0, 10).path
    said = report(video=InputImpl.VideoFromFile(str(path)), images=None)[0].splitlines()[-1]
    assert said.endswith("界_report_00001_.json")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"images": None}, "neither video nor images is wired; wire one of them"),
        ({"video": object()}, "video and images are both wired; leave one out"),
        ({"images": torch.rand(4, 32, 32, 3)}, "the video has 4 frames, and at least 5 are measured"),
    ],
)
def test_what_cannot_be_measured_is_refused(report, inputs, message):
    with pytest.raises(ValueError, match=message):
        report(**inputs)
