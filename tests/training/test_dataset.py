"""training/dataset.py: clips with storyboards, and what is wrong with them."""

import json
import shutil
from dataclasses import replace

import av
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from longreel.training.dataset import (
    Geometry,
    check_unchanged,
    manifest,
    parts_of,
    read_dataset,
    read_latent,
    read_pixels,
    size_of,
)
from tests.training.tiny_student import FACTS, GEOMETRY, write_board, write_clip, write_dataset


def write_video(path, frames: int = 17, size=(16, 16), fps: int = 8) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", fps, options={"crf": "0", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv444p"
        for number in range(frames):
            picture = np.full((size[1], size[0], 3), number * 10, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def test_clips_are_read_by_name_with_a_prompt_for_each_segment(tmp_path):
    write_clip(tmp_path, "b", 3)
    write_clip(tmp_path, "a", 1)
    clips = read_dataset(tmp_path, GEOMETRY)
    assert [(clip.name, clip.segments) for clip in clips] == [("a", 1), ("b", 3)]
    assert clips[1].prompts == ("b part 0", "b part 1", "b part 2")


def test_a_shot_of_several_segments_gives_each_its_prompt(tmp_path):
    write_clip(tmp_path, "a", 4)
    write_board(tmp_path, "a", ["first", "second"], seconds=2.0)
    assert read_dataset(tmp_path, GEOMETRY)[0].prompts == ("first", "first", "second", "second")


def test_a_scene_list_of_ttt_video_is_read(tmp_path):
    """One object for each three seconds, and nothing of frames per second: those of the training data, 16."""
    write_clip(tmp_path, "a", frames=97)
    (tmp_path / "a.json").write_text(
        json.dumps([[{"text": "a cat sleeps"}, {"text": "it wakes", "requires_scene_transition": True}]])
    )
    (clip,) = read_dataset(tmp_path, Geometry(FACTS, 16, 16, 13))
    assert clip.segments == 2 and "a cat sleeps" in clip.prompts[0] and "it wakes" in clip.prompts[1]


def test_the_papers_geometry_is_reached():
    """13 latent frames of 3 seconds; 253 of a minute (docs/ttt.md, Sequence lengths)."""
    geometry = Geometry(FACTS, 720, 480, 13)
    assert [geometry.latent_frames(count) for count in (1, 3, 6, 10, 21)] == [13, 37, 73, 121, 253]
    assert geometry.windows(2) == ((0, 13), (12, 25))
    assert geometry.latent_shape(1) == (4, 13, 60, 90)


@pytest.mark.parametrize(
    ("segments", "expected"), [(1, [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1)]), (2, [("a", 0), ("b", 0)])]
)
def test_a_stage_trains_on_every_run_of_its_segments(tmp_path, segments, expected):
    write_clip(tmp_path, "a", 3)
    write_clip(tmp_path, "b", 2)
    parts = parts_of(read_dataset(tmp_path, GEOMETRY), segments)
    assert [(part.clip.name, part.first) for part in parts] == expected
    assert parts[1].prompts == tuple(parts[1].clip.prompts[parts[1].first : parts[1].first + segments])


def test_a_stage_longer_than_a_clip_is_refused(tmp_path):
    write_dataset(tmp_path)
    with pytest.raises(ValueError, match="clip0 has 2 segments and the stage trains on 3; take the clip out"):
        parts_of(read_dataset(tmp_path, GEOMETRY), 3)


def test_pixels_are_those_of_the_part(tmp_path):
    write_clip(tmp_path, "a", 3)
    part = parts_of(read_dataset(tmp_path, GEOMETRY), 1)[1]
    pixels = read_pixels(part, GEOMETRY)
    assert pixels.shape == (9, 16, 16, 3) and pixels.dtype == torch.float32 and float(pixels.max()) == 1.0
    bright = pixels[:, 0, :, 0].argmax(1)  # the column that moves one pixel with each frame
    assert bright.tolist() == [*list(range(8, 16)), 0]


def test_a_video_is_read_as_a_folder_of_pictures_is(tmp_path):
    write_video(tmp_path / "a.mp4")
    write_board(tmp_path, "a", ["x", "y"])
    part = parts_of(read_dataset(tmp_path, GEOMETRY), 1)[1]
    pixels = read_pixels(part, GEOMETRY)
    assert pixels.shape == (9, 16, 16, 3)
    torch.testing.assert_close(pixels.mean((1, 2, 3)) * 255, torch.arange(80.0, 161, 10), atol=3, rtol=0)


