"""Handle storyboard files: which format a file is in, and reading and writing each.

.csv is the table, .jsonl a ttt-video scene list; .json is told apart by its first bracket: an object is a storyboard,
a list is a ttt-video scene list. Files are UTF-8. It does not know where ComfyUI's folders are.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from .board import MAX_TEXT_CHARACTERS, Storyboard, parse_storyboard
from .csv_file import parse_csv, to_csv
from .rules import StoryboardError
from .ttt_video import parse_ttt, to_ttt_json, to_ttt_jsonl

EXTENSIONS = (".json", ".csv", ".jsonl")
# Each way to write a storyboard: its name in a menu, the file's extension, the writer, the encoding. Excel takes a
# table for UTF-8 only when it starts with a byte order mark.
FORMATS: dict[str, tuple[str, Callable[[Storyboard], str], str]] = {
    "json": (".json", Storyboard.to_json, "utf-8"),
    "csv": (".csv", to_csv, "utf-8-sig"),
    "ttt-video json": (".json", lambda storyboard: to_ttt_json([storyboard]), "utf-8"),
    "ttt-video jsonl": (".jsonl", lambda storyboard: to_ttt_jsonl([storyboard]), "utf-8"),
}


def read_storyboards(path: str | os.PathLike[str]) -> tuple[Storyboard, ...]:
    """Return all storyboards of a file: one, or as many as a ttt-video scene list has videos.

    Raises StoryboardError, one line that names the file and its folder.
    """
    path = Path(path)
    try:
        return _parse(_read_text(path), path.suffix.lower())
    except StoryboardError as error:
        raise StoryboardError(f"{path.name} in {path.parent}: {error}") from error


def write_storyboard(storyboard: Storyboard, form: str) -> tuple[bytes, str, str]:
    """Return the file's bytes, the same as text, and its extension, for one of FORMATS.

    Raises StoryboardError when the format cannot hold the storyboard.
    """
    extension, writer, encoding = FORMATS[form]
    text = writer(storyboard)
    return text.encode(encoding), text, extension


def _read_text(path: Path) -> str:
    if not path.is_file():
        raise StoryboardError("there is no such file; put it into that folder or choose another")
    # No character takes more than 4 bytes, so a larger file cannot be within the limit of characters.
    if path.stat().st_size > 4 * MAX_TEXT_CHARACTERS:
        size = path.stat().st_size
        raise StoryboardError(f"the file has {size} bytes; at most {4 * MAX_TEXT_CHARACTERS} are read: split it")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StoryboardError(f"byte {error.start} is not UTF-8; save the file as UTF-8") from error


def _parse(text: str, extension: str) -> tuple[Storyboard, ...]:
    if extension == ".csv":
        return (parse_csv(text),)
    if extension == ".jsonl" or text.lstrip().startswith("["):
        return parse_ttt(text)
    if extension == ".json":
        return (parse_storyboard(text),)
    raise StoryboardError(f'the extension "{extension}" is not known; use one of {", ".join(EXTENSIONS)}')
