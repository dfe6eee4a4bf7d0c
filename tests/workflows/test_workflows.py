"""Every bundled workflow runs end to end over HTTP on the demo model and leaves a video that plays."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import av
import numpy as np
import pytest

from tests.bundled_workflows import PATHS, READY, load, name_of
from tests.comfy_process import ComfyProcess
from tests.lay_out import FIRST, GROUPS, overlap

SECONDS_TO_RUN = 900
FAMILIES = ("Wan 2.1", "Wan 2.2", "CogVideoX", "HunyuanVideo", "LTXV")
VIDEO_SUFFIXES = {".mp4", ".webm", ".mkv", ".mov"}


def test_names_carry_the_order_and_no_number_is_left_out():
    """The editor's template browser shows files as the folder lists them, and their names as titles."""
    assert [int(path.stem[:2]) for path in PATHS] == list(range(1, len(PATHS) + 1))
    assert [int(path.stem[:2]) for path in READY] == list(range(21, 21 + len(READY)))


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_a_bundled_workflow_leaves_a_video_that_plays(path: Path, comfy: ComfyProcess):
    files = [file for file in comfy.files(comfy.run(load(path), SECONDS_TO_RUN)) if file.suffix in VIDEO_SUFFIXES]
    assert files, "the workflow saved no video"
    for file in files:
        with av.open(file) as video:
            frames = [frame.to_ndarray(format="rgb24").astype(np.float32) for frame in video.decode(video=0)]
        assert len(frames) > 1
        assert np.std(frames[0]) > 1, "the first frame is one flat colour"
        assert max(np.abs(frame - frames[0]).max() for frame in frames[1:]) > 8, "nothing moves"


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_a_note_says_which_loader_to_swap_in(path: Path):
    notes = [str(node["widgets_values"]) for node in load(path)["nodes"] if node["type"] in ("Note", "MarkdownNote")]
    assert [family for family in FAMILIES if family not in " ".join(notes)] == []


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_seeds_stay_as_they_are(path: Path):
    """A template that randomises its seed does not show what its picture shows."""
    assert '"randomize"' not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_a_bundled_workflow_is_laid_out(path: Path):
    """The note to read first is at the top left, all nodes but notes are in one coloured group, and none on another."""
    workflow = load(path)
    boxes = {node["id"]: (*node["pos"], *node["size"]) for node in workflow["nodes"]}
    notes = {node["id"]: node for node in workflow["nodes"] if node["type"] == "MarkdownNote"}
    corner = [min(box[axis] for box in boxes.values()) for axis in (0, 1)]
    assert [note["title"] for note in notes.values() if note["pos"] == corner] == [FIRST]
    assert {group["title"]: group["color"] for group in workflow["groups"]}.items() <= GROUPS.items()
    for number, box in boxes.items():
        inside = [group["title"] for group in workflow["groups"] if overlap(group["bounding"], box)]
        assert len(inside) == (number not in notes), (number, inside)
    assert not [pair for pair in combinations(boxes, 2) if overlap(boxes[pair[0]], boxes[pair[1]])]


@pytest.mark.parametrize("path", [*PATHS, *READY], ids=name_of)
def test_file_names_in_notes_can_be_read_in_both_renderers(path: Path):
    """Nodes 2.0 draws inline code dark on the dark ground of a note; bold is bright in both."""
    notes = [node["widgets_values"][0] for node in load(path)["nodes"] if node["type"] in ("Note", "MarkdownNote")]
    assert notes and not any("`" in note for note in notes)
