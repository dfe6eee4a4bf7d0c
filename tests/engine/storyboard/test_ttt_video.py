"""engine/storyboard/ttt_video.py: scene lists keep prompts, negatives and cuts; anything else is refused by name."""

import json
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longreel.engine.storyboard.board import Anchor, Shot, Storyboard
from longreel.engine.storyboard.faults import Faults, StoryboardError
from longreel.engine.storyboard.json_text import load_document
from longreel.engine.storyboard.ttt_video import (
    _check_scene,
    _is_plain,
    parse_ttt,
    scenes_of,
    to_ttt_json,
    to_ttt_jsonl,
)

from ..storyboard_cases import filled, relaxed, texts

scene_shots = st.builds(
    Shot,
    prompt=filled,
    seconds=st.just(3.0),
    transition=st.sampled_from(["continue", "cut"]),
    negative=st.one_of(st.none(), texts),
)
scene_boards = st.builds(
    Storyboard, shots=st.lists(scene_shots, min_size=1, max_size=5).map(tuple), width=st.just(720), height=st.just(480)
)
holdable = Storyboard((Shot("a", 3.0), Shot("b", 3.0, "cut")), width=720, height=480)


@relaxed
@given(st.lists(scene_boards, min_size=1, max_size=3))
def test_what_the_format_holds_comes_back_equal(boards: list[Storyboard]) -> None:
    assert parse_ttt(to_ttt_json(boards)) == tuple(boards)
    assert parse_ttt(to_ttt_jsonl(boards)) == tuple(boards)


@relaxed
@given(scene_boards, texts, texts, st.integers(1, 4))
def test_style_negative_and_long_shots_mean_the_same_after_the_trip(
    board: Storyboard, style: str, negative: str, scenes: int
) -> None:
    first = replace(board.shots[0], seconds=3.0 * scenes)
    board = replace(board, style=style, negative=negative, shots=(first, *board.shots[1:]))
    (back,) = parse_ttt(to_ttt_json([board]))
    every_three_seconds = [shot for shot in board.shots for _ in range(round(shot.seconds / 3))]
    assert [back.prompt_of(shot) for shot in back.shots] == [board.prompt_of(shot) for shot in every_three_seconds]
    assert [back.negative_of(shot) for shot in back.shots] == [board.negative_of(shot) for shot in every_three_seconds]
    assert sum(shot.seconds for shot in back.shots) == sum(shot.seconds for shot in board.shots)
    cuts = sum(shot.transition == "cut" for shot in board.shots)
    assert sum(shot.transition == "cut" for shot in back.shots) == cuts


def test_a_scene_list_as_ttt_video_writes_it_is_read() -> None:
    text = '[[{"text": "a"}, {"text": "b", "requires_scene_transition": true, "neg_text": "c"}], [{"text": "d"}]]'
    first, second = parse_ttt(text)
    assert first.shots == (Shot("a", 3.0), Shot("b", 3.0, "cut", negative="c"))
    assert second.shots == (Shot("d", 3.0),)
    assert (first.fps, first.width, first.height) == (16.0, 720, 480)


def test_a_single_line_of_jsonl_is_one_video() -> None:
    assert len(parse_ttt('[{"text": "a"}, {"text": "b"}]\n')) == 1


def test_indented_json_is_not_taken_for_jsonl() -> None:
    assert parse_ttt("[\n[\n" + '{"text": "a"}\n' + "]\n]") == parse_ttt('[[{"text": "a"}]]')


def test_export_writes_the_keys_of_ttt_video() -> None:
    assert json.loads(to_ttt_json([holdable])) == [
        [
            {"text": "a", "requires_scene_transition": False, "neg_text": None},
            {"text": "b", "requires_scene_transition": True, "neg_text": None},
        ]
    ]


def test_ids_say_nothing_of_the_video_and_are_left_out() -> None:
    named = replace(holdable, shots=tuple(replace(shot, id=shot.prompt) for shot in holdable.shots))
    assert to_ttt_json([named]) == to_ttt_json([holdable])


def with_second(**changes: object) -> Storyboard:
    return replace(holdable, shots=(holdable.shots[0], replace(holdable.shots[1], **changes)))


@pytest.mark.parametrize(
    ("board", "problem"),
    [
        (replace(holdable, title="Night"), "title 'Night' (remove it)"),
        (replace(holdable, fps=24.0), "fps 24 (use 16)"),
        (replace(holdable, width=832), "size 832x480 (use width 720, height 480)"),
        (replace(holdable, seed=7), "seed 7 (remove it)"),
        (with_second(seconds=4.5), "shot 2: seconds 4.5 (use a multiple of 3)"),
        (with_second(transition="blend"), 'shot 2: transition "blend" (use "continue" or "cut")'),
        (with_second(strength=2.0), "shot 2: strength 2 (use 1)"),
        (with_second(seed=3), "shot 2: seed (remove it)"),
        (with_second(focus=("b",)), "shot 2: focus (remove it)"),
        (with_second(anchors=(Anchor(0.0, "a.png"),)), "shot 2: anchors (remove it)"),
        (with_second(locked=True), "shot 2: locked (remove it)"),
        (with_second(seconds=3000.0), "1001 scenes (use at most 1000, 3000 seconds)"),
        (
            replace(with_second(prompt="b" * 9999), style="cc"),
            "shot 2: prompt with style of 10003 characters (use at most 10000)",
        ),
        (replace(holdable, title="N", seed=7), "title 'N' (remove it); seed 7 (remove it)"),
    ],
)
def test_what_the_format_cannot_hold_is_refused_by_name(board: Storyboard, problem: str) -> None:
    with pytest.raises(StoryboardError) as caught:
        to_ttt_json([board])
    assert str(caught.value) == f"ttt-video cannot hold {problem}"


