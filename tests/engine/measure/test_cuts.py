"""PySceneDetect finds cuts as it does by itself, and planned ones are told apart; what is not installed is named."""

import sys

import pytest
import torch

from longreel.engine.measure import cuts, warp
from longreel.engine.measure.cuts import SceneDetectMeter
from longreel.engine.measure.figures import JointSpan
from tests.engine.measure.films import FPS, as_bytes, figures, film

LENGTH = 18


def three_shots() -> torch.Tensor:
    return torch.cat([film(LENGTH), film(LENGTH, seed=9), film(LENGTH, seed=17)])


def found_in(video: torch.Tensor) -> list[int]:
    meter = SceneDetectMeter(FPS)
    for part in as_bytes(video).split(7):
        meter.push(part)
    return meter.finish()[cuts.SCENEDETECT].nonzero().flatten().tolist()


def test_a_cut_is_found_where_it_is_and_a_planned_one_is_told_apart():
    video = three_shots()
    joints = (JointSpan(LENGTH, LENGTH, LENGTH, "cut"), JointSpan(2 * LENGTH, 2 * LENGTH - 2, 2 * LENGTH + 2, "blend"))
    found = figures(video, SceneDetectMeter(FPS), shots=(LENGTH,) * 3, joints=joints)["whole"]["cuts"]
    assert found == {"pyscenedetect": {"found": 2, "planned": 1, "unplanned_frames": [2 * LENGTH]}}
    assert found_in(film(3 * LENGTH, step=0.4)) == []


def test_it_is_what_pyscenedetect_finds_in_the_file(tmp_path):
    from scenedetect import AdaptiveDetector, ContentDetector, detect

    from longreel.engine.measure.video_file import write_video

    rush = torch.rand(40, 8, 8, 3, generator=torch.Generator().manual_seed(2))  # no cut is in it
    small = torch.cat([three_shots(), rush.repeat_interleave(4, 1).repeat_interleave(4, 2)])
    video = torch.nn.functional.interpolate(small.permute(0, 3, 1, 2), size=(96, 320)).permute(0, 2, 3, 1)
    path = write_video([video], tmp_path, "a", 1, FPS, 1).path
    theirs, others = (
        [start.frame_num for start, _ in detect(str(path), kind())[1:]] for kind in (AdaptiveDetector, ContentDetector)
    )
    assert found_in(video) == theirs and theirs[:2] == [LENGTH, 2 * LENGTH] and theirs != others


@pytest.mark.parametrize(("gone", "why"), [("scenedetect", cuts.NO_SCENEDETECT), ("cv2", cuts.NO_OPENCV)])
def test_what_is_not_installed_is_named(monkeypatch, gone, why):
    assert cuts.why_no_scenedetect() is None and warp.opencv_flow() is not None
    monkeypatch.setitem(sys.modules, gone, None)
    assert cuts.why_no_scenedetect() == why
    assert (warp.opencv_flow() is None) == (gone == "cv2")
