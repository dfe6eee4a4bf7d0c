"""hosts/anchor/picture_file.py and picture.py: a file is one whole picture or refused in words, within bounds."""

import errno
import io
import os
import time

import numpy as np
import pytest
import torch
from PIL import Image

import folder_paths

from longreel.engine.plan.anchor import AUTO, CLEAN, INPAINT
from longreel.engine.plan.timeline import plan_timeline
from longreel.engine.storyboard.board import Anchor, Shot, Storyboard
from longreel.engine.storyboard.faults import StoryboardError
from longreel.hosts.anchor import picture_file
from longreel.hosts.anchor.picture import load_picture
from longreel.hosts.anchor.picture_file import picture_check, picture_fault
from longreel.hosts.anchor.place import StoryboardPictures, Video
from tests.engine.timeline_cases import WAN

PLENTY = 10**9  # pixels


def noise(width=64, height=64):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def stored(kind, **options):
    data = io.BytesIO()
    noise().save(data, kind, **options)
    return data.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
def test_a_whole_picture_is_taken_and_no_part_of_it(tmp_path, kind):
    data, path = stored(kind), tmp_path / f"picture.{kind.lower()}"
    path.write_bytes(data)
    assert picture_fault(path, PLENTY) == ("", 64 * 64)
    for share in (0.3, 0.6, 0.9):
        path.write_bytes(data[: int(share * len(data))])
        fault, _ = picture_fault(path, PLENTY)
        assert fault.startswith(("which is damaged or cut off (", "which is no picture;")) and "Errno" not in fault