def test_many_problems_stay_one_short_line() -> None:
    board = replace(holdable, shots=tuple(Shot("a", 1.0) for _ in range(100)))
    with pytest.raises(StoryboardError, match=r"; and 94 more$"):
        to_ttt_json([board])


def test_all_mistakes_of_a_scene_list_are_said_at_once() -> None:
    lines = ['[{"text": "", "_note": 1}, {"txt": "a"}]', "[]", '[{"text": "a"}, {"text": "b", "neg_text": 1}]']
    with pytest.raises(StoryboardError) as caught:
        parse_ttt("\n".join(lines))
    assert str(caught.value).splitlines() == [
        "line 1: video 1, scene 1: text is empty; say what the shot shows",
        'line 1: video 1, scene 2: txt is not a known key; did you mean "text"?',
        'line 2: video 2 is a list of 0, not a list of scenes; write [{"text": "..."}]',
        "line 3: video 3, scene 2: neg_text is 1, not text; write it in quotation marks",
    ]


def test_comments_in_a_scene_list_are_not_read() -> None:
    assert parse_ttt('[[{"text": "a", "comment": "later"}]]') == parse_ttt('[[{"text": "a"}]]')


@relaxed
@given(
    st.one_of(
        st.fixed_dictionaries(
            {"text": st.one_of(texts, st.none(), st.just("a" * 10_001), st.just("\0"))},
            optional={
                "neg_text": st.one_of(texts, st.none(), st.integers(), st.just("\ud800")),
                "requires_scene_transition": st.one_of(st.booleans(), st.none(), st.integers(0, 1)),
                "note": st.none(),
                "x": st.none(),
            },
        ),
        st.integers(),
        st.just({}),
    )
)
def test_a_scene_that_is_right_at_a_glance_is_right(scene: object) -> None:
    faults = Faults()
    _check_scene(scene, 0, 0, faults)
    if _is_plain(scene):
        faults.stop()
        assert parse_ttt(json.dumps([[scene]]))[0].shots[0].prompt == scene["text"]


@pytest.mark.slow
def test_a_million_scenes_are_checked_in_time_and_made_when_they_are_taken() -> None:
    text = json.dumps([[{"text": "a"}] * 300] * 860)
    seconds = []
    while len(seconds) < 5 and min(seconds, default=9) >= 1.0:  # a busy machine only adds to the time
        started = time.process_time()
        videos = scenes_of(load_document(text, "the scene list"))
        seconds.append(time.process_time() - started)
    assert len(videos) == 860 and len(videos[859].shots) == 300 and len(videos[1:3]) == 2
    assert min(seconds) < 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", 'the scene list is an object of 0 keys; write [[{"text": "..."}]], a list of videos'),
        ("[]", 'the scene list is a list of 0; write [[{"text": "..."}]], a list of videos'),
        ("[[]]", 'line 1: video 1 is a list of 0, not a list of scenes; write [{"text": "..."}]'),
        ('[[{"txt": "a"}]]', 'line 1: video 1, scene 1: txt is not a known key; did you mean "text"?'),
        ('[[{"neg_text": "a"}]]', 'line 1: video 1, scene 1: text is missing; add "text" to video 1, scene 1'),
        ('[[{"text": ""}]]', "line 1: video 1, scene 1: text is empty; say what the shot shows"),
        (
            '[[{"text": "a", "requires_scene_transition": 1}]]',
            "line 1: video 1, scene 1: requires_scene_transition is 1; write true or false",
        ),
        ('[[{"text": "a"}, 3]]', 'line 1: video 1, scene 2 is 3, not a scene; write {"text": "..."}'),
        (
            '[{"text": "a"}]\n[{"text": ]',
            ("the scene list is not JSON: Expecting value (line 2, column 11); correct the text there"),
        ),
        (
            json.dumps([[{"text": "a"}] * 1001]),
            "line 1: video 1 has 1001 scenes; the limit is 1000: split it into several",
        ),
        (json.dumps([[{"text": "a"}]] * 1001), "the scene list has 1001 videos; the limit is 1000: split the file"),
    ],
)
def test_a_bad_scene_list_is_one_line_with_place_and_remedy(text: str, message: str) -> None:
    with pytest.raises(StoryboardError) as caught:
        parse_ttt(text)
    assert str(caught.value) == message
