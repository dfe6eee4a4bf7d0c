"""training/collect.py: clips from memory become a data set that reads back as it was."""

import json
import os
import signal

import pytest
import torch

from longreel.engine.plan.facts import ModelFacts
from longreel.engine.runs.disk import WriteError
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.training.collect import Spoken, collect, storyboard_of
from longreel.training.dataset import Geometry, parts_of, read_dataset, read_pixels
from tests.engine.killed import killed_by_itself, largest_file

FACTS = ModelFacts(
    "Wan",
    latent_channels=16,
    temporal_stride=4,
    spatial_stride=8,
    size_multiple=16,
    native_latent_frames=21,
    native_fps=16.0,
)
GEOMETRY = Geometry(FACTS, 32, 16, segment_latent_frames=3)  # 8 frames further each, half a second at 16 fps


def clip(text: str, segments: int = 2, seed: int = 0) -> Spoken:
    torch.manual_seed(seed)
    return Spoken(torch.randint(0, 256, (8 * segments + 1, 16, 32, 3)).float() / 255, 16.0, text)


def test_what_is_collected_is_read_back_to_the_bit(tmp_path):
    given = [clip("a red ball\n\n  a blue ball \n"), clip("one\ntwo\nthree", 3, seed=1)]
    folder = collect(tmp_path, "balls", given, 0.5)
    clips = read_dataset(folder, GEOMETRY)
    assert [one.prompts for one in clips] == [("a red ball", "a blue ball"), ("one", "two", "three")]
    for one, spoken in zip(clips, given, strict=False):
        whole = parts_of([one], one.segments)[0]
        torch.testing.assert_close(read_pixels(whole, GEOMETRY), spoken.frames)


def test_the_same_clips_are_the_same_folder_and_others_another(tmp_path):
    first = collect(tmp_path, "balls", [clip("a\nb")], 0.5)
    stamp = (first / "clip_00000" / "000000.png").stat().st_mtime_ns
    assert collect(tmp_path, "balls", iter([clip("a\nb")]), 0.5) == first
    assert (first / "clip_00000" / "000000.png").stat().st_mtime_ns == stamp
    others = {collect(tmp_path, "balls", [clip("a\nc")], 0.5), collect(tmp_path, "balls", [clip("a\nb", seed=1)], 0.5)}
    assert len(others | {first}) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in others | {first})


def test_text_may_be_a_storyboard_or_a_scene_list():
    board = Storyboard((Shot("a fox", 1.0), Shot("an owl", 2.0)), fps=8.0, style="ink")
    assert storyboard_of(board.to_json(), 16.0, 0.5, 32, 16) == board
    scenes = json.dumps([[{"text": "a fox"}, {"text": "an owl"}]])
    assert [shot.prompt for shot in storyboard_of(scenes, 16.0, 0.5, 32, 16).shots] == ["a fox", "an owl"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" \n", "clip 2: the text has no prompts; write one for each segment"),
        ('{"shots": 3}', "clip 2: "),
        (
            json.dumps([[{"text": "a"}], [{"text": "b"}]]),
            "clip 2: the text is a list of 2 videos and belongs to one clip",
        ),
    ],
)
def test_bad_text_is_named_by_its_clip_and_leaves_no_folder(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        collect(tmp_path, "balls", [clip("a\nb"), clip(text)], 0.5)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_gone_after_the_next_data_set(tmp_path):
    def killed():
        yield clip("a\nb")
        os.kill(os.getpid(), signal.SIGKILL)

    assert killed_by_itself(lambda: collect(tmp_path, "balls", killed(), 0.5))
    assert len(list(tmp_path.iterdir())) == 1
    folder = collect(tmp_path, "others", [clip("a\nb")], 0.5)
    assert list(tmp_path.iterdir()) == [folder]


def test_a_full_disk_says_how_much_is_free_and_leaves_nothing(tmp_path):
    with (
        largest_file(100),
        pytest.raises(WriteError, match=r"^the data set balls is not whole, and writing stopped \(.*\) with"),
    ):
        collect(tmp_path, "balls", [clip("a\nb")], 0.5)
    assert list(tmp_path.iterdir()) == []
