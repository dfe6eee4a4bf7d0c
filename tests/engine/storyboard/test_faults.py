"""engine/storyboard/faults.py: all mistakes of a storyboard are said at once, each with line, shot and key."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longreel.engine.storyboard.board import parse_storyboard
from longreel.engine.storyboard.faults import SHOWN, StoryboardError

from ..storyboard_cases import VALIDATOR, board, fault, relaxed

SECONDS_REMEDY = "write seconds above 0 and up to 3600"


MANY = """{"longreel": 1, "fps": 0, "widht": 3,
 "shots": [
  {"prompt": "a", "secnds": 2},
  {"promt": "b", "seconds": -1,
   "transition": "fade",
   "anchors": [{"at": -1, "image": "../a"},
     {"at": 3, "image": "lost.png"}]},
  4,
  {"prompt": "", "seconds": 1, "title": "x", "seconds": 4}]}
"""


def test_all_mistakes_are_said_at_once_with_line_shot_and_key() -> None:
    def check_image(image: str) -> None:
        if image == "lost.png":
            raise StoryboardError("image is 'lost.png', no file")

    with pytest.raises(StoryboardError) as caught:
        parse_storyboard(MANY, {"anchors": check_image})
    assert str(caught.value).splitlines() == [
        'line 1: widht is not a known key; did you mean "width"?',
        "line 1: fps is 0; write frames per second above 0 and up to 240",
        'line 3: shot 1: secnds is not a known key; did you mean "seconds"?',
        'line 4: shot 2: promt is not a known key; did you mean "prompt"?',
        f"line 4: shot 2: seconds is -1; {SECONDS_REMEDY}",
        'line 5: shot 2: transition is \'fade\'; write "continue", "blend" or "cut"',
        "line 6: shot 2, anchor 1: image is '../a', which leaves the input folder; write a path below ComfyUI's input "
        'folder, such as "shots/ship.png"',
        "line 6: shot 2, anchor 1: at is -1; write seconds from the start of the shot, 0 to 3600",
        "line 7: shot 2, anchor 2: image is 'lost.png', no file",
        'line 8: shot 3 is 4, not an object; write {"prompt": "...", "seconds": 3.0}',
        "line 9: shot 4: the key 'seconds' is written twice in one object; keep one of them",
        "line 9: shot 4: title is not a known key here; it belongs to the storyboard, beside shots",
        "line 9: shot 4: prompt is empty; say what the shot shows",
    ]


@relaxed
@given(st.lists(st.integers(1, 9), min_size=1, max_size=30))
def test_every_mistake_has_the_line_on_which_its_key_stands(places_of_mistakes: list[int]) -> None:
    lines = ['{"longreel": 1,', ' "shots": [']
    expected = []
    for shot, place in enumerate(places_of_mistakes, start=1):
        lines += ["  {", *[f'   "_{number}": [{{"]": "}}"}}, "\\"seconds"],' for number in range(place)]]
        lines += ['   "seconds": 0,', '   "prompt": "a"},']
        expected.append(f"line {len(lines) - 1}: shot {shot}: seconds is 0; {SECONDS_REMEDY}")
    lines[-1] = '   "prompt": "a"}]}'
    found = fault("\n".join(lines)).splitlines()
    assert found[:SHOWN] == expected[:SHOWN]
    assert found[SHOWN:] == [f"and {len(expected) - SHOWN} more mistakes like these"] * (len(expected) > SHOWN)


def test_a_reader_that_has_found_a_thousand_mistakes_looks_no_further() -> None:
    looked: list[str] = []
    anchors = [{"at": -1, "image": "a"}] * 64
    text = board(shots=[{"prompt": "a", "seconds": 3, "anchors": anchors}] * 1000)

    def check_image(image: str) -> None:
        looked.append(image)
        raise StoryboardError("image is 'a', no file")

    with pytest.raises(StoryboardError) as caught:
        parse_storyboard(text, {"anchors": check_image})
    lines = str(caught.value).splitlines()
    assert len(looked) <= 1100 and len(lines) == SHOWN + 1
    assert lines[0] == "line 1: shot 1, anchor 1: image is 'a', no file"
    assert lines[-1] == "and 980 or more mistakes like these"


def test_a_mistake_in_one_field_is_not_said_again_of_another() -> None:
    blend = {"prompt": "b", "seconds": "2", "transition": "blend", "overlap_seconds": 9, "focus": ["z", 3]}
    assert fault(board(shots=[{"prompt": "a", "seconds": 1}, blend])).splitlines() == [
        f"line 1: shot 2: seconds is '2', not a number; {SECONDS_REMEDY}",
        "line 1: shot 2: focus 2 is 3, not text; write it in quotation marks",
        "line 1: shot 2: focus 1 is 'z', which the prompt does not contain; write words of the prompt or of the style",
    ]


@pytest.mark.parametrize("key", ["_comment", "_", "note", "Notes", "COMMENT", "comments", "$schema", "//", "#1"])
def test_keys_for_people_may_stand_anywhere_and_are_not_read(key: str) -> None:
    anchor = {"at": 0, "image": "a.png"}
    plain = {"longreel": 1, "shots": [{"prompt": "a", "seconds": 3, "anchors": [anchor]}]}
    noted = copy.deepcopy(plain)
    for place in (noted, noted["shots"][0], noted["shots"][0]["anchors"][0]):
        place[key] = {"any": ["thing"]}
    assert parse_storyboard(json.dumps(noted)) == parse_storyboard(json.dumps(plain))
    assert VALIDATOR.is_valid(noted)


def test_a_key_for_people_may_be_written_twice() -> None:
    text = '{"longreel": 1, "note": 1, "note": 2, "shots": [{"prompt": "a", "seconds": 3}]}'
    assert len(parse_storyboard(text).shots) == 1
