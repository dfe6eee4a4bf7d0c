"""engine/storyboard/board.py: JSON version 1 round-trips, its schema agrees with the reader, errors name the field."""

import copy
import json
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from longreel.engine.storyboard.board import Anchor, Shot, Storyboard, parse_storyboard
from longreel.engine.storyboard.faults import SHOWN, StoryboardError
from longreel.engine.storyboard.fields import MAX_SEED

from ..storyboard_cases import VALIDATOR, board, fault, one, relaxed, storyboards

RELATIONS = (
    "longer than the shorter of the shots",
    "which the prompt does not contain",
    "after the end of the shot",
    "has too; give each of them",
)
EXAMPLE = """
{"longreel": 1, "title": "The lighthouse", "fps": 16, "width": 832, "height": 480, "seed": 7,
 "style": "hand-drawn animation, warm light", "negative": "blurry",
 "shots": [
   {"prompt": "a keeper climbs the stairs of a lighthouse", "seconds": 3.0},
   {"prompt": "the keeper lights the lamp", "seconds": 3.0, "transition": "blend", "overlap_seconds": 1.0,
    "focus": ["keeper"]},
   {"prompt": "a ship turns away from the rocks", "seconds": 4.5, "transition": "cut", "seed": 11, "strength": 1.0,
    "anchors": [{"at": 0.0, "image": "ship.png"}], "locked": false}]}
"""


def test_the_example_of_the_design_is_read() -> None:
    board = parse_storyboard(EXAMPLE)
    assert board == Storyboard(
        shots=(
            Shot("a keeper climbs the stairs of a lighthouse", 3.0),
            Shot("the keeper lights the lamp", 3.0, "blend", 1.0, ("keeper",)),
            Shot("a ship turns away from the rocks", 4.5, "cut", seed=11, anchors=(Anchor(0.0, "ship.png"),)),
        ),
        title="The lighthouse",
        fps=16.0,
        width=832,
        height=480,
        seed=7,
        style="hand-drawn animation, warm light",
        negative="blurry",
    )


def test_style_and_negative_reach_every_shot() -> None:
    shots = (Shot("a", 1), Shot("b", 1, negative=""), Shot("c", 1, negative="dark"))
    board = Storyboard(shots, style="s", negative="n")
    assert [board.prompt_of(shot) for shot in board.shots] == ["a, s", "b, s", "c, s"]
    assert [board.negative_of(shot) for shot in board.shots] == ["n", "", "dark"]
    assert Storyboard((Shot("a", 1),)).prompt_of(Shot("a", 1)) == "a"


def test_the_text_for_people_tells_what_was_set() -> None:
    text = parse_storyboard(EXAMPLE).to_text()
    assert text == (
        "The lighthouse: 3 shots, 10.5 s, 16 frames per second, 832x480, seed 7\n"
        "style: hand-drawn animation, warm light\n"
        "negative: blurry\n"
        "   1       3 s  start     a keeper climbs the stairs of a lighthouse\n"
        "   2       3 s  blend     the keeper lights the lamp  [overlap_seconds 1; focus keeper]\n"
        "   3     4.5 s  cut       a ship turns away from the rocks  [seed 11; anchor ship.png at 0 s]\n"
    )


@relaxed
@given(storyboards())
def test_json_gives_back_the_storyboard(board: Storyboard) -> None:
    assert parse_storyboard(board.to_json()) == board


@relaxed
@given(storyboards())
def test_the_schema_accepts_what_is_written(board: Storyboard) -> None:
    VALIDATOR.validate(json.loads(board.to_json()))


junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 20000),
    st.sampled_from([MAX_SEED, MAX_SEED + 1, 0, -1, 1e300, 10**400, 16.0, 15.999, 240, 240.5, 3600, 3601, 10, 10.01]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.sampled_from(
        [
            "",
            " ",
            "\0",
            "a\n",
            "cut",
            "blend",
            "../a.png",
            "/a",
            "a\\b",
            "a:b",
            "a/./b",
            "a ",
            "a.png\n",
            "...",
            "x" * 201,
            "x" * 513,
            "x" * 10001,
        ]
    ),
    st.lists(st.sampled_from([1, "a", {"at": 0, "image": "a"}, {"at": 0}, {"file": "a"}]), max_size=2),
    st.just({}),
    st.sampled_from([{"file": "a"}, {"file": "a", "offset": 1}, {"file": "a", "offset": -1}]),
    st.just([]),
    st.sampled_from([["a"] * 65, [{"at": 0, "image": "a"}] * 65]),
).map(copy.deepcopy)  # the changes below are made in place
keys = st.one_of(
    st.sampled_from(["longreel", "shots", "seed", "fps", "prompt", "seconds", "at", "image", "transition", "Seed"]),
    st.sampled_from(
        [
            "overlap_seconds",
            "focus",
            "anchors",
            "negative",
            "strength",
            "locked",
            "width",
            "title",
            "id",
            "lora",
            "audio",
            "file",
        ]
    ),
    st.text(max_size=4),
)


def places(data: Any) -> list[Any]:
    """Every object and list within a JSON value, itself included."""
    inner = list(data.values()) if isinstance(data, dict) else data if isinstance(data, list) else []
    here = [data] if isinstance(data, (dict, list)) else []
    return here + [place for one in inner for place in places(one)]


@st.composite
def nearly_storyboards(draw: st.DrawFn) -> Any:
    """A written storyboard with up to two changes anywhere: another value, another key, one thing less."""
    data = copy.deepcopy(draw(storyboards()).to_dict())
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.sampled_from(places(data)))
        if isinstance(place, list):
            if place and draw(st.booleans()):
                place.pop()
            else:
                place.append(draw(junk))
        elif place and draw(st.booleans()):
            key = draw(st.sampled_from(sorted(place)))
            if draw(st.booleans()):
                place[key] = draw(junk)
            else:
                del place[key]
        else:
            place[draw(keys)] = draw(junk)
    return data


def agree(data: Any) -> None:
    if isinstance(data, list) or (isinstance(data, dict) and "prompt" in data and not {"shots", "longreel"} & {*data}):
        return  # shots alone, which the schema does not describe
    lines = fault(json.dumps(data)).splitlines()
    accepted = all(any(relation in line for relation in RELATIONS) for line in lines)
    assert VALIDATOR.is_valid(data) == accepted, lines
    assert len(lines) <= SHOWN + 1 and all(len(line) < 400 for line in lines)


def of_one_shot(shot: dict[str, Any], **fields: Any) -> Any:
    return {"longreel": 1, "shots": [{"prompt": "a fox", "seconds": 3} | shot]} | fields


@relaxed
@given(nearly_storyboards())
@example(of_one_shot({"focus": ["\0"]}))
@example(of_one_shot({"focus": ["fox\0"]}))
@example(of_one_shot({"prompt": "\0"}))
@example(of_one_shot({"prompt": " \0 "}))
@example(of_one_shot({"negative": "\0"}))
@example(of_one_shot({"anchors": [{"at": 0, "image": "\0"}]}))
@example(of_one_shot({}, title="\0"))
@example(of_one_shot({}, style="\0"))
@example(of_one_shot({}, negative="\0"))
def test_the_schema_and_the_reader_agree(data: Any) -> None:
    agree(data)


@relaxed
@given(st.recursive(junk, lambda inner: st.one_of(st.lists(inner), st.dictionaries(keys, inner)), max_leaves=6))
def test_the_schema_and_the_reader_agree_on_anything(data: Any) -> None:
    agree(data)


@relaxed
@given(st.text(max_size=80))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    assert 1 <= len(fault(text).splitlines()) <= 80  # of JSON lines each may be at fault


