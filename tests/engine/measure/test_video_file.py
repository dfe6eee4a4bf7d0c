"""A file is whole or absent, never written over another, and plays back as what went in."""

import os
import signal
from pathlib import Path

import av
import pytest
import torch

from longreel.engine.measure.video_file import write_video
from longreel.engine.runs.disk import WriteError
from longreel.engine.runs.unfinished import growing_file
from tests.engine.killed import holding, killed_by_itself, largest_file


def frames_of(levels: list[float], width: int = 64, height: int = 48):
    """One grey frame for each level, in chunks of 3."""
    for start in range(0, len(levels), 3):
        part = torch.tensor(levels[start : start + 3])
        yield part[:, None, None, None].expand(-1, height, width, 3)


def greys(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24").mean() / 255 for frame in container.decode(video=0)]


def test_every_frame_arrives_in_order(tmp_path: Path):
    levels = [i / 100 for i in range(100)]
    written = write_video(frames_of(levels), tmp_path, "clip", 1, 16.0, 10)
    assert (written.frames, written.width, written.height) == (100, 64, 48)
    assert greys(written.path) == pytest.approx(levels, abs=0.02)


def test_fps_sets_the_length_in_seconds(tmp_path: Path):
    for fps, seconds in ((8.0, 5.0), (23.976, 40 / 23.976)):
        path = write_video(frames_of([0.5] * 40), tmp_path, "clip", 1, fps, 20).path
        with av.open(str(path)) as container:
            assert float(container.duration / av.time_base) == pytest.approx(seconds, abs=0.01)
            assert float(container.streams.video[0].average_rate) == pytest.approx(fps, abs=1e-3)


def test_crf_trades_size_for_quality(tmp_path: Path):
    noise = [torch.rand(6, 64, 64, 3, generator=torch.Generator().manual_seed(1))]
    sizes = [write_video(noise, tmp_path, "clip", 1, 16.0, crf).path.stat().st_size for crf in (5, 25, 45)]
    assert sizes[0] > 2 * sizes[1] > 4 * sizes[2]


def test_the_file_is_h264_for_every_player_and_carries_its_tags(tmp_path: Path):
    path = write_video(frames_of([0.2]), tmp_path, "clip", 1, 16.0, 20, {"workflow": '{"nodes": []}'}).path
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert container.metadata["workflow"] == '{"nodes": []}'
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_the_same_frames_are_the_same_file_whatever_was_in_memory(tmp_path: Path):
    noise = torch.rand(1, 3, 12, 8, 8, generator=torch.Generator().manual_seed(1))
    moving = torch.nn.functional.interpolate(noise, (60, 64, 64), mode="trilinear")[0].permute(1, 2, 3, 0)
    files = set()
    for number in range(8):
        left_over = [torch.full((20_000 * part,), number, dtype=torch.uint8) for part in range(1, 16)]
        del left_over
        files.add(write_video([moving], tmp_path, "clip", 1, 16.0, 19).path.read_bytes())
    assert len(files) == 1


def test_an_existing_file_is_never_overwritten(tmp_path: Path):
    taken = tmp_path / "clip_00001_.mp4"
    taken.write_text("mine")
    written = write_video(frames_of([0.2]), tmp_path, "clip", 1, 16.0, 20)
    assert written.path.name == "clip_00002_.mp4" and taken.read_text() == "mine"


def test_a_folder_without_hard_links_works_as_well(tmp_path: Path, monkeypatch):
    def no_links(source, target):
        raise PermissionError("no hard links here")

    monkeypatch.setattr(os, "link", no_links)
    (tmp_path / "clip_00001_.mp4").write_text("mine")
    written = write_video(frames_of([0.2, 0.4]), tmp_path, "clip", 1, 16.0, 20)
    assert written.path.name == "clip_00002_.mp4" and len(greys(written.path)) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip_00001_.mp4", "clip_00002_.mp4"]


def test_an_interrupted_run_leaves_no_file(tmp_path: Path):
    def interrupted():
        yield from frames_of([0.1] * 60)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(interrupted(), tmp_path, "clip", 1, 16.0, 20)
    assert list(tmp_path.iterdir()) == []


def test_the_file_has_its_name_only_when_it_is_complete(tmp_path: Path):
    seen = []

    def watched():
        for chunk in frames_of([0.1] * 60):
            seen.append([path.suffix for path in tmp_path.iterdir()])
            yield chunk

    write_video(watched(), tmp_path, "clip", 1, 16.0, 20)
    assert seen[-1] == [".part"] and [path.name for path in tmp_path.iterdir()] == ["clip_00001_.mp4"]


def test_frames_that_are_no_numbers_become_black_with_a_line_in_the_log(tmp_path: Path, caplog):
    path = write_video(frames_of([0.5, float("nan"), 0.5]), tmp_path, "clip", 1, 16.0, 10).path
    assert greys(path) == pytest.approx([0.5, 0.0, 0.5], abs=0.02)
    assert "NaN" in caplog.text


@pytest.mark.parametrize(
    ("frames", "fps", "crf", "message"),
    [
        (list(frames_of([0.1], width=63)), 16.0, 20, "63x48 pixels.*use 64x48"),
        (list(frames_of([0.1], height=47)), 16.0, 20, "64x47 pixels.*use 64x48"),
        ([*frames_of([0.1]), *frames_of([0.1], width=32)], 16.0, 20, "frame 1 has 32x48 .* 64x48"),
        ([], 16.0, 20, "no frames .* at least one"),
        (list(frames_of([0.1])), 0.0, 20, "fps is 0.0; .* 16"),
        (list(frames_of([0.1])), 16.0, 60, "crf is 60; use 1 .* 51"),
    ],
)
def test_what_cannot_be_a_video_is_refused_and_leaves_no_file(tmp_path: Path, frames, fps, crf, message):
    with pytest.raises(ValueError, match=message):
        write_video(frames, tmp_path, "clip", 1, fps, crf)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stem", ["n" * 217, "n" * 243, "界" * 75, "x" * 244])
def test_a_name_may_be_as_long_as_the_file_system_takes(tmp_path: Path, stem):
    assert write_video(frames_of([0.2]), tmp_path, stem, 1, 16.0, 20).path.name == f"{stem}_00001_.mp4"


def test_a_longer_name_is_refused_before_a_frame_is_made(tmp_path: Path):
    def never():
        pytest.fail("a frame was asked for")
        yield

    with pytest.raises(ValueError, match="the name of the video has 245 characters in 245 bytes, and at most 244"):
        write_video(never(), tmp_path, "x" * 245, 1, 16.0, 20)


def test_what_killed_processes_left_is_gone_after_the_next_video(tmp_path: Path):
    def killed():
        yield from frames_of([0.1] * 60)
        os.kill(os.getpid(), signal.SIGKILL)

    for _ in range(2):
        assert killed_by_itself(lambda: write_video(killed(), tmp_path, "clip", 1, 16.0, 20))
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]  # the second one removed the first one's
    write_video(frames_of([0.1]), tmp_path, "clip", 1, 16.0, 20)
    assert [path.name for path in tmp_path.iterdir()] == ["clip_00001_.mp4"]


def test_a_video_that_another_process_is_writing_is_let_alone(tmp_path: Path):
    def paused():
        block = growing_file(tmp_path)
        block.__enter__().write_bytes(b"half")
        return block

    with holding(paused):
        (other,) = tmp_path.iterdir()
        write_video(frames_of([0.1]), tmp_path, "clip", 1, 16.0, 20)
        assert other.exists() and len(list(tmp_path.iterdir())) == 2


def test_a_disk_that_is_full_at_any_byte_leaves_nothing_and_says_how_much_there_is(tmp_path: Path):
    whole = write_video(frames_of([0.1, 0.5, 0.9]), tmp_path, "clip", 1, 16.0, 20).path
    size = whole.stat().st_size
    for bytes_left in (0, 1, size // 3, size // 2, size - 1):
        with (
            largest_file(bytes_left),
            pytest.raises(
                WriteError,
                match=r"^the video clip has [\d,]+ bytes so far, and writing stopped \(File too large\) with [\d,]+ by"
                r"tes free in .*; free space there or make the folder writable, then queue again",
            ),
        ):
            write_video(frames_of([0.1, 0.5, 0.9]), tmp_path, "clip", 1, 16.0, 20)
        assert list(tmp_path.iterdir()) == [whole]
