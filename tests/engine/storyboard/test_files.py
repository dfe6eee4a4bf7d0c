"""engine/storyboard/files.py: every format is written, recognised and read back."""

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
