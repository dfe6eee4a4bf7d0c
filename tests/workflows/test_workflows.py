"""Every bundled workflow runs end to end over HTTP on the demo model and leaves a video that plays."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from tests.bundled_workflows import PATHS, load, name_of
from tests.comfy_process import ComfyProcess

SECONDS_TO_RUN = 900
FAMILIES = ("Wan 2.1", "Wan 2.2", "CogVideoX", "HunyuanVideo", "LTXV")
VIDEO_SUFFIXES = {".mp4", ".webm", ".mkv", ".mov"}


def test_there_are_workflows():
    assert {"storyboard", "latent_blend"} <= {path.stem for path in PATHS}


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
