"""Handle storyboard files: which format a file is in, and reading and writing each.

.csv is the table; .json and .jsonl are told apart by what stands in them: an object is a storyboard, a list or lines of
shots is one, too, and other lists are ttt-video scene lists. Files are UTF-8, and UTF-16 is read as well. It does not
know where ComfyUI's folders are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from .board import Storyboard, are_shots, storyboard_of
from .carried import CheckFiles
from .csv_file import parse_csv, to_csv
from .faults import Faults, StoryboardError
from .json_text import MAX_TEXT_CHARACTERS, Document, load_document
from .media import why
from .story_scripts import is_story_script, storyboard_of_script
from .ttt_video import scenes_of, to_ttt_json, to_ttt_jsonl

EXTENSIONS = (".json", ".csv", ".jsonl")
# Each way to write a storyboard: its name in a menu, the file's extension, the writer, the encoding. Excel takes a
# table for UTF-8 only when it starts with a byte order mark.
FORMATS: dict[str, tuple[str, Callable[[Storyboard], str], str]] = {
    "json": (".json", Storyboard.to_json, "utf-8"),
    "csv": (".csv", to_csv, "utf-8-sig"),
    "ttt-video json": (".json", lambda storyboard: to_ttt_json([storyboard]), "utf-8"),
    "ttt-video jsonl": (".jsonl", lambda storyboard: to_ttt_jsonl([storyboard]), "utf-8"),
}


def read_storyboards(path: str | os.PathLike[str], check_files: CheckFiles | None = None) -> tuple[Storyboard, ...]:
    """Return all storyboards of a file: one, or as many as a scene list has videos or JSON lines have storyboards.

    check_files: see parse_storyboard in engine/storyboard/board.py. Raises StoryboardError that names the file, its
    folder, and all mistakes in it, a line for each.
    """
    return tuple(open_storyboards(path, check_files))


def open_storyboards(path: str | os.PathLike[str], check_files: CheckFiles | None = None) -> Sequence[Storyboard]:
    """Return the storyboards of a file, of which each is checked now and made when it is taken; see
    read_storyboards.
    """
    path = Path(path)
    try:
        return _parse(_read_text(path), path.suffix.lower(), check_files)
    except StoryboardError as error:
        raise StoryboardError(f"{path.name} in {path.parent}: {error}") from error


def parse_storyboards(text: str, check_files: CheckFiles | None = None) -> Sequence[Storyboard]:
    """Return all storyboards of a text in JSON or JSON lines, told apart by what stands in it."""
    document = load_document(text, "the storyboard")
    data = document.data
    if document.lines and all(isinstance(one, dict) and "shots" in one for one in data):
        return _each_line(document, check_files)
    if isinstance(data, list) and not are_shots(data):
        return scenes_of(document)
    if is_story_script(data):
        return (storyboard_of_script(document),)
    return (storyboard_of(document, check_files),)


def _each_line(document: Document, check_files: CheckFiles | None) -> tuple[Storyboard, ...]:
    boards, faults = [], Faults()
    for index, (line, data) in enumerate(zip(document.lines, document.data, strict=True)):
        doubled = tuple(path[1:] for path in document.doubled if path[0] == index)
        try:
            boards.append(storyboard_of(Document("", data, doubled=doubled), check_files))
        except StoryboardError as error:
            placed = [replace(fault, where=f"line {line}") for fault in error.faults]
            faults.extend(StoryboardError(*placed, more=error.more))
    faults.stop()
    return tuple(boards)


def write_storyboard(storyboard: Storyboard, form: str) -> tuple[bytes, str, str]:
    """Return the file's bytes, the same as text, and its extension, for one of FORMATS.

    Raises StoryboardError when the format cannot hold the storyboard.
    """
    extension, writer, encoding = FORMATS[form]
    text = writer(storyboard)
    return text.encode(encoding), text, extension


def _read_text(path: Path) -> str:
    try:
        if path.is_dir():
            raise StoryboardError("it is a folder; name a file in it")
        if not path.is_file():
            raise StoryboardError("there is no such file; put it into that folder or choose another")
        # No character takes more than 4 bytes, so a larger file cannot be within the limit of characters.
        size = path.stat().st_size
        if size > 4 * MAX_TEXT_CHARACTERS:
            raise StoryboardError(f"the file has {size} bytes; at most {4 * MAX_TEXT_CHARACTERS} are read: split it")
        data = path.read_bytes()
    except OSError as error:
        raise StoryboardError(f"the file cannot be read ({why(error)}); check its rights, or choose another") from error
    return _decoded(data, path.suffix.lower() == ".csv")


def _decoded(data: bytes, is_table: bool) -> str:
    """Return the text of a file in UTF-8 or UTF-16, which Excel calls Unicode text."""
    zeros = [data[0:200:2].count(0), data[1:200:2].count(0)]
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    elif max(zeros) > len(data[:200]) // 4:  # of letters of Latin script every second byte is 0
        encoding = "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    else:
        encoding = "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        name = "UTF-8" if encoding == "utf-8-sig" else "UTF-16"
        how = ' (in Excel, "CSV UTF-8")' if is_table else ""
        raise StoryboardError(f"line {line}: byte {error.start} is not {name}; save the file as UTF-8{how}") from error


def _parse(text: str, extension: str, check_files: CheckFiles | None) -> Sequence[Storyboard]:
    if extension == ".csv":
        return (parse_csv(text, check_files),)
    if extension in (".json", ".jsonl"):
        return parse_storyboards(text, check_files)
    raise StoryboardError(f'the extension "{extension}" is not known; use one of {", ".join(EXTENSIONS)}')
