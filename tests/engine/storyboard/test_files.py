"""engine/storyboard/files.py: every format is written, recognised and read back."""

import errno
import json
import os
from pathlib import Path

import pytest

from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.engine.storyboard.files import FORMATS, read_storyboards, write_storyboard
from longreel.engine.storyboard.rules import StoryboardError

board = Storyboard((Shot("a café 灯台", 3.0), Shot("b", 3.0, "cut")), width=720, height=480)


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_written_is_read_back(tmp_path: Path, form: str) -> None:
    data, text, extension = write_storyboard(board, form)
    path = tmp_path / f"board{extension}"
    path.write_bytes(data)
    assert read_storyboards(path) == (board,)
    assert "灯台" in text


def test_a_table_starts_with_the_mark_that_excel_needs() -> None:
    assert write_storyboard(board, "csv")[0].startswith(b"\xef\xbb\xbf")
    assert not write_storyboard(board, "json")[0].startswith(b"\xef\xbb\xbf")


def test_a_json_list_is_a_scene_list(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[[{"text": "a"}], [{"text": "b"}]]')
    assert [one.shots[0].prompt for one in read_storyboards(tmp_path / "a.json")] == ["a", "b"]


TABLE = "prompt\tseconds\r\na café 灯台\t3,5\r\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    ("name", "text"), [("a.csv", TABLE), ("a.json", '[{"prompt": "a café 灯台", "seconds": 3.5}]')]
)
def test_files_are_read_in_the_encodings_of_excel_and_windows(
    tmp_path: Path, name: str, text: str, encoding: str
) -> None:
    (tmp_path / name).write_bytes(text.encode(encoding))
    assert read_storyboards(tmp_path / name) == (Storyboard((Shot("a café 灯台", 3.5),)),)


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize(
    ("text", "prompts"),
    [
        ('{"prompt": "a", "seconds": 2}\n{"prompt": "b", "seconds": 3}\n', [["a", "b"]]),
        ('[{"prompt": "a", "seconds": 2},\n {"prompt": "b", "seconds": 3}]', [["a", "b"]]),
        ('{"prompt": "a", "seconds": 2}\n', [["a"]]),
        ('{"text": "a"}\n{"text": "b", "requires_scene_transition": true}\n', [["a", "b"]]),
        ('[{"text": "a"}]\n[{"text": "b"}]\n', [["a"], ["b"]]),
    ],
)
def test_shots_and_scenes_may_have_a_line_each(tmp_path: Path, name: str, text: str, prompts: list[list[str]]) -> None:
    (tmp_path / name).write_text(text)
    assert [[shot.prompt for shot in one.shots] for one in read_storyboards(tmp_path / name)] == prompts


def test_storyboards_may_have_a_line_each(tmp_path: Path) -> None:
    lines = [json.dumps(Storyboard((Shot(prompt, 2.0),), title=prompt).to_dict()) for prompt in ("a", "b")]
    (tmp_path / "two.jsonl").write_text("\n".join(lines))
    assert [one.title for one in read_storyboards(tmp_path / "two.jsonl")] == ["a", "b"]
    (tmp_path / "two.jsonl").write_text("\n".join(lines).replace('"seconds": 2', '"seconds": 0'))
    with pytest.raises(StoryboardError) as caught:
        read_storyboards(tmp_path / "two.jsonl")
    first, second = str(caught.value).splitlines()
    assert "line 1: shot 1: seconds is 0;" in first and second.startswith("line 2: shot 1: seconds is 0;")


def test_what_cannot_be_read_is_said_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "board.json").mkdir()
    with pytest.raises(StoryboardError, match="board.json in .*: it is a folder; name a file in it"):
        read_storyboards(tmp_path / "board.json")
    with pytest.raises(StoryboardError, match=r"the file cannot be read \(file name too long\)|there is no such file"):
        read_storyboards(tmp_path / ("a" * 300 + ".json"))
    (tmp_path / "mine.json").write_text("{}")

    def refuse(path: Path) -> bytes:  # root may read everything
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(StoryboardError) as caught:
        read_storyboards(tmp_path / "mine.json")
    assert str(caught.value) == (
        f"mine.json in {tmp_path}: the file cannot be read (permission denied); check its rights, or choose another"
    )


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        (
            "a.json",
            b"{",
            (
                "the storyboard is not JSON: it ends too early (line 1, column 2); "
                "close all brackets and quotation marks"
            ),
        ),
        ("a.csv", b"x", "row 1 has no column prompt; name the columns there: prompt,seconds,transition"),
        ("a.json", b'{"title": "\xe9"}', "line 1: byte 11 is not UTF-8; save the file as UTF-8"),
        (
            "a.csv",
            b"prompt,seconds\r\ncaf\xe9,2\r\n",
            'line 2: byte 19 is not UTF-8; save the file as UTF-8 (in Excel, "CSV UTF-8")',
        ),
        ("a.txt", b"{}", 'the extension ".txt" is not known; use one of .json, .csv, .jsonl'),
        ("a.json", b" " * 16_000_001, "the file has 16000001 bytes; at most 16000000 are read: split it"),
        ("a.json", None, "there is no such file; put it into that folder or choose another"),
    ],
)
def test_a_bad_file_is_named_with_its_folder(tmp_path: Path, name: str, data: bytes | None, reason: str) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(StoryboardError) as caught:
        read_storyboards(tmp_path / name)
    assert str(caught.value) == f"{name} in {tmp_path}: {reason}"
