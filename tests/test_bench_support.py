"""Intervals are drawn over stories, and sheets show every frame with what is broken framed in red."""

import argparse
import random

import pytest
import torch
from PIL import Image

from tests.bench import all as bench_all
from tests.bench._look import Look, around, columns
from tests.bench_support import frame_sheet, interval, story_interval, story_median, story_percent


def wide(found: tuple[float, float]) -> float:
    return found[1] - found[0]


def test_stories_that_are_all_alike_inside_have_intervals_of_stories_and_not_of_segments():
    """20 stories of 20 segments, each right or wrong as a whole: 20 facts, not 400."""
    rng = random.Random(1)
    stories = [[rng.random() < 0.7] * 20 for _ in range(20)]
    right = sum(map(sum, stories))
    assert wide(story_interval(stories)) > 3 * wide(interval(right, 400))
    assert wide(story_interval(stories)) == pytest.approx(wide(interval(right // 20, 20)), rel=0.3)


def test_independent_segments_have_about_the_interval_of_segments():
    rng = random.Random(2)
    stories = [[rng.random() < 0.7 for _ in range(20)] for _ in range(40)]
    assert wide(story_interval(stories)) == pytest.approx(wide(interval(sum(map(sum, stories)), 800)), rel=0.35)


def test_the_interval_covers_the_truth_about_95_times_in_a_hundred():
    rng, covered = random.Random(3), 0
    for _ in range(100):
        shares = [rng.betavariate(2, 1) for _ in range(30)]  # a story's own share; its mean is 2/3
        low, high = story_interval([[rng.random() < share for _ in range(10)] for share in shares], rounds=400)
        covered += low <= 2 / 3 <= high
    assert 88 <= covered <= 100


def test_all_right_is_as_sure_as_the_number_of_stories():
    assert story_interval([[True] * 10] * 5) == interval(5, 5)
    assert story_interval([[False] * 10, []]) == interval(0, 1)
    with pytest.raises(ValueError, match="at least one story"):
        story_interval([[]])


def test_cells_of_tables():
    assert story_percent([[True, False], [True, True]]).startswith("75.0 % (50.0 .. 100.0")
    assert story_percent([]) == "-"
    assert story_percent([[True]]) == "100.0 % (1 story)"
    assert story_median([[1.0], [2.0], [9.0]]) == "2 (1 .. 9)"
    assert story_median([[1.0], [3.0]]) == "2 (1 .. 3)"  # torch.median would take the lower one
    looks = [Look([0.5, 4.0], 0.2, 9, [False, True], [True], [True], [1.0], []) for _ in range(3)]
    assert columns(looks)[:2] == ["4 (4 .. 4)", "100 %"]
    assert columns(looks)[3].startswith("50.0 %")
    assert columns(looks)[-1].startswith("0.0 %")


def test_frames_around_joints():
    assert around([(5, 7)], 20, 2) == [3, 4, 5, 6, 7, 8]
    assert around([(0, 2), (3, 4)], 5, 1) == [0, 1, 2, 3, 4]


def test_a_sheet_shows_every_frame_and_frames_the_broken_ones(tmp_path):
    video = torch.linspace(0, 0.6, 7)[:, None, None, None].expand(7, 8, 8, 3)
    marked = torch.zeros(7, dtype=torch.bool)
    marked[4] = True
    frame_sheet([video], ["a caption"], tmp_path / "sheet.png", [marked], columns=3)
    sheet = Image.open(tmp_path / "sheet.png")
    assert sheet.size == (3 * 10, 14 + 3 * (8 + 14))
    for number in range(7):
        x, y = number % 3 * 10 + 4, 14 + number // 3 * 22 + 14 + 4
        assert sheet.getpixel((x, y))[0] == pytest.approx(255 * number * 0.1, abs=1)
    assert sheet.getpixel((10, 14 + 22 + 14)) == (255, 40, 40)


def test_all_tables_resume_by_command_code_and_status(tmp_path):
    options = argparse.Namespace(seeds=2, offset=50, tables=["blend", "demo", "anchor", "ttt shape"], out=tmp_path)
    code = bench_all.code_version()
    kept = {
        name: {"command": bench_all.command(name, options), "code": code, "status": 0, "text": "", "seconds": 1}
        for name in options.tables
    }
    assert list(bench_all.missing(kept, options)) == []
    kept["demo"]["status"] = 1
    kept["anchor"]["code"] = "another commit"
    kept["ttt shape"]["command"] = [*kept["ttt shape"]["command"], "--segments", "8"]
    assert list(bench_all.missing(kept, options)) == ["demo", "anchor", "ttt shape"]
    bench_all.write(kept, options)
    text = (tmp_path / "tables.txt").read_text(encoding="utf-8")
    assert "python dev.py bench blend --seeds 4 --offset 50" in text
    assert "--ways 'local attention' TTT-MLP" in text  # as a shell takes it
    assert "FAILED with status 1" in text
