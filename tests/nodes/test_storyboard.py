"""nodes/storyboard.py, run and validated by ComfyUI's own code: every input matters, a bad one stops early."""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.comfy_inprocess import import_comfyui

core = import_comfyui()

import execution
import folder_paths

from longreel.engine.runs.disk import WriteError
from longreel.engine.storyboard.board import Anchor, Shot, Storyboard
from longreel.engine.storyboard.files import FORMATS, read_storyboards, write_storyboard
from longreel.engine.storyboard.rules import StoryboardError
from longreel.nodes.storyboard import EXAMPLE, LongreelLoadStoryboard, LongreelSaveStoryboard, LongreelStoryboard
from tests.engine.killed import largest_file

NODES = (LongreelStoryboard, LongreelLoadStoryboard, LongreelSaveStoryboard)
board = Storyboard((Shot("a", 3.0), Shot("b", 3.0, "cut")), width=720, height=480)


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Path]:
    """ComfyUI's input and output folders, lent to the test."""
    kept = folder_paths.get_input_directory(), folder_paths.get_output_directory()
    (tmp_path / "input").mkdir()
    (tmp_path / "output").mkdir()
    folder_paths.set_input_directory(str(tmp_path / "input"))
    folder_paths.set_output_directory(str(tmp_path / "output"))
    yield tmp_path
    folder_paths.set_input_directory(kept[0])
    folder_paths.set_output_directory(kept[1])