NO_LINE = ("the storyboard ", "longreel is missing", "shots is missing")  # what stands nowhere has no line
VERSION_REMEDY = 'this pack reads version 1: write "longreel": 1'
SECONDS_REMEDY = "write seconds above 0 and up to 3600"
SEED_REMEDY = "write a whole number from 0 to 18446744073709551615"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the storyboard is empty; write at least one shot"),
        ("once upon a time", "the storyboard is not JSON: Expecting value (line 1, column 1); correct the text there"),
        (
            '{"longreel": 1,\n "shots" []}',
            ("the storyboard is not JSON: Expecting ':' delimiter (line 2, column 10); correct the text there"),
        ),
        ("[]", 'the storyboard is a list of 0, not an object; start it with {"longreel": 1, "shots": [...]}'),
        ('{"shots": [{"prompt": "a", "seconds": 1}]}', f"longreel is missing; {VERSION_REMEDY}"),
        (board(longreel=2), 'longreel is 2; this pack reads version 1: write "longreel": 1'),
        (board(longreel=True), 'longreel is true; this pack reads version 1: write "longreel": 1'),
        ('{"longreel": 1}', 'shots is missing; write "shots": [{"prompt": "...", "seconds": 3.0}]'),
        (
            board(shots={}),
            ('shots is an object of 0 keys, not a list; write "shots": [{"prompt": "...", "seconds": 3.0}]'),
        ),
        (board(shots=[]), "the storyboard has no shots; write at least one"),
        (board(shots=[4]), 'shot 1 is 4, not an object; write {"prompt": "...", "seconds": 3.0}'),
        (board(shots=[{"seconds": 1}]), 'shot 1: prompt is missing; add "prompt" to shot 1'),
        (board(tittle="x"), 'tittle is not a known key; did you mean "title"?'),
        (board(Width=64), 'Width is not a known key; did you mean "width"?'),
        (board(transition="cut"), "transition is not a known key here; it belongs to a shot"),
        (one(secs=3), 'shot 1: secs is not a known key; did you mean "seconds"?'),
        (one(fps=3), "shot 1: fps is not a known key here; it belongs to the storyboard, beside shots"),
        (one(seconds=-1), f"shot 1: seconds is -1; {SECONDS_REMEDY}"),
        (one(seconds=0), f"shot 1: seconds is 0; {SECONDS_REMEDY}"),
        (one(seconds=float("nan")), f"shot 1: seconds is nan; {SECONDS_REMEDY}"),
        (one(seconds=float("inf")), f"shot 1: seconds is inf; {SECONDS_REMEDY}"),
        (one(seconds=10**400), f"shot 1: seconds is a number of 1329 bits; {SECONDS_REMEDY}"),
        (one(seconds="3"), f"shot 1: seconds is '3', not a number; {SECONDS_REMEDY}"),
        (one(seconds=True), f"shot 1: seconds is true, not a number; {SECONDS_REMEDY}"),
        (one(seconds=None), f"shot 1: seconds is null, not a number; {SECONDS_REMEDY}"),
        (board(seed="9" * 70), f"seed is '{'9' * 57}...', not a number; {SEED_REMEDY}"),
        (board(seed=2**64), f"seed is 18446744073709551616; {SEED_REMEDY}"),
        (one(seed=-1), f"shot 1: seed is -1; {SEED_REMEDY}"),
        (one(seed=1.5), f"shot 1: seed is 1.5; {SEED_REMEDY}"),
        (
            '{"longreel": 1, "seed": ' + "9" * 5000 + "}",
            "the storyboard holds a number with too many digits; write a shorter number",
        ),
        ("[" * 100_000, "the storyboard nests lists or objects too deeply; a storyboard needs 5 levels"),
        (
            '{"longreel": 1, "seed": 1, "seed": 2, "shots": [{"prompt": "a", "seconds": 1}]}',
            "the key 'seed' is written twice in one object; keep one of them",
        ),
        (board(width=8), "width is 8; write whole pixels from 16 to 16384"),
        (board(fps=0), "fps is 0; write frames per second above 0 and up to 240"),
        (board(title=3), "title is 3, not text; write it in quotation marks"),
        (one(prompt=" \n"), "shot 1: prompt is empty; say what the shot shows"),
        (one(prompt="a" * 10_001), "shot 1: prompt has 10001 characters; the limit is 10000: shorten it"),
        (one(prompt="a\0"), "shot 1: prompt holds U+0000, which is not a character; remove it"),
        (one(prompt="a\ud800"), "shot 1: prompt holds U+D800, which is not a character; remove it"),
        (one(transition="fade"), 'shot 1: transition is \'fade\'; write "continue", "blend" or "cut"'),
        (one(strength=11), "shot 1: strength is 11; write a strength from 0 to 10; 1 is normal"),
        (one(locked=1), "shot 1: locked is 1; write true or false"),
        (one(focus="fox"), "shot 1: focus is 'fox', not a list; write it in square brackets"),
        (
            one(focus=["fox", "wolf"]),
            ("shot 1: focus 2 is 'wolf', which the prompt does not contain; write words of the prompt or of the style"),
        ),
        (one(focus=["fox"] * 65), "shot 1: focus has 65 entries; the limit is 64: remove some"),
        (
            one(overlap_seconds=1),
            (
                'shot 1: overlap_seconds is 1 but the transition is "continue", which has no '
                'overlap; remove overlap_seconds or write "transition": "blend"'
            ),
        ),
        (
            board(
                shots=[
                    {"prompt": "a", "seconds": 1},
                    {"prompt": "b", "seconds": 3, "transition": "blend", "overlap_seconds": 2},
                ]
            ),
            "shot 2: overlap_seconds is 2, longer than the shorter of the shots it joins (1 s); write at most 1",
        ),
        (one(anchors=[{"at": 0}]), 'shot 1, anchor 1: image is missing; add "image" to shot 1, anchor 1'),
        (one(anchors=[{"at": 0, "img": "a"}]), 'shot 1, anchor 1: img is not a known key; did you mean "image"?'),
        (
            one(anchors=[{"at": 4, "image": "a"}]),
            "shot 1, anchor 1: at is 4, after the end of the shot (3 s); write at most 3, its last frame",
        ),
        (
            one(anchors=[{"at": 0, "image": "../a.png"}]),
            (
                "shot 1, anchor 1: image is '../a.png', which leaves the "
                'input folder; write a path below ComfyUI\'s input folder, such as "shots/ship.png"'
            ),
        ),
        (one(audio=[]), 'shot 1, audio is a list of 0, not an object; write {"file": "speech.wav", "offset": 0.0}'),
        (
            one(audio={"file": "../a.wav"}),
            (
                "shot 1, audio: file is '../a.wav', which leaves the input folder; write a path below "
                'ComfyUI\'s input folder, such as "speech/keeper.wav"'
            ),
        ),
        (
            one(audio={"file": "a.wav", "offset": -1}),
            "shot 1, audio: offset is -1; write seconds into the file, 0 to 86400",
        ),
        (one(lora=[{}]), 'shot 1, lora 1: file is missing; add "file" to shot 1, lora 1'),
        (one(lora={"file": "a"}), "shot 1: lora is an object of 1 keys, not a list; write it in square brackets"),
        (
            one(lora=["ink.safetensors"]),
            'shot 1, lora 1 is \'ink.safetensors\', not an object; write {"file": "ink.safetensors", "strength": 1.0}',
        ),
        (
            one(lora=[{"file": "a"}, {"file": "b", "strength": 30}]),
            "shot 1, lora 2: strength is 30; write a strength from -20 to 20; 0 changes nothing",
        ),
        (
            one(lora=[{"file": "../a.safetensors"}]),
            (
                "shot 1, lora 1: file is '../a.safetensors', which leaves the loras folder; write a path below "
                'ComfyUI\'s loras folder, such as "styles/ink.safetensors"'
            ),
        ),
    ],
)
def test_a_mistake_is_one_line_with_its_line_its_field_and_the_remedy(text: str, message: str) -> None:
    assert fault(text) == (message if message.startswith(NO_LINE) else f"line 1: {message}")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "shot 1: id is empty; write a short name, or leave it out"),
        ("  ", "shot 1: id is empty; write a short name, or leave it out"),
        ("a" * 65, "shot 1: id has 65 characters; the limit is 64: shorten it"),
        ("a\nb", "shot 1: id is 'a\\nb', which has a control character; write a plain short name"),
        ("a\ud800", "shot 1: id holds U+D800, which is not a character; remove it"),
        (True, "shot 1: id is true, not text; write it in quotation marks"),
        (1.5, "shot 1: id is 1.5, not text; write it in quotation marks"),
        (-1, "shot 1: id is -1, not text; write it in quotation marks"),
        (["a"], "shot 1: id is a list of 1, not text; write it in quotation marks"),
    ],
)
def test_an_id_is_a_short_name(given: Any, message: str) -> None:
    assert fault(one(id=given)) == f"line 1: {message}"


