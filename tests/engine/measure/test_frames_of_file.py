"""A file's frames come in order and once, in part where a part is asked, in memory that an hour does not raise."""

import gc
import io
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from longreel.engine.measure.by_frame import FrameMeter
from longreel.engine.measure.frames_of_file import MOST_FRAMES, facts_of_video, frames_of_file
from longreel.engine.measure.video_file import write_video
from tests.engine.measure.films import film

FRAMES, FPS = 40, 8.0


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    """40 frames of 8 a second, each of them brighter than the one before."""
    video = torch.linspace(0.1, 0.9, FRAMES)[:, None, None, None].expand(-1, 32, 48, 3)
    return write_video([video], tmp_path_factory.mktemp("film"), "a", 1, FPS, 1).path


def levels(parts) -> list[float]:
    return [round(float(frame.float().mean()) / 255, 2) for part in parts for frame in part]


def test_frames_come_in_order_a_few_at_a_time(path):
    parts = list(frames_of_file(path))
    assert [len(part) for part in parts] == [16, 16, 8] and MOST_FRAMES == 16
    assert parts[0].shape[1:] == (32, 48, 3) and parts[0].dtype == torch.uint8
    assert levels(parts) == pytest.approx(torch.linspace(0.1, 0.9, FRAMES).tolist(), abs=0.02)
    facts = facts_of_video(path)
    assert (facts.fps, facts.width, facts.height, facts.frames) == (FPS, 48, 32, FRAMES)


def test_large_frames_come_fewer_at_a_time(path, monkeypatch):
    monkeypatch.setattr("longreel.engine.measure.frames_of_file.MOST_BYTES", 3 * 32 * 48 * 3)
    assert {len(part) for part in frames_of_file(path)} == {3, 1}


@pytest.mark.parametrize(("start", "seconds", "first", "last"), [(0, 1.5, 0, 12), (2.0, 0, 16, 40), (2.5, 1.0, 20, 28)])
def test_a_stretch_is_its_own_frames_alone(path, start, seconds, first, last):
    every = levels(frames_of_file(path))
    assert levels(frames_of_file(path, start, seconds)) == every[first:last]
    assert facts_of_video(path, start, seconds).frames == last - first


def test_a_file_in_memory_is_read_too(path):
    assert levels(frames_of_file(io.BytesIO(path.read_bytes()))) == levels(frames_of_file(path))


def test_a_turned_video_comes_as_it_is_shown(tmp_path):
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[:8] = 255  # a bright bar above
    with av.open(str(tmp_path / "turned.mp4"), "w") as container:
        stream = container.add_stream("h264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.set_display_rotation(90)
        for _ in range(6):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode(None))
    (part,) = frames_of_file(tmp_path / "turned.mp4")
    assert part.shape == (6, 48, 32, 3) and part[0, :, :4].float().mean() > 200 > 50 > part[0, :, -4:].float().mean()


def test_what_is_no_video_or_damaged_is_refused_by_name(path, tmp_path):
    text = tmp_path / "notes.mp4"
    text.write_text("no video")
    with pytest.raises(ValueError, match=r"notes.mp4 cannot be opened as a video \(.*\); choose another file"):
        facts_of_video(text)
    with pytest.raises(ValueError, match=r"gone.mp4 cannot be opened as a video"):
        list(frames_of_file(tmp_path / "gone.mp4"))
    sound = tmp_path / "sound.mp4"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(ValueError, match="sound.mp4 holds no video; choose another file"):
        facts_of_video(sound)


def bytes_of_tensors() -> int:
    """Of all that Python holds, whoever holds it."""
    return sum(one.untyped_storage().nbytes() for one in gc.get_objects() if isinstance(one, torch.Tensor))


@pytest.mark.slow
def test_an_hour_takes_no_more_memory_than_half_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr("longreel.engine.measure.by_frame.LOOP_WINDOW", 24)
    part = film(20)[:, 8:24, :16]  # an hour of a frame every 30 seconds: what is held is 24 frames and margins
    half, hour = (
        write_video([part] * (frames // 20), tmp_path, str(frames), 1, 1 / 30, 30).path for frames in (60, 120)
    )
    facts = facts_of_video(hour)
    assert facts.frames / facts.fps == pytest.approx(3600)
    peaks, kept = [], []
    for path in (half, hour):
        meter, alive = FrameMeter(window=24), []
        before = bytes_of_tensors()
        for number, frames in enumerate(frames_of_file(path)):
            meter.push(frames)
            if number % 2:
                alive.append(bytes_of_tensors() - before)
        peaks.append(max(alive))
        kept.append(sum(column.nbytes for column in meter.finish().values()) / meter.frames)
    assert kept[1] == pytest.approx(kept[0], rel=0.05) and kept[1] < 80  # bytes for a frame
    # 60 more frames: their columns and what a window's end leaves, not the 3 KiB that each of them is held in.
    assert peaks[1] - peaks[0] < 60 * 16 * 16 * 3 * 4 / 8