def test_a_large_png_that_is_cut_off_is_seen_without_decoding_it(tmp_path):
    data, path = stored("PNG"), tmp_path / "cut.png"
    path.write_bytes(data)
    assert picture_fault(path, 0, 10**6) == ("", 0)
    path.write_bytes(data[: len(data) // 2])
    assert picture_fault(path, 0, 10**6)[0].startswith("which is damaged or cut off (")


def test_a_picture_that_is_mended_under_its_name_is_looked_at_again(tmp_path):
    path = tmp_path / "ship.png"
    path.write_bytes(stored("PNG")[:500])
    assert picture_fault(path, PLENTY)[0]
    path.write_bytes(stored("PNG"))
    os.utime(path, ns=(1, 1))
    assert picture_fault(path, PLENTY) == ("", 64 * 64)


def test_what_pillow_does_not_know_and_comfyui_may_is_left_to_comfyui(tmp_path):
    path = tmp_path / "photo.heic"
    path.write_bytes(b"\x00\x00\x00\x18ftypheic" + bytes(100))
    assert picture_fault(path, PLENTY) == ("", 0)
    with pytest.raises(ValueError, match=r"^shot 2, anchor 1: image is 'photo.heic', which ComfyUI cannot read as"):
        load_picture(path, "shot 2, anchor 1: image")


@pytest.mark.parametrize(("name", "data"), [("empty.png", b""), ("text.png", b"hello"), ("list.m3u8", b"#EXTM3U\n")])
def test_what_is_no_picture_is_refused_by_its_name_when_it_is_loaded(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(
        ValueError, match=f"^shot 1, anchor 2: image is '{name}', which is (an empty file|no picture); "
    ):
        load_picture(tmp_path / name, "shot 1, anchor 2: image")


def test_a_picture_is_loaded_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "get_input_directory", lambda: str(tmp_path))
    noise(48, 32).save(tmp_path / "ship.png")
    loaded = load_picture(tmp_path / "ship.png")
    assert torch.equal(loaded, torch.from_numpy(np.array(noise(48, 32))).float()[None] / 255)


def test_more_pixels_than_pillow_reads_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    noise().save(tmp_path / "ship.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    fault, decoded = picture_fault(tmp_path / "ship.png", PLENTY)
    assert fault == "which has more pixels than the 2000 that are read; make it smaller" and decoded == 0


def test_a_picture_that_may_not_be_read_is_said_to_be_so(tmp_path, monkeypatch):
    noise().save(tmp_path / "ship.png")

    def refuse(path):  # root may read everything
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Image, "open", refuse)
    assert (
        picture_fault(tmp_path / "ship.png", PLENTY)[0]
        == "which cannot be opened (permission denied); check its rights"
    )


def test_a_check_opens_and_decodes_no_more_than_its_bounds(tmp_path, monkeypatch):
    for number in range(6):
        noise().save(tmp_path / f"{number}.png")
    asked = []
    monkeypatch.setattr(picture_file, "PICTURES", 4)
    monkeypatch.setattr(picture_file, "PIXELS", 2 * 64 * 64)
    monkeypatch.setattr(picture_file, "READ", 20_000)
    plain = picture_file.picture_fault
    monkeypatch.setattr(picture_file, "picture_fault", lambda path, *left: asked.append(left) or plain(path, *left))
    check = picture_check(tmp_path)
    for number in (0, 0, 1, 2, 3, 4, 5, 0):
        assert check(f"{number}.png") == tmp_path / f"{number}.png"
    size = (tmp_path / "0.png").stat().st_size
    assert 10_000 < size < 20_000
    assert asked == [(2 * 64 * 64, 20_000), (64 * 64, 20_000), (0, 20_000), (0, 20_000 - size)]
    with pytest.raises(StoryboardError, match="^image is 'lost.png', no file in "):
        check("lost.png")


def test_large_pictures_by_the_hundred_are_checked_in_time(tmp_path):
    noise(2000, 2000).save(tmp_path / "large.jpg", quality=95)
    for number in range(300):
        (tmp_path / f"{number}.jpg").hardlink_to(tmp_path / "large.jpg")
    seconds = []
    while len(seconds) < 4 and min(seconds, default=9) >= 1.0:  # a busy machine only adds to the time
        picture_file._fault.cache_clear()
        check = picture_check(tmp_path)
        started = time.process_time()
        for number in range(300):
            check(f"{number}.jpg")
        seconds.append(time.process_time() - started)
    assert min(seconds) < 1.0


def places(folder, seconds, anchors):
    board = Storyboard((Shot("a", 2.0), Shot("b", seconds, anchors=anchors)), width=64, height=64)
    timeline = plan_timeline(board, WAN)
    return timeline, StoryboardPictures(None, folder).places(Video(WAN, timeline, INPAINT, 1.0, 0.0))


def test_a_picture_that_broke_since_it_was_checked_is_named_with_shot_and_anchor(tmp_path):
    noise().save(tmp_path / "ship.png")
    _, (_, second) = places(tmp_path, 2.0, (Anchor(0, "ship.png"), Anchor(1, "ship.png")))
    (tmp_path / "ship.png").write_bytes(b"hello")
    with pytest.raises(ValueError, match=r"^shot 2, anchor 2: image is 'ship.png', which is no picture; choose a PNG"):
        second[1]()


@pytest.mark.parametrize("seconds", [1.0, 1.1, 1.3, 3.0])
def test_an_anchor_at_the_end_of_a_shot_is_its_last_frame(tmp_path, seconds):
    noise().save(tmp_path / "ship.png")
    timeline, ((anchor, _),) = places(tmp_path, seconds, (Anchor(seconds, "ship.png"),))
    assert anchor.pixel_frame == timeline.pixel_frames - 1 and anchor.frame == timeline.latent_frames - 1


@pytest.mark.parametrize("mode", [AUTO, CLEAN, INPAINT])
def test_an_anchor_at_the_seconds_that_a_storyboard_asks_for_is_the_last_frame(mode):
    timeline = plan_timeline(Storyboard((Shot("a", 1.1),), width=64, height=64), WAN)
    assert timeline.seconds < 1.1
    assert Video(WAN, timeline, mode, 1.0, 0.0).anchor_at(1.1).pixel_frame == timeline.pixel_frames - 1
    with pytest.raises(ValueError, match="beyond a video of 17 pixel frames"):
        Video(WAN, timeline, mode, 1.0, 0.0).anchor_at(1.2)
