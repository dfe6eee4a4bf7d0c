"""nodes/ttt_dataset.py: videos with texts and folders become clips to train on; what is wrong with one is named."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.comfy_inprocess import import_comfyui

core = import_comfyui()

from longreel.nodes.ttt_dataset import LongreelTTTDataset
from tests.comfy_process import ComfyError
from tests.nodes.graphs import node
from tests.nodes.ttt_training import FPS, SIDE, STEP_FRAMES, graph

pytestmark = pytest.mark.slow  # ComfyUI processes of their own, or training


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
        ({"texts": [" "]}, "clip 1: the text has no prompts; write one for each segment"),
        ({"name": "../x"}, "name is '../x', which names no folder or file"),
    ],
)
def test_bad_clips_are_named(output, inputs, message):
    with pytest.raises(ValueError, match=message):
        collected(**inputs)


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


def test_a_bad_clip_is_named_with_its_node(server, tiny_models, clips):
    bad = server.input_path / clips / "clip1.json"
    kept = bad.read_text(encoding="utf-8")
    try:
        bad.unlink()
        with pytest.raises(ComfyError, match=r"LongreelTTTDataset(.|\n)*1 of 3 clips have no prompts, first clip1"):
            server.run(graph(tiny_models["wan21"], clips, "bad"))
    finally:
        bad.write_text(kept, encoding="utf-8")