def test_of_a_latent_only_the_beginning_is_trained_on(tmp_path):
    latent = torch.randn(4, 7, 2, 2)
    save_file({"latent": latent}, tmp_path / "a.safetensors")
    write_board(tmp_path, "a", ["x", "y", "z"])
    parts = parts_of(read_dataset(tmp_path, GEOMETRY), 1)
    assert [(part.first, part.segments) for part in parts] == [(0, 1)]
    assert torch.equal(read_latent(parts[0], GEOMETRY), latent[:, :3])


def test_the_size_of_a_clip_is_that_of_its_pixels_however_it_is_stored(tmp_path):
    write_clip(tmp_path, "a", 1)
    write_video(tmp_path / "b.mp4")
    save_file({"latent": torch.zeros(4, 3, 2, 3)}, tmp_path / "c.safetensors")
    sizes = [size_of(tmp_path / name, GEOMETRY.facts) for name in ("a", "b.mp4", "c.safetensors")]
    stride = GEOMETRY.facts.spatial_stride
    assert sizes == [(16, 16), (16, 16), (3 * stride, 2 * stride)]
    save_file({"latent": torch.zeros(4, 3, 2)}, tmp_path / "d.safetensors")
    with pytest.raises(ValueError, match="d.safetensors has a latent of 3 axes"):
        size_of(tmp_path / "d.safetensors", GEOMETRY.facts)


def test_nothing_at_all_is_named(tmp_path):
    with pytest.raises(ValueError, match="none is no folder"):
        read_dataset(tmp_path / "none", GEOMETRY)
    with pytest.raises(ValueError, match="holds no clips and no storyboards"):
        read_dataset(tmp_path, GEOMETRY)


def test_missing_prompts_and_missing_clips_are_named(tmp_path):
    write_dataset(tmp_path)
    (tmp_path / "clip1.json").unlink()
    with pytest.raises(ValueError, match="1 of 3 clips have no prompts, first clip1; write clip1.json beside it"):
        read_dataset(tmp_path, GEOMETRY)
    write_board(tmp_path, "clip1", ["only one"])
    with pytest.raises(ValueError, match=r"clip1 has 2 segments \(17 pixel frames\) and its storyboard 1 prompts"):
        read_dataset(tmp_path, GEOMETRY)
    shutil.rmtree(tmp_path / "clip1")
    with pytest.raises(ValueError, match="1 of 3 storyboards have no clip, first clip1.json; put clip1.mp4 beside it"):
        read_dataset(tmp_path, GEOMETRY)


def test_clips_of_mixed_size_or_length_are_named(tmp_path):
    write_dataset(tmp_path)
    write_clip(tmp_path, "wide", size=(32, 16))
    with pytest.raises(ValueError, match="wide has 32x16 pixels and the data set 16x16; resize the clip"):
        read_dataset(tmp_path, GEOMETRY)
    shutil.rmtree(tmp_path / "wide")
    (tmp_path / "wide.json").unlink()
    write_clip(tmp_path, "short", frames=16)
    with pytest.raises(ValueError, match="short has 16 pixel frames and its 2 prompts need 17; give a longer clip"):
        read_dataset(tmp_path, GEOMETRY)


def test_pictures_of_mixed_size_within_a_clip_are_named(tmp_path):
    pictures = write_clip(tmp_path, "a")
    write_clip(tmp_path / "other", "b", size=(32, 16))
    shutil.copy(tmp_path / "other" / "b" / "0003.png", pictures / "0003.png")
    shutil.rmtree(tmp_path / "other")
    with pytest.raises(ValueError, match="a/0003.png has 32x16 pixels and the first picture 16x16"):
        read_dataset(tmp_path, GEOMETRY)


def test_a_video_of_another_frame_rate_is_named(tmp_path):
    write_video(tmp_path / "a.mp4", fps=12)
    write_board(tmp_path, "a", ["x", "y"])
    with pytest.raises(ValueError, match="a.mp4 runs at 12 frames per second and a.json says 8; convert the clip"):
        read_dataset(tmp_path, GEOMETRY)


