"""engine/storyboard/json_text.py: JSON, JSON lines, and what people take for JSON; at its worst within a second."""

import json
import time

import pytest

from longreel.engine.storyboard.board import Shot, Storyboard, parse_storyboard
from longreel.engine.storyboard.faults import SHOWN, StoryboardError
from longreel.engine.storyboard.files import parse_storyboards

from ..storyboard_cases import fault, one

SECONDS_REMEDY = "write seconds above 0 and up to 3600"


TWO = (Shot("a", 2.0), Shot("b", 3.0, "cut"))


@pytest.mark.parametrize(
    "text",
    [
        '[{"prompt": "a", "seconds": 2}, {"prompt": "b", "seconds": 3, "transition": "cut"}]',
        '{"prompt": "a", "seconds": 2}\n\n{"prompt": "b", "seconds": 3, "transition": "cut"}\n',
        '\ufeff{"prompt": "a", "seconds": 2}\r\n{"prompt": "b", "seconds": 3, "transition": "cut"}\r\n',
    ],
)
def test_shots_alone_are_a_storyboard(text: str) -> None:
    assert parse_storyboard(text) == Storyboard(TWO)


def test_shots_are_told_from_scenes_whatever_is_wrong_with_them() -> None:
    for text in ('[{"Prompt": "a", "seconds": 1}]', '[4, {"Prompt": "a", "seconds": 1}]'):
        assert 'Prompt is not a known key; did you mean "prompt"?' in fault(text)
        with pytest.raises(StoryboardError, match='Prompt is not a known key; did you mean "prompt"'):
            parse_storyboards(text)
    for text in ('[{"text": "a"}]', '[[{"text": "a"}]]', '{"text": "a"}\n{"text": "b"}'):
        assert fault(text) == (
            "the storyboard is a scene list of ttt-video; load it from a file with Longreel Load Storyboard"
        )
        assert parse_storyboards(text)[0].shots[0].prompt == "a"


def test_a_single_shot_is_a_storyboard() -> None:
    assert parse_storyboard('{"prompt": "a", "seconds": 2}') == Storyboard(TWO[:1])


def test_mistakes_in_shots_alone_have_their_lines() -> None:
    lines = ['{"prompt": "a", "seconds": 0}', "", '{"prompt": "b", "seconds": 1, "seconds": 3, "locked": 1}', "[3]"]
    expected = [
        f"line 1: shot 1: seconds is 0; {SECONDS_REMEDY}",
        "line 3: shot 2: the key 'seconds' is written twice in one object; keep one of them",
        "line 3: shot 2: locked is 1; write true or false",
        'line 4: shot 3 is a list of 1, not an object; write {"prompt": "...", "seconds": 3.0}',
    ]
    assert fault("\n".join(lines)).splitlines() == expected
    assert fault(f"[{lines[0]},\n\n{lines[2]},\n{lines[3]}]").splitlines() == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '{"longreel": 1,\n "shots": [4,\n]}',
            "a comma stands before a closing bracket (line 2, column 13); remove it",
        ),
        ('{"longreel": 1, }', "a comma stands before a closing bracket (line 1, column 15); remove it"),
        ('// mine\n{"longreel": 1}', "'//' is a comment, which JSON does not have; write it as a key: \"_comment\""),
        ('{"longreel": 1,\n /* mine */ "shots": []}', "'/*' is a comment, which JSON does not have; write it as a key"),
        ("{'longreel': 1}", 'is no quotation mark of JSON; write " (line 1, column 2)'),
        ("{\u201clongreel\u201d: 1}", 'is no quotation mark of JSON; write " (line 1, column 2)'),
        ('{"longreel": True}', "'True' is no word of JSON; write true, false or null (line 1, column 14)"),
        ('{"longreel": 1,\n "shots": [', "it ends too early (line 2, column 12); close all brackets and quotation"),
        ('{"longreel": 1, "title": "a}', "a quotation mark that opens here is never closed (line 1, column 26)"),
        ('{"title": "a\nb"}', "a text goes on over the end of its line (line 1, column 13); write \\n for a new line"),
        ('{"prompt": "a"},\n{"prompt": "b"}', "something stands behind its end (line 1, column 16); put several shots"),
        ('{"prompt": "a"}\n{"prompt" "b"}', "Expecting ':' delimiter (line 2, column 11); correct the text there"),
    ],
)
def test_what_people_write_and_json_does_not_have_is_called_by_its_name(text: str, said: str) -> None:
    message = fault(text)
    assert message.startswith("the storyboard is not JSON: ") and said in message and len(message.splitlines()) == 1


def test_nesting_without_end_is_named_wherever_it_stands() -> None:
    deep = "[" * 50_000 + "]" * 50_000
    for text in (deep, one(note=0).replace("0}", deep + "}"), one(seed=0).replace('"seed": 0', f'"seed": {deep}')):
        assert fault(text) == "the storyboard nests lists or objects too deeply; a storyboard needs 5 levels"


def hostile() -> dict[str, str]:
    """Texts of almost 4,000,000 characters that make a reader work."""
    anchors = [{"x": 9}] * 64
    return {
        "unknown keys": "{" + ",".join(f'"k{number}":1' for number in range(330_000)) + "}",
        "one key": "{" + ",".join(['"a":1'] * 600_000) + "}",
        "lists": "[" + "[]," * 1_300_000 + '{"prompt": 1, "a": 1, "a": 2}]',
        "lines": "{}\n" * 1_300_000,
        "faulty anchors": json.dumps(
            {"longreel": 1, "shots": [{"prompt": "a", "seconds": 1, "anchors": anchors}] * 1000}
        ),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", hostile())
def test_a_text_at_its_worst_is_refused_in_time(name: str) -> None:
    text = hostile()[name]
    started = time.process_time()
    lines = text.splitlines() if name == "lines" else [text]
    for line in lines:
        json.loads(line)
    limit = 1.0 + 2 * (time.process_time() - started)  # this machine, as busy as it is, takes so long for json alone
    seconds = []
    while len(seconds) < 5 and min(seconds, default=99) >= limit:  # a busy machine only adds to the time
        started = time.process_time()
        message = fault(text)
        seconds.append(time.process_time() - started)
    assert 0 < len(message.splitlines()) <= SHOWN + 1
    assert min(seconds) < limit