@pytest.fixture
def validate(folders: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What core says about a source node (1) with a Save node (2) behind it: "" or its reasons. 3 loads a.json."""
    for node in NODES:
        monkeypatch.setitem(core.NODE_CLASS_MAPPINGS, node.__name__, node)

    def ask(node: str, prefix: str = "a", **inputs: Any) -> str:
        save = {"storyboard": ["1", 0], "filename_prefix": prefix, "format": "json"}
        prompt = {
            "1": {"class_type": node, "inputs": inputs},
            "2": {"class_type": "LongreelSaveStoryboard", "inputs": save},
            "3": {"class_type": "LongreelLoadStoryboard", "inputs": {"file": "a.json", "video": 0}},
        }
        valid, _, _, errors = asyncio.run(execution.validate_prompt("test", prompt, None))
        details = [reason["details"] for error in errors.values() for reason in error["errors"]]
        assert valid == (not details)
        return "\n".join(details)

    return ask


def with_anchor(image: str) -> str:
    return Storyboard((Shot("a", 1, anchors=(Anchor(0, image),)),)).to_json()


def picture(path: Path, size: tuple[int, int] = (64, 64), **options: Any) -> Path:
    """A picture file of noise, which no format makes small."""
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def test_the_bundled_example_is_three_shots_for_the_demo_model(validate: Callable[..., str]) -> None:
    assert validate("LongreelStoryboard", text=EXAMPLE) == ""
    storyboard, summary = LongreelStoryboard.execute(EXAMPLE).result
    assert [shot.transition for shot in storyboard.shots] == ["continue", "blend", "cut"]
    assert (storyboard.fps, storyboard.width, storyboard.height) == (16.0, 64, 64)
    assert summary == storyboard.to_text()


def test_the_text_decides_the_storyboard(folders: Path) -> None:
    assert LongreelStoryboard.execute(board.to_json()).result[0] == board


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("fox", "text - the storyboard is not JSON: Expecting value (line 1, column 1); correct the text there"),
        (
            '{"longreel": 1, "shots": [{"prompt": "a", "seconds": -2}]}',
            "text - line 1: shot 1: seconds is -2; write seconds above 0 and up to 3600",
        ),
        (
            '{"longreel": 1, "shots": [{"prompt": "a", "seconds": 2}], "stylle": "x"}',
            'text - line 1: stylle is not a known key; did you mean "style"?',
        ),
        (
            json.dumps({"longreel": 1, "shots": [{"prompt": "a", "seconds": 2}] * 10_000}),
            "text - the storyboard has 10000 shots; the limit is 1000: split it into several storyboards",
        ),
    ],
)
def test_bad_text_fails_in_validation(validate: Callable[..., str], text: str, reason: str) -> None:
    assert validate("LongreelStoryboard", text=text) == reason


def test_a_picture_that_leaves_the_input_folder_fails_in_validation(
    validate: Callable[..., str], folders: Path
) -> None:
    (folders / "output" / "secret.png").write_bytes(b"")
    (folders / "input" / "link.png").symlink_to(folders / "output" / "secret.png")
    picture(folders / "input" / "ship.png")
    assert "a link that leaves the input folder" in validate("LongreelStoryboard", text=with_anchor("link.png"))
    assert "no file in" in validate("LongreelStoryboard", text=with_anchor("lost.png"))
    assert validate("LongreelStoryboard", text=with_anchor("ship.png")) == ""
    outside = with_anchor("ship.png").replace("ship.png", "../output/secret.png")
    assert "which leaves the input folder" in validate("LongreelStoryboard", text=outside)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("empty.png", "which is an empty file; choose a PNG, JPEG or WebP file"),
        ("text.png", "which is no picture; choose a PNG, JPEG or WebP file"),
        ("drawing.svg", "which is no picture; choose a PNG, JPEG or WebP file"),
        ("clip.mp4", "which is no picture; choose a PNG, JPEG or WebP file"),
        ("cut.png", "which is damaged or cut off ("),
        ("cut.jpg", "which is damaged or cut off ("),
        ("moving.gif", "which holds several pictures and an anchor shows 1; save one of them by itself"),
        ("folder.png", "a folder in "),
    ],
)
def test_what_is_no_picture_is_refused_with_shot_anchor_and_file_before_anything_runs(
    validate: Callable[..., str], folders: Path, name: str, fault: str
) -> None:
    place = folders / "input"
    files = {
        "empty.png": b"",
        "text.png": b"hello",
        "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"/>',
        "clip.mp4": b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2" + bytes(200),
        "cut.png": picture(place / "whole.png").read_bytes()[:6000],
        "cut.jpg": picture(place / "whole.jpg", quality=95).read_bytes()[:3000],
    }
    if name in files:
        (place / name).write_bytes(files[name])
    elif name == "moving.gif":
        frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
        frames[0].save(place / name, save_all=True, append_images=frames[1:])
    else:
        (place / name).mkdir()
    good = Anchor(0, "whole.png")
    picture(place / "whole.png")
    shots = (Shot("a", 1, anchors=(good,)), Shot("b", 1, anchors=(good, Anchor(1, name))))
    text = Storyboard(shots).to_json()
    line = next(number for number, one in enumerate(text.splitlines(), start=1) if name in one)
    expected = f"line {line}: shot 2, anchor 2: image is '{name}', {fault}"
    reason = validate("LongreelStoryboard", text=text)
    assert reason.startswith(f"text - {expected}") and len(reason.splitlines()) == 1 and "Errno" not in reason
    (place / "board.json").write_text(text)
    reason = validate("LongreelLoadStoryboard", file="board.json", video=0)
    assert reason.startswith(f"board.json in {place.resolve()}: {expected}") and len(reason.splitlines()) == 1


@pytest.mark.parametrize("name", ["grey.png", "photo.jpg", "still.webp", "deep.tif", "one.gif"])
def test_every_ordinary_picture_is_taken(validate: Callable[..., str], folders: Path, name: str) -> None:
    Image.open(picture(folders / "input" / "any.png")).convert("L").save(folders / "input" / name)
    assert validate("LongreelStoryboard", text=with_anchor(name)) == ""


def test_a_mistake_in_a_file_is_said_once(validate: Callable[..., str], folders: Path) -> None:
    (folders / "input" / "a.json").write_text(with_anchor("lost.png").replace('"seconds": 1', '"seconds": -1'))
    reason = validate("LongreelLoadStoryboard", file="a.json", video=0)
    assert reason.count("seconds is -1") == 1 and reason.count("lost.png") == 1


def test_a_picture_that_is_painted_anew_is_read_anew(folders: Path) -> None:
    painted, text = folders / "input" / "ship.png", with_anchor("ship.png")
    (folders / "input" / "board.json").write_text(text)
    found = []
    for content in (b"one", b"two", b"two"):
        painted.write_bytes(content)
        found.append(
            (LongreelStoryboard.fingerprint_inputs(text), LongreelLoadStoryboard.fingerprint_inputs("board.json", 0))
        )
    assert found[0][0] != found[1][0] and found[0][1] != found[1][1] and found[1] == found[2]


def test_text_through_a_wire_is_checked_when_it_arrives(validate: Callable[..., str], folders: Path) -> None:
    (folders / "input" / "a.json").write_text(board.to_json())
    assert validate("LongreelStoryboard", text=["3", 1]) == ""
    with pytest.raises(StoryboardError, match="^the storyboard is empty"):
        LongreelStoryboard.execute("")


@pytest.mark.parametrize("form", FORMATS)
def test_a_saved_file_loads_as_the_same_storyboard(validate: Callable[..., str], folders: Path, form: str) -> None:
    passed, path = LongreelSaveStoryboard.execute(board, "boards/night", form).result
    assert passed == board
    extension = FORMATS[form][0]
    assert Path(path) == folders / "output" / "boards" / f"night_00001_{extension}"
    Path(path).rename(folders / "input" / f"night{extension}")
    assert validate("LongreelLoadStoryboard", file=f"night{extension}", video=0) == ""
    assert LongreelLoadStoryboard.execute(f"night{extension}", 0).result == (board, board.to_text())


def test_the_menu_lists_the_files_of_the_input_folder(folders: Path) -> None:
    for name in ("b.json", "a.CSV", "c.jsonl", "d.png"):
        (folders / "input" / name).write_text("")
    (folders / "input" / "e.json").mkdir()
    file = LongreelLoadStoryboard.define_schema().inputs[0]
    assert file.options == ["a.CSV", "b.json", "c.jsonl"]


def test_the_video_is_chosen_and_a_wrong_one_refused(validate: Callable[..., str], folders: Path) -> None:
    (folders / "input" / "two.jsonl").write_text('[{"text": "a"}]\n[{"text": "b"}]\n')
    (folders / "input" / "one.json").write_text(board.to_json())
    prompts = [LongreelLoadStoryboard.execute("two.jsonl", video).result[0].shots[0].prompt for video in (0, 1)]
    assert prompts == ["a", "b"]
    reason = validate("LongreelLoadStoryboard", file="two.jsonl", video=2)
    assert reason == "video is 2, but two.jsonl holds videos 0 to 1; choose one of these"
    reason = validate("LongreelLoadStoryboard", file="one.json", video=1)
    assert reason == "video is 1, but one.json holds video 0 alone; choose one of these"


def test_a_bad_file_fails_in_validation_with_file_and_folder(validate: Callable[..., str], folders: Path) -> None:
    (folders / "input" / "bad.csv").write_text("prompt,seconds\na,0\n")
    place = str((folders / "input").resolve())
    assert f"bad.csv in {place}: row 2: shot 1: seconds is 0; write" in validate(
        "LongreelLoadStoryboard", file="bad.csv", video=0
    )
    assert f"file is 'lost.csv', no file in {place}; put it there" in validate(
        "LongreelLoadStoryboard", file="lost.csv", video=0
    )
    assert "which leaves the input folder" in validate("LongreelLoadStoryboard", file="../lost.csv", video=0)


def test_an_edited_file_is_read_again(folders: Path) -> None:
    path = folders / "input" / "a.json"
    path.write_text(board.to_json())
    first = LongreelLoadStoryboard.fingerprint_inputs(file="a.json", video=0)
    assert LongreelLoadStoryboard.fingerprint_inputs(file="a.json", video=0) == first
    path.write_text(board.to_json().replace('"a"', '"z"'))
    assert LongreelLoadStoryboard.fingerprint_inputs(file="a.json", video=0) != first


def test_saving_never_overwrites(folders: Path) -> None:
    paths = [LongreelSaveStoryboard.execute(board, "night", "json").result[1] for _ in range(3)]
    assert [Path(path).name for path in paths] == ["night_00001_.json", "night_00002_.json", "night_00003_.json"]


def test_saving_takes_the_next_number_when_another_process_was_faster(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folders / "output" / "night_00001_.json").write_text("theirs")
    output = str(folders / "output")
    monkeypatch.setattr(folder_paths, "get_save_image_path", lambda *_: (output, "night", 1, "", "night"))
    assert Path(LongreelSaveStoryboard.execute(board, "night", "json").result[1]).name == "night_00002_.json"
    assert (folders / "output" / "night_00001_.json").read_text() == "theirs"


def test_a_format_that_cannot_hold_the_storyboard_writes_nothing(folders: Path) -> None:
    with pytest.raises(StoryboardError, match=r"^ttt-video cannot hold size 832x480"):
        LongreelSaveStoryboard.execute(Storyboard((Shot("a", 3.0),)), "sub/night", "ttt-video json")
    assert list((folders / "output").iterdir()) == []


@pytest.mark.parametrize(
    ("prefix", "says"),
    [
        ("../night", "leaves the output folder"),
        ("/tmp/night", "leaves the output folder"),
        ("a/../../night", "leaves the output folder"),
        ("..", "leaves the output folder"),
        ("", "has no file name"),
        ("sub/.night", "is the name of a hidden file"),
        ("夜" * 82, "has 82 characters in 246 bytes, and at most 242 bytes are taken"),
    ],
)
def test_a_bad_name_fails_in_validation(validate: Callable[..., str], prefix: str, says: str) -> None:
    reason = validate("LongreelStoryboard", prefix=prefix, text=EXAMPLE)
    assert reason.startswith("filename_prefix - filename_prefix") and says in reason


def test_a_full_disk_leaves_no_half_storyboard_and_says_how_many_bytes(folders: Path) -> None:
    with largest_file(100), pytest.raises(WriteError, match=r"^night needs \d+ bytes, and writing stopped \(File too"):
        LongreelSaveStoryboard.execute(board, "night", "json")
    assert list((folders / "output").iterdir()) == []


def test_what_was_written_is_shown(folders: Path) -> None:
    shown = LongreelSaveStoryboard.execute(board, "night", "csv").ui.as_dict()["text"][0]
    assert str(folders / "output" / "night_00001_.csv") in shown and "prompt,seconds" in shown
    assert write_storyboard(board, "csv")[1] in shown
    assert read_storyboards(folders / "output" / "night_00001_.csv") == (board,)


@pytest.mark.parametrize("form", FORMATS)
def test_ids_are_kept_by_every_format_that_has_a_place_for_them(folders: Path, form: str) -> None:
    named = replace(board, shots=(replace(board.shots[0], id="fox"), board.shots[1]))
    result = LongreelSaveStoryboard.execute(named, "night", form)
    (back,) = read_storyboards(result.result[1])
    kept = not form.startswith("ttt-video")
    assert back == (named if kept else board)
    assert ("the shots' ids are not in it" in result.ui.as_dict()["text"][0]) != kept


@pytest.mark.parametrize("node", NODES)
def test_every_input_has_a_tooltip_and_every_node_a_help_page(node: type) -> None:
    schema = node.define_schema()
    assert all(one.tooltip for one in schema.inputs)
    page = (Path(__file__).parents[2] / "web" / "docs" / f"{schema.node_id}.md").read_text(encoding="utf-8")
    assert all(f"`{one.id}`" in page for one in schema.inputs)
