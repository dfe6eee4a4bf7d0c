"""nodes/decode_to_video.py: every input matters, the file restores its graph, memory stays flat."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest
import torch

from tests.comfy_inprocess import import_comfyui

core = import_comfyui()

import comfy.sd
import comfy.utils
import execution
import folder_paths
from comfy import model_management
from comfy.cli_args import args
from comfy_api.latest import InputImpl
from comfy_extras.nodes_video import SaveVideo

from longreel.engine.plan.facts import ModelFacts
from longreel.engine.plan.timeline import plan_timeline
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.nodes.decode_to_video import LongreelDecodeToVideo
from tests.nodes.decode_memory import HEIGHT, WIDTH

GRAPH = {"prompt": {"1": {"class_type": "LongreelDecodeToVideo"}}, "extra_pnginfo": {"workflow": {"nodes": [1, 2]}}}
MOST_GROWTH = 0.1


@pytest.fixture(scope="module")
def vae(tiny_models):
    return comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(tiny_models["wan21"].vae_path)))


@pytest.fixture
def output(tmp_path: Path) -> Iterator[Path]:
    """ComfyUI's output folder, lent to the test."""
    kept = folder_paths.get_output_directory()
    folder_paths.set_output_directory(str(tmp_path))
    yield tmp_path
    folder_paths.set_output_directory(kept)


@pytest.fixture
def decode(vae, output: Path, monkeypatch) -> Callable[..., Any]:
    """Run the node on 3 latent frames (9 pixel frames) of 32x32 pixels; other inputs by name. Gives a NodeOutput."""
    monkeypatch.setattr(LongreelDecodeToVideo, "hidden", SimpleNamespace(**GRAPH), raising=False)
    samples = torch.randn(1, 16, 3, 4, 4, generator=torch.Generator().manual_seed(1))

    def run(**inputs: Any):
        given = {"vae": vae, "samples": {"samples": samples}, "fps": 16.0, "filename_prefix": "a/b", "crf": 10}
        return LongreelDecodeToVideo.execute(**{**given, **inputs})

    return run


def path_of(result) -> Path:
    return Path(result.result[0].get_stream_source())


def test_a_cut_of_the_timeline_changes_the_frames_behind_it(decode):
    board = Storyboard((Shot("a", 5 / 16), Shot("b", 4 / 16, "cut")), width=32, height=32)
    wan = ModelFacts("Wan", 16, 4, 8, 16, 21, 16.0)
    timeline = plan_timeline(board, wan)
    whole, cut = (decode(crf=1, timeline=t).result[0].get_components().images for t in (None, timeline))
    assert whole.shape == cut.shape and timeline.take_lengths == [2, 1]
    assert (whole[:5] - cut[:5]).abs().mean() < 0.01 < (whole[5:] - cut[5:]).abs().mean()


def test_the_report_says_how_it_was_decoded_and_what_changed_on_the_way(decode, vae, monkeypatch):
    causal = "comfy.ldm.wan.vae.WanVAE: causal: each frame is that of core's VAE Decode."
    board = Storyboard((Shot("a", 5 / 16), Shot("b", 4 / 16, "cut")), width=32, height=32)
    timeline = plan_timeline(board, ModelFacts("Wan", 16, 4, 8, 16, 21, 16.0))
    assert [decode(timeline=given).result[1] for given in (None, timeline)] == [causal, causal]
    decoder = vae.first_stage_model.decoder
    original = decoder.forward

    def forward(x, **kept):
        if x.shape[2] > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return original(x, **kept)

    monkeypatch.setattr(decoder, "forward", forward)
    less = "Out of memory decoding 2 latent frames at a time; going on with 1."
    assert decode().result[1] == f"{causal}\n{less}"