def test_two_shots_with_one_id_are_both_named() -> None:
    shots = [{"prompt": "a", "seconds": 3} | more for more in ({"id": "fox"}, {}, {"id": " fox "})]
    assert fault(board(shots=shots)) == (
        "line 1: shot 3: id is 'fox', which shot 1 has too; give each of them an id of its own"
    )


def test_an_id_is_the_same_however_it_was_typed() -> None:
    typed = [{"prompt": "a", "seconds": 3, "id": given} for given in (7, "灯台 ", None)]
    read = parse_storyboard(board(shots=typed))
    assert [shot.id for shot in read.shots] == ["7", "灯台", None]
    assert [shot.get("id") for shot in read.to_dict()["shots"]] == ["7", "灯台", None]
    assert "[id 7]" in read.to_text()


def test_a_storyboard_without_ids_is_written_as_before_there_were_any() -> None:
    written = json.loads(parse_storyboard(EXAMPLE).to_json())["shots"]
    assert written == [
        {"prompt": "a keeper climbs the stairs of a lighthouse", "seconds": 3},
        {
            "prompt": "the keeper lights the lamp",
            "seconds": 3,
            "transition": "blend",
            "overlap_seconds": 1,
            "focus": ["keeper"],
        },
        {
            "prompt": "a ship turns away from the rocks",
            "seconds": 4.5,
            "transition": "cut",
            "seed": 11,
            "anchors": [{"at": 0, "image": "ship.png"}],
        },
    ]


