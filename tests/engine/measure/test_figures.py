"""Each figure of a report reacts to its own defect, in its own shot, and stays where it was for the others."""

import json

import pytest
import torch

from longreel.engine.measure.figures import JointSpan
from longreel.engine.measure.warp import WarpMeter, opencv_flow
from tests.engine.measure.films import FPS, figures, film

LENGTH = 20  # frames of a shot
CUT = (JointSpan(LENGTH, LENGTH, LENGTH, "cut"),)
BLEND = (JointSpan(LENGTH, LENGTH - 4, LENGTH + 5, "blend"),)


def story() -> torch.Tensor:
    """Two shots with a cut between them."""
    return torch.cat([film(LENGTH), film(LENGTH, seed=9)])


def flash(video):
    video[29] = 1 - video[29]


def freeze(video):
    video[LENGTH:] = video[[min(t, 26) if t < 36 else t - 9 for t in range(LENGTH, 2 * LENGTH)]]  # then it goes on


def darken(video):
    video[LENGTH:] *= torch.linspace(1, 0.7, LENGTH)[:, None, None, None]


def noise(video):
    dots = torch.rand(video[LENGTH:].shape, generator=torch.Generator().manual_seed(3)) - 0.5
    video[LENGTH:] = (video[LENGTH:] + 0.1 * dots).clamp(0, 1)


def slow(video):
    video[LENGTH:] = film(LENGTH, step=0.5, seed=9)


@pytest.fixture(scope="module")
def found() -> dict[str, dict]:
    """The figures of the second shot, by defect; the first shot is the same in all of them."""
    result = {}
    for defect in (None, flash, freeze, darken, noise, slow):
        video = story()
        if defect:
            defect(video)
        shots = figures(video, WarpMeter(opencv_flow(), side=180), shots=(LENGTH, LENGTH), joints=CUT)["shots"]
        result[defect.__name__ if defect else "clean"] = shots[1]
        result.setdefault("first", shots[0])
        same = {key: value for key, value in shots[0].items() if key != "broken_frames"}
        assert same == {key: value for key, value in result["first"].items() if key != "broken_frames"}
    return result


def of(found: dict[str, dict], read) -> dict[str, float]:
    return {defect: read(shot) for defect, shot in found.items() if defect != "first"}


def test_broken_frames_are_the_flash_alone(found):
    broken = of(found, lambda shot: shot["broken_frames"])
    assert broken == {**dict.fromkeys(broken, 0), "flash": 1}
    assert found["flash"]["first_broken_frame"] == 29


def test_frozen_frames_are_those_that_stand_still_alone(found):
    frozen = of(found, lambda shot: shot["frozen_share"])
    assert frozen.pop("freeze") == pytest.approx(9 / 19) and found["freeze"]["longest_still"]["frames"] == 10
    assert frozen.pop("slow") > 0.3  # half a pixel a frame, drawn in whole ones, does stand still every other frame
    assert set(frozen.values()) == {0}


def test_drift_is_the_darkening_alone(found):
    drift = of(found, lambda shot: shot["drift"]["size"])
    assert found["darken"]["drift"]["worst"] in ("color", "brightness") and drift.pop("darken") > 0.1
    assert drift.pop("flash") > 0.03  # a flash moves the mean of its second
    assert max(drift.values()) < 0.03


def test_motion_follows_the_pace(found):
    motion = of(found, lambda shot: shot["motion_pixels"])
    assert motion["slow"] < 0.75 * motion["clean"] and motion["freeze"] < 0.75 * motion["clean"]


@pytest.mark.parametrize("name", ["mawe_code", "mawe_paper"])
def test_warp_error_is_what_movement_does_not_explain(found, name):
    error = of(found, lambda shot: shot[name])
    assert error["noise"] > 3 * error["clean"] and error["flash"] > 1.5 * error["clean"]
    assert error["slow"] < 3 * error["clean"]


def test_the_worst_pair_is_the_flash(found):
    worst = of(found, lambda shot: shot["worst_pair"]["difference"])
    assert max(worst, key=worst.get) == "flash" and found["flash"]["worst_pair"]["frame"] in (29, 30)
    assert worst["flash"] > 4 * worst["clean"]


def test_a_planned_cut_counts_nowhere_and_one_that_is_none_is_named():
    cut = figures(story(), shots=(LENGTH, LENGTH), joints=CUT)
    unplanned = figures(story(), shots=(2 * LENGTH,))
    assert unplanned["whole"]["worst_pair"]["frame"] == LENGTH
    assert cut["whole"]["worst_pair"]["difference"] < 0.3 * unplanned["whole"]["worst_pair"]["difference"]
    assert cut["joints"][0]["cut_seen"] and cut["joints"][0]["seam"] is None and len(cut["takes"]) == 2
    assert not figures(film(2 * LENGTH), shots=(LENGTH, LENGTH), joints=CUT)["joints"][0]["cut_seen"]


def test_a_seam_is_scored_over_the_whole_transition():
    clean = film(2 * LENGTH, step=0.5)
    late = clean.clone()
    late[LENGTH + 3 :] = film(2 * LENGTH, step=0.5, start=18)[LENGTH + 3 :]  # a jump of 12 pixels behind the boundary
    seams = [figures(video, shots=(LENGTH, LENGTH), joints=BLEND)["joints"][0] for video in (clean, late)]
    assert seams[0]["seam"] < 2 < 4 < seams[1]["seam"] and seams[1]["worst_frame"] in range(LENGTH, LENGTH + 8)


def test_a_drift_across_the_shots_of_a_take_is_seen_by_the_take():
    video = film(2 * LENGTH, step=0.5)
    video[LENGTH:] *= 0.8  # each shot by itself is steady
    found = figures(video, shots=(LENGTH, LENGTH), joints=BLEND)
    assert [shot["drift"]["size"] < 0.03 for shot in found["shots"]] == [True, True]
    assert found["takes"][0]["drift"]["size"] > 0.1


def test_what_nothing_was_measured_of_is_none_and_all_of_it_is_json():
    found = figures(film(6), shots=(2, 4))
    for name in ("cscv", "text_alignment", "motion_pixels", "mawe_code", "mawe_paper"):
        assert found["whole"][name] is None
    assert found["shots"][0]["drift"] is None and found["whole"]["cuts"] == {} and found["whole"]["loop"] is None
    json.dumps(found, allow_nan=False)


def test_cscv_and_text_are_those_of_the_shot():
    class Clip:
        def push(self, frames):
            pass

        def finish(self):
            likeness = torch.ones(2 * LENGTH - 1)
            likeness[LENGTH - 1] = 0.1  # across the cut
            likeness[30] = 0.5
            text = torch.cat([torch.full((LENGTH,), 0.3), torch.full((LENGTH,), 0.2)])
            return {"likeness": likeness, "text": text}

    found = figures(story(), Clip(), shots=(LENGTH, LENGTH), joints=CUT)
    assert [shot["cscv"] == 1 for shot in found["shots"]] == [True, False]
    assert [shot["text_alignment"] for shot in found["shots"]] == pytest.approx([0.3, 0.2])
    assert found["shots"][1]["cscv"] < found["whole"]["cscv"] < 1 and FPS == 8