def test_the_frames_of_the_file_are_the_decoded_frames(decode, vae):
    samples = torch.randn(1, 16, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    frames = decode(crf=1).result[0].get_components().images
    expected = vae.decode(samples)[0]
    assert frames.shape == expected.shape == (9, 32, 32, 3)
    # yuv420p halves the colours in both directions, so noise loses some; the brightness stays.
    assert (frames.mean(-1) - expected.mean(-1)).abs().mean() < 0.03


def test_samples_and_vae_decide_what_is_seen(decode, vae, monkeypatch):
    first = decode().result[0].get_components().images
    other = decode(samples={"samples": torch.zeros(1, 16, 3, 4, 4)}).result[0].get_components().images
    assert (first - other).abs().mean() > 0.01
    changed = {name: weight + 0.05 for name, weight in vae.first_stage_model.state_dict().items()}
    other = decode(vae=comfy.sd.VAE(sd=changed)).result[0].get_components().images
    assert (first - other).abs().mean() > 0.01


def test_fps_and_crf_reach_the_file(decode):
    slow, fast = decode(fps=8.0), decode(fps=24.0)
    assert [r.result[0].get_frame_rate() for r in (slow, fast)] == [8, 24]
    assert path_of(decode(crf=1)).stat().st_size > path_of(decode(crf=50)).stat().st_size


def test_chunk_reaches_the_decoder(decode, vae, monkeypatch):
    lengths: list[int] = []
    decoder = vae.first_stage_model.decoder
    original = decoder.forward
    monkeypatch.setattr(decoder, "forward", lambda x, **kept: lengths.append(x.shape[2]) or original(x, **kept))
    decode()
    decode(chunk_latent_frames=1)
    assert lengths == [1, 2, 1, 1, 1]


def test_files_are_counted_and_the_preview_names_them(decode, output: Path):
    results = [decode(filename_prefix="films/%width%") for _ in range(2)]
    assert [path_of(r) for r in results] == [output / "films" / f"32_0000{n}_.mp4" for n in (1, 2)]
    shown = results[1].ui.as_dict()
    assert shown["images"] == [{"filename": "32_00002_.mp4", "subfolder": "films", "type": "output"}]
    assert shown["animated"] == (True,)


def test_the_video_goes_on_into_core_save_video(decode, output: Path, monkeypatch):
    video = decode().result[0]
    assert isinstance(video, InputImpl.VideoFromFile) and video.get_dimensions() == (32, 32)
    monkeypatch.setattr(SaveVideo, "hidden", SimpleNamespace(prompt=None, extra_pnginfo=None), raising=False)
    SaveVideo.execute(video, "copy", "auto", {"codec": "auto"})
    with av.open(str(output / "copy_00001_.mp4")) as container:
        assert container.streams.video[0].frames == 9
        assert json.loads(container.metadata["workflow"]) == GRAPH["extra_pnginfo"]["workflow"]


def test_the_graph_is_in_the_file_unless_metadata_is_disabled(decode, monkeypatch):
    with av.open(str(path_of(decode()))) as container:
        assert json.loads(container.metadata["prompt"]) == GRAPH["prompt"]
        assert json.loads(container.metadata["workflow"]) == GRAPH["extra_pnginfo"]["workflow"]
    monkeypatch.setattr(args, "disable_metadata", True)
    with av.open(str(path_of(decode()))) as container:
        assert not {"prompt", "workflow"} & set(container.metadata)


def test_an_interrupt_leaves_no_file(decode, output: Path, vae, monkeypatch):
    decoder = vae.first_stage_model.decoder
    original = decoder.forward

    def forward(x, **kept):
        model_management.interrupt_current_processing(True)
        return original(x, **kept)

    monkeypatch.setattr(decoder, "forward", forward)
    with pytest.raises(model_management.InterruptProcessingException):
        decode()
    assert [path for path in output.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        ("../out", "leaves the output folder"),
        ("/etc/passwd", "leaves the output folder"),
        ("a/../../b", "leaves the output folder"),
        ("films/", "no file name"),
        ("", "no file name"),
        (".", "no file name"),
        ("films/.hidden", "the name of a hidden file"),
        ("films/a\0b", "has a letter that no file name may have"),
        ("a\ud800", "has a letter that no file name may have"),
        ("界" * 82, "the name of the file has 82 characters in 246 bytes, and at most 244 bytes are taken"),
        ("界" * 86 + "/a", "has 86 characters in 258 bytes, and at most 255 bytes are taken"),
        ("abcdefg/" * 600 + "a", "filename_prefix has 4,801 bytes, and a path has at most 4,095; shorten it"),
    ],
)
def test_a_bad_name_is_refused_before_anything_loads(output: Path, prefix: str, message: str, monkeypatch):
    monkeypatch.setitem(core.NODE_CLASS_MAPPINGS, "LongreelDecodeToVideo", LongreelDecodeToVideo)
    prompt = {
        "1": {"class_type": "VAELoader", "inputs": {"vae_name": "pixel_space"}},
        "2": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "3": {
            "class_type": "LongreelDecodeToVideo",
            "inputs": {"vae": ["1", 0], "samples": ["2", 0], "fps": 16.0, "filename_prefix": prefix, "crf": 19},
        },
    }
    valid, _, _, errors = asyncio.run(execution.validate_prompt("test", prompt, None))
    assert not valid and message in json.dumps(errors)
    prompt["3"]["inputs"]["filename_prefix"] = "films/a"
    assert asyncio.run(execution.validate_prompt("test", prompt, None))[0]


