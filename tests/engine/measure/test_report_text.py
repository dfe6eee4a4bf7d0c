"""The report says what the figures hold in the words and seconds of a viewer, and what was not computed."""

import pytest

from longreel.engine.measure.figures import JointSpan
from longreel.engine.measure.report_text import MOST_ROWS, report_text
from tests.engine.measure.films import FPS, figures, film

LENGTH = 16
JOINTS = (JointSpan(LENGTH, LENGTH - 2, LENGTH + 3, "blend"), JointSpan(2 * LENGTH, 2 * LENGTH, 2 * LENGTH, "cut"))


def whole(found: dict, **changed) -> dict:
    video = {"name": "ship.mp4", "frames": 3 * LENGTH, "width": 32, "height": 32, "fps": FPS}
    return {"video": video, "sources": {}, "not_computed": [], **found, **changed}


@pytest.fixture(scope="module")
def found() -> dict:
    video = film(3 * LENGTH, step=0.3)
    video[LENGTH + 1] = 1 - video[LENGTH + 1]
    return figures(video, shots=(LENGTH,) * 3, joints=JOINTS)


def test_places_are_seconds_and_shots_count_from_one(found):
    lines = report_text(whole(found)).splitlines()
    assert lines[0] == "ship.mp4: 48 frames, 32 x 32 pixels, 8 fps, 6.00 s"
    assert "broken frames: 1 of 48, the first at 2.12 s" in lines
    (table,) = (n for n, line in enumerate(lines) if line.split()[:2] == ["shot", "from"])
    assert [line.split()[:4] for line in lines[table + 1 : table + 4]] == [
        ["1", "0.00", "2.00", "0"],
        ["2", "2.00", "4.00", "1"],
        ["3", "4.00", "6.00", "0"],
    ]
    blend, cut = (next(line for line in lines if word in line.split()[1:3]) for word in ("1-2", "2-3"))
    assert "blend  1.75-2.38" in blend and blend.endswith("a break is seen")
    assert cut.endswith("planned cut, but nothing changes there")


def test_what_is_missing_is_listed_and_what_is_there_is_said_once(found):
    text = report_text(whole(found, not_computed=[{"what": "CSCV", "why": "no clip_vision is wired"}]))
    assert text.endswith("not computed:\n  CSCV: no clip_vision is wired")
    assert "CSCV:" not in text.replace("  CSCV: no clip_vision", "")
    figure = {**found["whole"], "cscv": 0.81, "mawe_code": 3.0, "mawe_paper": 4.0, "motion_pixels": 2.5}
    figure |= {"text_alignment": 0.27, "loop": {"start_frame": 8, "stop_frame": 40, "period_frames": 8}}
    figure |= {"cuts": {"transnet": {"found": 10, "planned": 1, "unplanned_frames": list(range(9))}}}
    text = report_text(whole(found, whole=figure, sources={"CSCV": "a tiny model"}))
    for line in (
        "CSCV: 81.00 %",
        "MAWE: 3.00 as in the code, 4.00 as in the paper's text",
        "motion: 2.50 pixels per frame at 720 x 720",
        "text alignment: 27.00 (cosine x 100)",
        "loops: 1.00 s to 5.00 s comes again every 1.00 s",
        "CSCV: a tiny model",
    ):
        assert line in text.splitlines()
    assert "SCuts by transnet: 10, of them 1 planned, at 0.00 s" in text and "0.88 s and 1 more" in text


def test_a_thousand_shots_are_a_table_that_can_be_read(found):
    text = report_text(whole(found, shots=found["shots"][:1] * 1000))
    assert f"... and {1000 - MOST_ROWS} more, in the JSON" in text
