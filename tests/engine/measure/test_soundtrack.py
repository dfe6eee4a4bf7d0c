"""Sound lies under the frames it belongs to, from the first to the last, and a video without sound is what it was."""

import logging
from fractions import Fraction
from pathlib import Path

import av
import numpy
import pytest
import torch

from longreel.engine.measure.soundtrack import BLOCK, OTHER_RATE, Soundtrack
from longreel.engine.measure.video_file import write_video
from tests.engine.measure.clips import frames_that_flash


def heard(path: Path) -> tuple[numpy.ndarray, int]:
    """What a player hears, [C, T], and samples per second; what lies before time 0 is dropped as players do."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    samples = numpy.concatenate([frame.to_ndarray() for frame in frames], axis=1)
    before = max(0, -round(float(frames[0].pts * frames[0].time_base) * frames[0].sample_rate))
    return samples[:, before:], frames[0].sample_rate


def tone(seconds: float, rate: int = 16000, channels: int = 1) -> Soundtrack:
    t = torch.arange(round(seconds * rate)) / rate
    return Soundtrack((0.5 * torch.sin(2 * torch.pi * 440 * t)).expand(channels, -1), rate)


def video_of(tmp_path: Path, frames: int, sound: Soundtrack | None, fps: float = 16.0) -> Path:
    grey = torch.full((frames, 16, 16, 3), 0.5)
    return write_video([grey], tmp_path, "clip", 1, fps, 30, sound=sound).path


@pytest.mark.parametrize("fps, seconds", [(16.0, 12), (23.976, 60), (24.0, 12)])
def test_a_click_is_heard_when_its_flash_is_seen_over_a_minute(tmp_path: Path, fps, seconds):
    rate, count = 44100, round(seconds * fps)
    flashes = [0, 1, 100, count // 2, count - 2]
    samples = torch.zeros(1, round((seconds + 2) * rate))
    for number in flashes:
        at = round(number / Fraction(fps).limit_denominator(1001) * rate)
        samples[:, at : at + 60] = 0.9
    sound = Soundtrack(samples, rate)
    path = write_video(frames_that_flash(count, flashes), tmp_path, "clip", 1, fps, 30, sound=sound).path
    with av.open(str(path)) as container:
        seen = [
            float(frame.pts * frame.time_base)
            for frame in container.decode(video=0)
            if frame.to_ndarray(format="rgb24").mean() > 128
        ]
    loud, rate = heard(path)
    loud = numpy.flatnonzero(abs(loud[0]) > 0.4) / rate
    first_of_each = loud[numpy.concatenate([[True], numpy.diff(loud) > 0.01])]
    assert len(seen) == len(flashes)
    assert first_of_each == pytest.approx(seen, abs=0.002)  # a frame lasts 0.04 s and more


@pytest.mark.parametrize("seconds", [0.5, 3.0, 10.0])
def test_the_file_is_as_long_as_its_frames_whatever_the_sound(tmp_path: Path, seconds):
    path = video_of(tmp_path, 48, tone(seconds))
    samples, rate = heard(path)
    assert samples.shape[1] / rate == pytest.approx(3.0, abs=2 * BLOCK / rate)
    loud = numpy.flatnonzero(abs(samples[0]) > 0.1)
    assert (loud[-1] + 1) / rate == pytest.approx(min(seconds, 3.0), abs=BLOCK / rate)
    with av.open(str(path)) as container:
        assert container.duration / av.time_base == pytest.approx(3.0, abs=BLOCK / rate)


def test_what_is_cut_or_silent_is_said():
    assert tone(3.0).said_beside(3.0) is None
    assert tone(3.01).said_beside(3.0) is None
    assert "3.50 s long and the video 3.00 s: its last 0.50 s are cut" in (tone(3.5).said_beside(3.0) or "")
    assert "the last 1.00 s are silent" in (tone(2.0).said_beside(3.0) or "")


@pytest.mark.parametrize("rate, in_file", [(8000, 8000), (48000, 48000), (11000, OTHER_RATE), (192000, OTHER_RATE)])
def test_a_rate_that_aac_does_not_know_is_resampled_and_keeps_its_pitch(tmp_path: Path, rate, in_file):
    samples, found = heard(video_of(tmp_path, 32, tone(2.0, rate)))
    assert found == in_file
    spectrum = abs(numpy.fft.rfft(samples[0][: 2 * found]))
    assert spectrum.argmax() / 2 == pytest.approx(440, abs=1)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_channels_stay_apart(tmp_path: Path, channels):
    sound = tone(2.0, 44100, channels)
    samples = sound.samples.clone()
    samples[1:] *= 0.25
    samples, _ = heard(video_of(tmp_path, 32, Soundtrack(samples, 44100)))
    assert len(samples) == channels
    loudness = numpy.sqrt((samples[:, 2000:-2000] ** 2).mean(1))
    assert (loudness[1:] < 0.4 * loudness[0]).all()


def test_without_sound_the_file_has_none_and_sound_changes_no_frame(tmp_path: Path):
    def read(path: Path):
        with av.open(str(path)) as container:
            return len(container.streams.audio), [frame.to_ndarray() for frame in container.decode(video=0)]

    (none, silent), (one, loud) = (read(video_of(tmp_path, 8, sound)) for sound in (None, tone(0.5)))
    assert (none, one) == (0, 1)
    assert numpy.array_equal(silent, loud)


def test_the_file_plays_while_it_loads(tmp_path: Path):
    """Sound lies beside its frames: players read one part of the file after the other."""
    noise = [torch.rand(8, 64, 64, 3, generator=torch.Generator().manual_seed(i)) for i in range(20)]
    path = write_video(noise, tmp_path, "clip", 1, 8.0, 20, sound=tone(20.0)).path
    with av.open(str(path)) as container:
        places = [(packet.stream.type, packet.pos) for packet in container.demux() if packet.pos is not None]
    size = path.stat().st_size
    for part in range(4):
        inside = {kind for kind, pos in places if part * size / 4 <= pos < (part + 1) * size / 4}
        assert inside == {"audio", "video"}


def test_values_that_are_no_numbers_are_silence_and_are_said(tmp_path: Path, caplog):
    sound = tone(1.0)
    samples = sound.samples.clone()
    samples[:, 4000:12000] = float("nan")
    with caplog.at_level(logging.WARNING):
        heard_samples, _ = heard(video_of(tmp_path, 16, Soundtrack(samples, sound.rate)))
    assert "no numbers" in caplog.text
    assert abs(heard_samples[:, 6000:10000]).max() < 0.02 < 0.3 < abs(heard_samples[:, :3000]).max()


@pytest.mark.parametrize(
    "shape, rate, text",
    [((3, 10), 8000, "3 channels"), ((1, 0), 8000, "no sample"), ((1, 10), 0, "0 samples per second")],
)
def test_what_is_no_sound_is_refused(shape, rate, text):
    with pytest.raises(ValueError, match=text):
        Soundtrack(torch.zeros(shape), rate)
