"""hosts/web/storyboard_check.py: all mistakes where they stand, the plan before anything runs, and nothing else."""

from __future__ import annotations

import json

import pytest

import folder_paths

from longreel.engine.plan.asked import Asked, plan_as_asked
from longreel.engine.plan.rows import plan_rows
from longreel.engine.storyboard.board import parse_storyboard
from longreel.engine.storyboard.faults import StoryboardError
from longreel.hosts import facts_of
from longreel.hosts.families import usual_facts
from longreel.hosts.web import storyboard_check
from longreel.hosts.web.storyboard_check import WrongQuestion, check_storyboard

BAD = """{
  "longreel": 1,
  "fps": 0,
  "shots": [
    {"prompt": "a", "seconds": 1},
    {"prompt": "b", "seconds": "2",
     "transition": "crossfade",
     "anchors": [{"at": 0, "image": "none.png"}]}
  ]
}"""
GOOD = json.dumps({"longreel": 1, "shots": [{"prompt": "a", "seconds": 2, "id": "x"}, {"prompt": "b", "seconds": 3}]})


@pytest.fixture(autouse=True)
def input_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "get_input_directory", lambda: str(tmp_path))
    return tmp_path


def test_every_mistake_is_said_at_once_with_its_shot_its_line_and_the_nodes_own_words():
    answer = check_storyboard({"text": BAD, "plan": None})
    with pytest.raises(StoryboardError) as error:
        parse_storyboard(BAD)
    found = [(one["shot"], one["path"][-1], one["line"]) for one in answer["mistakes"]]
    assert found == [(None, "fps", 3), (2, "seconds", 6), (2, "transition", 7), (2, "image", 8)]
    assert [one["message"] for one in answer["mistakes"][:3]] == str(error.value).splitlines()
    assert answer["plan"] is None


@pytest.mark.parametrize(
    "text",
    ['[{"prompt": "a", "seconds": 1},\n {"prompt": "b"}]', '{"prompt": "a", "seconds": 1}\n{"prompt": "b"}'],
    ids=["list", "lines"],
)
def test_a_mistake_has_its_shot_however_the_shots_are_written(text: str):
    (mistake,) = check_storyboard({"text": text})["mistakes"]
    assert (mistake["shot"], mistake["path"], mistake["line"]) == (2, ["shots", 1], 2)


@pytest.mark.parametrize(
    ("text", "line"), [('{"longreel": 1,\n "shots": [}', 2), ('{"longreel": 1,\n "shots": [1,\n]}', 2)]
)
def test_what_is_not_json_has_its_line(text: str, line: int):
    (mistake,) = check_storyboard({"text": text})["mistakes"]
    assert (mistake["shot"], mistake["line"]) == (None, line)
    assert f"(line {line}, " in mistake["message"]


def test_the_plan_is_the_one_that_the_node_makes():
    wanted = {"family": "Wan", "width": 100, "segment_frames": 17, "overlap_frames": 8, "transition_prompts": 2}
    answer = json.loads(json.dumps(check_storyboard({"text": GOOD, "plan": wanted})))
    asked = Asked(width=100, segment_frames=17, overlap_frames=8, transition_prompts=2)
    timeline = plan_as_asked(parse_storyboard(GOOD), usual_facts()["Wan"], asked, lambda: None)
    assert answer["plan"] == json.loads(json.dumps(plan_rows(timeline, (100, 480))))
    assert (answer["plan"]["width"], answer["plan"]["segment_frames"]) == (96, 5)
    assert [one["asked_seconds"] for one in answer["plan"]["shots"]] == [2, 3] and answer["mistakes"] == []
    assert [one["id"] for one in answer["plan"]["shots"]] == ["x", None]
    assert "100x480 asked, 96x480 planned (Wan works in multiples of 16 pixels)" in answer["plan"]["notes"]


def test_a_plan_that_the_family_cannot_make_is_refused_in_words():
    answer = check_storyboard({"text": GOOD, "plan": {"family": "LTXV", "segment_frames": 21}})
    assert answer["plan"] is None and answer["refused"] == "21 pixel frames is not 8n+1 for LTXV; use 17 or 25"


def test_a_plan_that_takes_too_long_is_left_to_the_node(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(storyboard_check, "SECONDS", -1.0)
    answer = check_storyboard({"text": GOOD, "plan": {"family": "Wan"}})
    assert answer["plan"] is None and "takes longer than" in answer["refused"]


def test_only_whether_a_picture_is_there_is_looked_at(input_folder):
    board = {"longreel": 1, "shots": [{"prompt": "a", "seconds": 1, "anchors": [{"at": 0, "image": "x.png"}]}]}
    assert "no file in" in check_storyboard({"text": json.dumps(board)})["mistakes"][0]["text"]
    (input_folder / "x.png").write_bytes(b"no picture at all")
    assert check_storyboard({"text": json.dumps(board)})["mistakes"] == []


@pytest.mark.parametrize(
    "question",
    [
        [],
        {"text": 1},
        {"text": GOOD, "plan": []},
        {"text": GOOD, "plan": {"family": "SDXL"}},
        {"text": GOOD, "plan": {"family": ["Wan"]}},
        {"text": GOOD, "plan": {"family": "Wan", "width": 64.0}},
        {"text": GOOD, "plan": {"family": "Wan", "segment_frames": 4098}},
        {"text": GOOD, "plan": {"family": "Wan", "transition_prompts": True}},
    ],
)
def test_a_wrong_question_is_refused(question):
    with pytest.raises(WrongQuestion):
        check_storyboard(question)


def test_the_usual_facts_are_those_of_a_loaded_model(tiny, every_tiny):
    """The rest of the facts are constants that both have; knows_frame_times differs between checkpoints of a name."""
    loaded = facts_of(tiny(every_tiny.name).model)
    usual = usual_facts()[loaded.family]
    for name in ("latent_channels", "spatial_stride", "size_multiple", "patch_frames"):
        assert getattr(usual, name) == getattr(loaded, name), name
