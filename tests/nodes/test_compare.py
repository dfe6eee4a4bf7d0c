"""nodes/compare.py and its route in a running ComfyUI: two runs are shown, votes are kept, and rated."""

import json
import urllib.error
import urllib.request

import pytest

from longreel.engine.compare.votes import AXES
from longreel.engine.measure.video_file import write_video
from longreel.engine.storyboard.board import Shot, Storyboard
from tests.comfy_process import ComfyError, ComfyProcess
from tests.engine.measure.films import film
from tests.nodes.graphs import change, node

PATH = "/longreel/compare/vote"
BOARD = Storyboard((Shot("a red circle", 1.0),), title="circles", width=32, height=32)


@pytest.fixture(scope="module")
def prompt(comfy: ComfyProcess) -> dict:
    files = [write_video([film(9, seed=n)], comfy.input_path, f"run{n}", 1, 8.0, 10).path.name for n in (1, 2)]
    return {
        "board": node("LongreelStoryboard", text=BOARD.to_json()),
        "a": node("LoadVideo", file=files[0]),
        "b": node("LoadVideo", file=files[1]),
        "compare": node(
            "LongreelCompare",
            video_a=["a", 0],
            video_b=["b", 0],
            name_a="memory",
            name_b="plain",
            comparison="test compare",
            blind=True,
            storyboard=["board", 0],
        ),
    }


def ask(comfy: ComfyProcess, question) -> tuple[int, dict]:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(comfy.url + PATH, json.dumps(question).encode(), headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def votes(page: dict, choice: str, watched: str = "") -> dict:
    left, right = (side["name"] for side in page["sides"])
    given = [{"axis": a, "left": left, "right": right, "choice": choice, "watched": watched} for a in page["axes"]]
    return {"comparison": page["comparison"], "votes": given}


def test_votes_on_what_is_shown_are_kept_and_rated(comfy: ComfyProcess, prompt):
    shown = comfy.run(prompt)["compare"]
    (page,) = shown["longreel_compare"]
    assert shown["text"] == ["no votes yet"] and page["axes"] == list(AXES) and page["watched"] == "circles"
    for side in page["sides"]:  # the page can play both
        where = f"{comfy.url}/view?filename={side['filename']}&subfolder={side['subfolder']}&type={side['type']}"
        with urllib.request.urlopen(where) as answer:
            assert answer.headers["Content-Type"] == "video/mp4"
    for story in range(6):  # a voter who likes memory, wherever it stands
        choice = "left" if page["sides"][0]["name"] == "memory" else "right"
        status, answer = ask(comfy, votes(page, choice, f"story {story}"))
        assert status == 200
        (page,) = comfy.run(prompt)["compare"]["longreel_compare"]
    assert [row["name"] for row in answer["ratings"]["overall"]] == ["memory", "plain"]
    assert answer["ratings"]["overall"][0]["votes"] == 24 and answer["ratings"][AXES[0]][0]["low"] is not None
    kept = json.loads((comfy.output_path / "longreel" / "test compare" / "votes.json").read_text(encoding="utf-8"))
    assert len(kept["votes"]) == 24
    assert comfy.run(prompt)["compare"]["text"][0].startswith(f"{AXES[0]}\n  memory  ")


def test_blind_draws_the_sides_and_open_does_not(comfy: ComfyProcess, prompt):
    def left(**inputs) -> str:
        return comfy.run(change(prompt, "compare", **inputs))["compare"]["longreel_compare"][0]["sides"][0]["name"]

    assert {left() for _ in range(20)} == {"memory", "plain"}  # one in a million says otherwise
    assert {left(blind=False) for _ in range(4)} == {"memory"}


def test_a_part_of_a_video_is_shown_as_a_file_of_its_own(comfy: ComfyProcess, prompt):
    cut = {**prompt, "part": node("Video Slice", video=["a", 0], start_time=0.5, duration=0.5, strict_duration=False)}
    (page,) = comfy.run(change(cut, "compare", video_a=["part", 0], blind=False))["compare"]["longreel_compare"]
    first, second = page["sides"]
    assert first["type"] == "temp" and first["filename"].startswith("longreel_compare_") and second["type"] == "input"


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ([], "the question is not an object with votes"),
        ({"comparison": "test compare", "votes": []}, "the question has 0 votes; send 1 to 4"),
        ({"comparison": "nowhere", "votes": [{}]}, "there is no comparison 'nowhere'; queue Longreel Compare first"),
        ({"comparison": "../up", "votes": [{}]}, "which no folder name may have"),
        ({"comparison": "test compare", "votes": [{"axis": "sound"}]}, "missing"),
        (
            {"comparison": "test compare", "votes": [{"axis": AXES[0], "left": "a", "right": "a", "choice": "tie"}]},
            "use two runs that are not the same",
        ),
    ],
)
def test_what_is_no_vote_is_refused_and_makes_nothing(comfy: ComfyProcess, prompt, question, message):
    (comfy.output_path / "longreel" / "test compare").mkdir(parents=True, exist_ok=True)
    status, answer = ask(comfy, question)
    assert status == 400 and message in answer["error"]
    assert not (comfy.output_path / "longreel" / "nowhere").exists()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"name_b": "memory "}, "name_a and name_b are both 'memory'; use two names"),
        ({"name_a": " "}, "name_a has no letters; use 1 to 200"),
        ({"comparison": "a/b"}, "which no folder name may have"),
    ],
)
def test_names_that_tell_nothing_apart_are_refused(comfy: ComfyProcess, prompt, inputs, message):
    with pytest.raises(ComfyError, match=message):
        comfy.run(change(prompt, "compare", **inputs))


def test_another_pair_in_the_same_comparison_is_shown_and_rated_apart(comfy: ComfyProcess, prompt):
    """What joins the two pairs can then be voted for, too."""
    first = change(prompt, "compare", comparison="pairs", blind=False)
    (page,) = comfy.run(first)["compare"]["longreel_compare"]
    assert ask(comfy, votes(page, "left"))[0] == 200
    other = change(first, "compare", name_a="long", name_b="short")
    (page,) = comfy.run(other)["compare"]["longreel_compare"]
    status, answer = ask(comfy, votes(page, "right"))
    assert status == 200 and len(answer["ratings"]) == 2 * (len(AXES) + 1)
    between = change(first, "compare", name_a="long", name_b="plain")
    shown = comfy.run(between)["compare"]
    assert "long and what was compared with it" in shown["text"][0]
    assert ask(comfy, votes(shown["longreel_compare"][0], "tie"))[0] == 200
    assert "and what was" not in comfy.run(between)["compare"]["text"][0]