@pytest.mark.parametrize("prefix", ["", ".", "films/.hidden", "a\0", "界" * 82])
def test_a_bad_name_from_a_wire_is_refused_before_anything_is_decoded(decode, output: Path, prefix: str):
    assert LongreelDecodeToVideo.validate_inputs(filename_prefix=None) is True
    with pytest.raises(ValueError, match="filename_prefix"):
        decode(filename_prefix=prefix, vae=None)
    assert list(output.iterdir()) == []


@pytest.mark.parametrize("prefix", ["n" * 230, "n" * 243, "界" * 81, "n" * 235 + "%minute%%second%"])
def test_long_names_are_taken_as_core_takes_them(decode, prefix: str):
    assert LongreelDecodeToVideo.validate_inputs(filename_prefix=prefix) is True
    assert len(os.fsencode(path_of(decode(filename_prefix=prefix)).name)) > 200


def test_a_file_in_the_folders_place_is_refused(output: Path):
    (output / "films").touch()
    assert "there is a file of this name" in LongreelDecodeToVideo.validate_inputs(filename_prefix="films/a")


def test_an_odd_size_is_refused_before_decoding(decode, output: Path):
    image_vae = comfy.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)})
    with pytest.raises(ValueError, match="33x32 pixels.*use 34x32"):
        decode(vae=image_vae, samples={"samples": torch.rand(2, 3, 32, 33)})
    assert list(output.iterdir()) == []


def test_sound_is_laid_under_the_video_and_the_report_says_what_was_cut(decode):
    t = torch.arange(16000) / 16000
    audio = {"waveform": torch.sin(880 * torch.pi * t)[None, None].expand(1, 2, -1), "sample_rate": 16000}
    silent, loud = decode(), decode(audio=audio)
    assert silent.result[0].get_components().audio is None
    heard = loud.result[0].get_components().audio
    assert (heard["waveform"].shape[1], heard["sample_rate"]) == (2, 16000)
    assert heard["waveform"].abs().max() > 0.5
    assert "The sound is 1.00 s long and the video 0.56 s: its last 0.44 s are cut." in loud.result[1].splitlines()
    assert torch.equal(silent.result[0].get_components().images, loud.result[0].get_components().images)


@pytest.mark.parametrize("shape, text", [((2, 1, 100), "2 sounds"), ((1, 3, 100), "3 channels")])
def test_sound_that_fits_no_file_is_refused_before_anything_is_decoded(decode, output: Path, shape, text):
    with pytest.raises(ValueError, match=text):
        decode(vae=None, audio={"waveform": torch.zeros(shape), "sample_rate": 16000})
    assert list(output.iterdir()) == []


@pytest.mark.slow
def test_four_times_the_length_takes_no_more_memory(tiny_models, tmp_path: Path):
    # glibc keeps freed memory for later; told to give it back, the peak is what the node holds.
    environment = {
        **os.environ,
        "MALLOC_MMAP_THRESHOLD_": "131072",
        "MALLOC_TRIM_THRESHOLD_": "131072",
        "MALLOC_ARENA_MAX": "1",
    }
    command = [sys.executable, "-m", "tests.nodes.decode_memory", str(tiny_models["wan21"].vae_path), "15", "60"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path, timeout=550
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (short_frames, short), (long_frames, long) = [map(int, line.split()) for line in done.stdout.splitlines()[-2:]]
    assert (short_frames, long_frames) == (57, 237)
    assert long <= (1 + MOST_GROWTH) * short
    # 10 % of a process with torch in it is more than this small video, so: less than what its further frames take.
    assert long - short < (long_frames - short_frames) * WIDTH * HEIGHT * 3 * 4
