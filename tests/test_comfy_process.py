"""ComfyProcess against a real ComfyUI, with core nodes alone."""

from __future__ import annotations

import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import pytest

from longreel import dev
from tests.comfy_process import ComfyError, ComfyProcess, edit

VIDEO = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 32, "batch_size": 9, "color": 255}},
    "2": {"class_type": "CreateVideo", "inputs": {"images": ["1", 0], "fps": 8.0}},
    "3": {
        "class_type": "SaveVideo",
        "inputs": {"video": ["2", 0], "filename_prefix": "harness/blue", "format": "mp4", "codec": "h264"},
    },
}


def changed(node_id: str, **inputs: object) -> dict:
    return {**VIDEO, node_id: {**VIDEO[node_id], "inputs": {**VIDEO[node_id]["inputs"], **inputs}}}


def test_a_prompt_leaves_a_playable_file(comfy: ComfyProcess):
    heard = []
    [path] = comfy.files(comfy.run(VIDEO, listen=lambda kind, data: heard.append(kind)))
    with av.open(path) as video:
        assert sum(1 for _ in video.decode(video=0)) == 9
        assert video.streams.video[0].average_rate == Fraction(8)
    assert path.parent == comfy.output_path / "harness"
    assert "execution_start" in heard and heard[-1] == "execution_success"


def test_a_refused_prompt_names_node_and_input(comfy: ComfyProcess):
    with pytest.raises(ComfyError, match=r"EmptyImage \(node 1\).*batch_size"):
        comfy.run(changed("1", batch_size=0))
    assert "1" in comfy.validation_errors(changed("1", batch_size=0))["node_errors"]


def test_a_right_prompt_has_no_validation_errors(comfy: ComfyProcess):
    assert comfy.validation_errors(VIDEO) is None


def test_a_failing_node_gives_its_message_and_traceback(comfy: ComfyProcess):
    prompt = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "../../outside"}},
    }
    with pytest.raises(ComfyError, match=r"SaveImage \(node 2\)(.|\n)*Traceback|SaveImage \(node 2\)(.|\n)*File"):
        comfy.run(prompt)


IMAGES_TO_BLUR = 16  # seconds of a processor: core hears an interrupt between nodes, and so after all of them


def test_an_interrupt_ends_a_running_prompt(comfy: ComfyProcess):
    images = {"width": 1024, "height": 1024, "batch_size": IMAGES_TO_BLUR, "color": 7}
    prompt = {
        "1": {"class_type": "EmptyImage", "inputs": images},
        "2": {"class_type": "ImageBlur", "inputs": {"image": ["1", 0], "blur_radius": 31, "sigma": 10.0}},
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
    }

    def stop_when_it_blurs(kind: str, data: object) -> None:
        if kind == "executing" and data.get("node") == "1":
            threading.Thread(target=lambda: (time.sleep(0.2), comfy.interrupt())).start()

    with pytest.raises(ComfyError, match="interrupted in"):
        comfy.run(prompt, listen=stop_when_it_blurs)


@pytest.mark.slow
def test_a_process_that_does_not_start_shows_its_log():
    with pytest.raises(ComfyError, match="no-such-argument"), ComfyProcess(arguments=("--no-such-argument",)):
        pass


@pytest.mark.slow
def test_a_base_folder_goes_with_its_process_but_never_the_pack(tmp_path: Path):
    process = ComfyProcess(arguments=("--no-such-argument",))
    with pytest.raises(ComfyError):
        process.__enter__()
    assert not process.base.exists()
    assert (process.packs["any-name"] / "dev.py").is_file()


def test_the_editor_is_said_to_be_at_the_port_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
):
    """ComfyUI does not know the last argument, and ends before it loads anything."""
    monkeypatch.setenv("COMFYUI_PATH", str(dev.comfyui_path()))
    monkeypatch.setattr(dev, "COMFYUI_HOME", tmp_path)
    assert edit(["--port", "9000", "--no-such-argument"]) == 2
    assert "http://127.0.0.1:9000 " in capsys.readouterr().out