def test_a_file_that_is_no_video_is_named(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    write_board(tmp_path, "a", ["x"])
    with pytest.raises(ValueError, match="a.mp4 is no video that can be read .*8 bytes"):
        read_dataset(tmp_path, GEOMETRY)


def test_a_shot_that_is_no_whole_number_of_segments_is_named(tmp_path):
    write_clip(tmp_path, "a", 2, seconds=1.5)
    with pytest.raises(ValueError, match=r"shot 1 lasts 1.5 seconds, 12 frames, and a segment has 8; use 2 seconds"):
        read_dataset(tmp_path, GEOMETRY)


def test_two_clips_for_one_storyboard_are_named(tmp_path):
    write_clip(tmp_path, "a")
    write_video(tmp_path / "a.mp4")
    with pytest.raises(ValueError, match="a has 2 clips, a and a.mp4, for one storyboard"):
        read_dataset(tmp_path, GEOMETRY)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"x": torch.zeros(1)}, "holds 1 tensors and no 'latent'"),
        ({"latent": torch.zeros(4, 3, 2, 3)}, r"has a latent \[4, 3, 2, 3\] and the data set \[4, frames, 2, 2\]"),
        ({"latent": torch.zeros(4, 2, 2, 2)}, "has 2 latent frames and its 1 prompts need 3"),
    ],
)
def test_a_latent_that_does_not_fit_is_named(tmp_path, tensors, message):
    save_file(tensors, tmp_path / "a.safetensors")
    write_board(tmp_path, "a", ["x"])
    with pytest.raises(ValueError, match=f"a.safetensors {message}"):
        read_dataset(tmp_path, GEOMETRY)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_latent_of_numbers_that_are_none_is_named_before_and_while_it_is_trained_on(tmp_path, number: float):
    latent = torch.zeros(4, 3, 2, 2, dtype=torch.bfloat16)
    save_file({"latent": latent}, tmp_path / "a.safetensors")
    write_board(tmp_path, "a", ["x"])
    (part,) = parts_of(read_dataset(tmp_path, GEOMETRY), 1)
    latent[1, 2, 0, 1] = number
    save_file({"latent": latent}, tmp_path / "a.safetensors")
    said = "a.safetensors: latent has 1 of 48 numbers NaN or infinite; encode it again"
    with pytest.raises(ValueError, match=said):
        read_dataset(tmp_path, GEOMETRY)
    with pytest.raises(ValueError, match=said):
        read_latent(part, GEOMETRY)


def test_a_data_set_that_changed_is_told_by_name_and_numbers(tmp_path):
    write_dataset(tmp_path)
    before = manifest(read_dataset(tmp_path, GEOMETRY))
    check_unchanged(before, read_dataset(tmp_path, GEOMETRY))
    picture = tmp_path / "clip1" / "0000.png"
    picture.write_bytes(picture.read_bytes() + b"more")
    with pytest.raises(ValueError, match=r"1 of 3 clips have changed, first clip1 \([\d,]+ bytes then, [\d,]+ now\)"):
        check_unchanged(before, read_dataset(tmp_path, GEOMETRY))
    write_board(tmp_path, "clip0", ["another", "story"])
    picture.write_bytes(picture.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"1 of 3 clips have changed, first clip0 \(other prompts\)"):
        check_unchanged(before, read_dataset(tmp_path, GEOMETRY))
    shutil.rmtree(tmp_path / "clip2")
    (tmp_path / "clip2.json").unlink()
    write_board(tmp_path, "clip0", ["clip0 part 0", "clip0 part 1"])
    write_clip(tmp_path, "new")
    with pytest.raises(ValueError, match="1 of 3 clips are gone, first clip2; 1 clips are new beside 3, first new"):
        check_unchanged(before, read_dataset(tmp_path, GEOMETRY))


def test_a_frame_rate_is_kept_of_networks_that_are_told_it_alone(tmp_path):
    told = replace(GEOMETRY, facts=replace(GEOMETRY.facts, unsaid_frame_rate=25.0))
    write_clip(tmp_path, "a", 2)
    assert "fps" not in manifest(read_dataset(tmp_path, GEOMETRY))["a"]
    begun_untold, begun = (manifest(read_dataset(tmp_path, geometry)) for geometry in (GEOMETRY, told))
    assert begun["a"]["fps"] == 8.0
    write_board(tmp_path, "a", ["a part 0", "a part 1"], seconds=0.5, fps=16)
    with pytest.raises(ValueError, match=r"1 of 1 clips have changed, first a \(8 frames per second then, 16 now\)"):
        check_unchanged(begun, read_dataset(tmp_path, told))
    check_unchanged(begun_untold, read_dataset(tmp_path, told))  # a run of before goes on


def test_a_segment_that_is_all_shared_is_refused():
    with pytest.raises(ValueError, match="a segment of 1 latent frames shares 1 with the next; use 2 or more"):
        Geometry(FACTS, 16, 16, 1)