@pytest.mark.parametrize("written", ["Cut", "CUT", " cut\t"])
def test_words_to_choose_from_may_be_written_in_capitals(written: str) -> None:
    text = board(shots=[{"prompt": "a", "seconds": 1}, {"prompt": "b", "seconds": 1, "transition": written}])
    assert parse_storyboard(text).shots[1].transition == "cut"
    assert VALIDATOR.is_valid(json.loads(text))


@pytest.mark.parametrize(
    ("at", "fps", "taken"), [(3, 16, True), (3.02, 16, True), (3.04, 16, False), (3.02, 60, False)]
)
def test_an_anchor_may_stand_at_the_end_of_its_shot_and_what_rounding_adds(at: float, fps: float, taken: bool) -> None:
    shot = {"prompt": "a", "seconds": 3, "anchors": [{"at": at, "image": "a"}]}
    message = fault(board(fps=fps, shots=[shot]))
    assert (message == "") == taken and ("after the end of the shot (3 s)" in message) != taken


def test_ten_thousand_shots_are_refused_within_milliseconds() -> None:
    text = board(shots=[{"prompt": "a big red circle moves right on a teal background", "seconds": 1.1}] * 10_000)
    seconds = []
    for _ in range(3):  # a busy machine only adds to the time
        started = time.perf_counter()
        message = fault(text)
        seconds.append(time.perf_counter() - started)
    assert message == "the storyboard has 10000 shots; the limit is 1000: split it into several storyboards"
    assert min(seconds) < 0.25


def test_a_text_over_the_limit_is_refused_before_it_is_parsed() -> None:
    assert fault("[" * 4_000_001) == (
        "the storyboard has 4000001 characters; at most 4000000 are read: split it into several"
    )


def test_a_storyboard_made_in_code_is_held_to_the_same_rules() -> None:
    with pytest.raises(StoryboardError, match="^shot 1: seconds is -1"):
        Storyboard((Shot("a", -1.0),))
    with pytest.raises(StoryboardError, match=r"^the storyboard has no shots"):
        Storyboard(())
