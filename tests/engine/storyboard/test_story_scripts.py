"""Stories of ViStoryBench and MSVBench become storyboards, and their mistakes are named where they stand."""

import json

import pytest

from longreel.engine.storyboard.faults import StoryboardError
from longreel.engine.storyboard.files import parse_storyboards, read_storyboards
from longreel.engine.storyboard.story_scripts import SECONDS


def shot(index: int, **differences) -> dict:
    """A shot of ViStoryBench, as its loader reads one."""
    return {
        "index": index,
        "Setting Description": {"en": "A quiet harbour at dawn", "ch": "清晨的港口"},
        "Plot Correspondence": {"en": "Mira finds the letter.", "ch": "米拉发现了信。"},
        "Characters Appearing": {"en": ["Mira", "The gull"], "ch": ["米拉", "海鸥"]},
        "Static Shot Description": {"en": "Mira holds a letter", "ch": "米拉拿着信"},
        "Shot Perspective Design": {"en": "Medium shot, eye level", "ch": "中景"},
        **differences,
    }


def story(*shots: dict) -> dict:
    characters = {"Mira": {"name_en": "Mira", "prompt_en": "a girl in a red coat", "tag": "realistic_human"}}
    return {"Story_type": {"en": "Adventure"}, "Shots": list(shots), "Characters": characters}


def read(data) -> tuple:
    return tuple(parse_storyboards(json.dumps(data, ensure_ascii=False, indent=1)))


def mistakes(data) -> list[str]:
    with pytest.raises(StoryboardError) as caught:
        read(data)
    return str(caught.value).splitlines()


def test_a_story_of_vistorybench_is_told_in_its_own_order(tmp_path):
    file = tmp_path / "story.json"
    file.write_text(json.dumps(story(shot(1), shot(2)), ensure_ascii=False), encoding="utf-8")
    (board,) = read_storyboards(file)
    assert [(one.seconds, one.transition) for one in board.shots] == [(SECONDS, "continue"), (SECONDS, "cut")]
    assert board.shots[0].prompt == (
        "Medium shot, eye level. Mira finds the letter. Mira holds a letter. Mira is a girl in a red coat. "
        "A quiet harbour at dawn."
    )  # the gull is named and not described


def test_a_story_that_is_told_in_chinese_alone_stays_chinese():
    fields = ("Setting Description", "Plot Correspondence", "Static Shot Description", "Shot Perspective Design")
    chinese = shot(1, **{name: {"ch": f"第{number}句。"} for number, name in enumerate(fields)})
    (board,) = read({"Shots": [chinese]})
    assert board.shots[0].prompt == "第3句。 第1句。 第2句。 第0句。"


def test_a_script_of_msvbench_says_the_view_first_and_every_clip_is_a_shot():
    clips = [
        {"id": 1, "characters": ["1"], "description": "A fox runs", "camera_angle": "Low Angle Shot"},
        {"id": 2, "characters": [], "description": "It stops!", "shot_distance": "Close-Up", "camera_angle": ""},
    ]
    script = [{"scene": 1, "environment": 1, "clips": clips}, {"scene": 2, "clips": [{"description": "Night falls."}]}]
    (board,) = read({"characters": [], "environments": [], "script": script})
    said = ["Low Angle Shot. A fox runs.", "Close-Up. It stops!", "Night falls."]
    assert [one.prompt for one in board.shots] == said
    assert [one.transition for one in board.shots] == ["continue", "cut", "cut"]


def test_mistakes_are_named_with_line_and_shot():
    broken = story(shot(1), shot(2, **{"Plot Correspondence": {"en": " "}}), "no shot")
    del broken["Shots"][0]["Setting Description"]
    said = mistakes(broken)
    assert [line.split(": ", 1)[1] for line in said] == [
        'shot 1: Setting Description is missing; write {"en": "..."}',
        'shot 2: Plot Correspondence has no text in en or ch; write {"en": "..."}',
        "shot 3 is 'no shot', not an object",
    ]
    lines = json.dumps(broken, ensure_ascii=False, indent=1).splitlines()
    assert '"Plot Correspondence"' in lines[int(said[1].split(":")[0].removeprefix("line ")) - 1]
    assert mistakes({"script": [{"scene": 1}, {"clips": [{"id": 7}]}]}) == [
        'line 3: scene 1 has no list of clips; write "clips": [{...}]',
        'line 8: shot 1: description is null; write "description": "..."',
    ]
    assert "Shots holds no shot" in mistakes(story())[0]


def test_what_a_storyboard_cannot_hold_is_named_at_its_shot():
    long = shot(2, **{"Plot Correspondence": {"en": "x" * 10_001}})
    (line,) = mistakes(story(shot(1), long))
    assert "shot 2: prompt has 101" in line and line.startswith("line ")


def test_a_storyboard_of_the_pack_is_none_of_them():
    assert (
        "script is not a known key"
        in mistakes({"longreel": 1, "shots": [{"prompt": "a cat", "seconds": 2.0}], "script": []})[0]
    )
