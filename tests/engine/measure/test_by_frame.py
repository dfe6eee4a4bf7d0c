"""What is measured as frames come is what the whole video has, whatever the windows and however many come at once."""

import pytest
import torch

from longreel.engine.measure.by_frame import MARGIN, FrameMeter
from longreel.engine.measure.drift import statistics
from longreel.engine.measure.flicker import find_flicker
from longreel.engine.measure.reach import pair_differences
from longreel.engine.measure.still import find_loop, find_still
from tests.engine.measure.films import as_bytes, film


def in_windows(video: torch.Tensor, window: int, chunk: int):
    meter = FrameMeter(window=window)
    for part in as_bytes(video).split(chunk):
        meter.push(part)
    return meter.finish(), meter


@pytest.fixture(scope="module")
def broken() -> torch.Tensor:
    """40 frames: a flash where windows of 20 meet, and four frames that stand still."""
    video = film(40, step=0.5)
    video[20] = 1 - video[20]
    video[31:35] = video[31]
    return video


@pytest.mark.parametrize(("window", "chunk"), [(20, 7), (256, 40), (24, 1)])
def test_windows_give_what_the_whole_video_has(broken, window, chunk):
    columns, _ = in_windows(broken, window, chunk)
    whole = as_bytes(broken).float() / 255
    pairs = pair_differences(whole)
    # A GPU-less torch adds in another order where more frames come at once.
    torch.testing.assert_close(columns["near"], pairs.near, atol=1e-6, rtol=0)
    torch.testing.assert_close(columns["far"], pairs.far, atol=1e-6, rtol=0)
    torch.testing.assert_close(columns["statistics"], statistics(whole), atol=1e-6, rtol=0)
    torch.testing.assert_close(columns["change"], (whole[1:] - whole[:-1]).abs().mean((1, 2, 3)), atol=1e-6, rtol=0)
    assert torch.equal(columns["frozen"], find_still(whole).frozen)
    assert columns["broken"].nonzero().flatten().tolist() == [20] == find_flicker(whole).broken.nonzero()[0].tolist()


def test_a_loop_is_named_by_frames_of_the_whole_video(monkeypatch):
    monkeypatch.setattr("longreel.engine.measure.by_frame.LOOP_WINDOW", 32)  # shorter than the loop itself
    once = film(8, step=3.0)
    video = torch.cat([film(20, seed=5), *[once] * 6])
    found = in_windows(video, 256, 9)[1].loop
    whole = find_loop(as_bytes(video).float() / 255)
    assert (found.start, found.stop, found.period_frames) == (whole.start, whole.stop, 8) == (20, 68, 8)


def test_a_video_of_less_than_five_frames_is_refused():
    assert len(in_windows(film(5), 256, 2)[0]["broken"]) == 5
    with pytest.raises(ValueError, match="the video has 4 frames, and at least 5 are measured; make a longer one"):
        in_windows(film(4), 256, 2)


def test_work_can_be_ended_between_batches():
    asked = []
    meter = FrameMeter(lambda: asked.append(meter.frames), window=8)
    for part in as_bytes(film(8 + MARGIN)).split(4):
        meter.push(part)
    assert asked and set(asked) == {8 + MARGIN}
