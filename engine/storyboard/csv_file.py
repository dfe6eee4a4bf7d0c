"""Read and write the storyboard as a table: CSV that a spreadsheet program opens, saves and gives back without loss.

See docs/design.md, The storyboard. Row 1 names the columns. Each further row is one shot with
the columns of Shot; the columns `longreel` and `board_...` hold what belongs to the whole storyboard and are written
in the first shot's row. They are read from any row, so that sorting or inserting rows does no harm, but rows that
contradict each other are refused. An empty cell means "not given".

What a spreadsheet would change is written so that it does not:
- Text that it would take for a number, a date, a formula or TRUE gets one apostrophe in front, and so does a number
  of more than 15 digits, all that a spreadsheet keeps. The reader takes one leading apostrophe off.
- Several focus words stand as "word | word", anchors as "ship.png @ 0.5 | rocks.png @ 2", or as a JSON list where a
  name contains such a mark.
- Comma, semicolon and tab are read as separators; with semicolon or tab a decimal comma is read too, as in the
  countries where spreadsheets write both.

It does not know bytes: the file is UTF-8 with a byte order mark (engine/storyboard/files.py), for Excel's sake.
"""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import fields
from typing import Any

from .board import (
    BOARD_RULES,
    MAX_SHOTS,
    MAX_TEXT_CHARACTERS,
    VERSION,
    Shot,
    Storyboard,
    load_json,
    nearest,
    storyboard_from_dict,
)
from .rules import StoryboardError, show

SHOT_COLUMNS = tuple(one.name for one in fields(Shot))
BOARD_COLUMNS = ("longreel", *(f"board_{name}" for name in BOARD_RULES))
COLUMNS = SHOT_COLUMNS + BOARD_COLUMNS

_WHOLE = {"longreel", "seed", "board_seed", "board_width", "board_height"}
_NUMBERS = _WHOLE | {"seconds", "overlap_seconds", "strength", "board_fps"}
_LISTS = {"focus", "anchors"}
_LOOKS_LIKE_VALUE = re.compile(r"true|false|(?=.*\d)[\w .,:/+%-]{1,32}", re.IGNORECASE)
_SPREADSHEET_DIGITS = 15


def to_csv(storyboard: Storyboard) -> str:
    """Return the table as text; parse_csv of it gives an equal storyboard."""
    out = io.StringIO()
    writer = csv.writer(out)
    # A table without ids is written as it was before there were any.
    columns = [one for one in COLUMNS if one != "id" or any(shot.id is not None for shot in storyboard.shots)]
    writer.writerow(columns)
    data = storyboard.to_dict()
    board = {"longreel": VERSION} | {f"board_{name}": data[name] for name in BOARD_RULES if data[name] != ""}
    for index, shot in enumerate(data["shots"]):
        row = {"transition": Shot.transition} | shot | (board if index == 0 else {})
        writer.writerow([_written(row.get(column), column) for column in columns])
    return out.getvalue()


def parse_csv(text: str) -> Storyboard:
    """Read the table. Raises StoryboardError on one line, with the row as a spreadsheet numbers it."""
    if len(text) > MAX_TEXT_CHARACTERS:
        raise StoryboardError(
            f"the table has {len(text)} characters; at most {MAX_TEXT_CHARACTERS} are read: split it into several"
        )
    text = text.removeprefix("\ufeff")
    delimiter = _delimiter(text)
    rows = _rows(text, delimiter)
    columns = _columns(rows[0])
    filled = [(number, row) for number, row in enumerate(rows[1:], start=2) if any(cell.strip() for cell in row)]
    if len(filled) > MAX_SHOTS:
        raise StoryboardError(
            f"the table has {len(filled)} shots; the limit is {MAX_SHOTS}: split it into several tables"
        )
    shots: list[dict[str, Any]] = []
    board: dict[str, Any] = {}
    for number, row in filled:
        found = _read_row(row, columns, number, decimal_comma=delimiter != ",")
        shots.append({name: value for name, value in found.items() if name in SHOT_COLUMNS})
        for name in BOARD_COLUMNS:
            if name in found and board.setdefault(name, found[name]) != found[name]:
                raise StoryboardError(
                    f"row {number}: {name} is {show(found[name])}, but a row above says {show(board[name])}; "
                    "keep it in one row"
                )
    data = {name.removeprefix("board_"): value for name, value in board.items()}
    try:
        return storyboard_from_dict({"longreel": VERSION} | data | {"shots": shots})
    except StoryboardError as error:
        raise _placed(error, [number for number, _ in filled]) from error


def _placed(error: StoryboardError, numbers: list[int]) -> StoryboardError:
    """Return the same error in the table's own words: the row of shot 3, the column of a storyboard field."""
    shot = re.match(r"shot (\d+)", str(error))
    if shot:
        return StoryboardError(f"row {numbers[int(shot[1]) - 1]}: {error}")
    column = str(error).split(" ", 1)[0]
    return StoryboardError(f"board_{error}" if column in BOARD_RULES else str(error))


def _delimiter(text: str) -> str:
    first = re.split(r"[\r\n]", text, maxsplit=1)[0]
    for delimiter in (",", ";", "\t"):
        if "prompt" in [cell.strip(' "').lower() for cell in first.split(delimiter)]:
            return delimiter
    raise StoryboardError("row 1 has no column prompt; name the columns there: prompt,seconds,transition")


def _rows(text: str, delimiter: str) -> list[list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        return list(reader)
    except csv.Error as error:
        raise StoryboardError(f"the table is not CSV at line {reader.line_num}: {error}; correct it there") from error


def _columns(header: list[str]) -> list[str]:
    columns = [cell.strip().lower() for cell in header]
    for place, column in enumerate(columns, start=1):
        if column and column not in COLUMNS:
            name = show(header[place - 1], bare=True)
            raise StoryboardError(f'column {name} is not known; did you mean "{nearest(column, COLUMNS)}"?')
        if column and columns.index(column) != place - 1:
            raise StoryboardError(f"column {column} stands twice in row 1; keep one of them")
    for needed in ("prompt", "seconds"):
        if needed not in columns:
            raise StoryboardError(f"column {needed} is missing; add it to row 1")
    return columns


def _read_row(row: list[str], columns: list[str], number: int, decimal_comma: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for place, cell in enumerate(row):
        column = columns[place] if place < len(columns) else ""
        if not column and cell.strip():
            raise StoryboardError(f"row {number}: {show(cell)} stands in a column without a name; name it in row 1")
        where = f"row {number}: {column}"
        blank = not cell if column in ("prompt", "negative") else not cell.strip()
        if not blank:
            found[column] = _value(cell.removeprefix("'"), column, where, decimal_comma)
    return found


def _value(cell: str, column: str, where: str, decimal_comma: bool) -> Any:
    if column in _NUMBERS:
        return _number(cell.strip(), column, where, decimal_comma)
    if column == "locked":
        if cell.strip().lower() not in ("true", "false"):
            raise StoryboardError(f"{where} is {show(cell)}; write true or false")
        return cell.strip().lower() == "true"
    if column == "transition":
        return cell.strip()
    if column not in _LISTS:
        return cell
    if cell.startswith("["):
        return load_json(cell, where)
    items = [item.strip() for item in cell.split("|")]
    return items if column == "focus" else [_anchor(item, where) for item in items]


def _number(cell: str, column: str, where: str, decimal_comma: bool) -> float | int:
    if re.fullmatch(r"[-+]?[0-9]{1,40}", cell):
        return int(cell)
    if column in _WHOLE and "e" in cell.lower():
        raise StoryboardError(f"{where} is {show(cell)}, rounded by a spreadsheet; write ' and then all digits")
    if decimal_comma and cell.count(",") == 1 and "." not in cell:
        cell = cell.replace(",", ".")
    if not re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", cell, re.IGNORECASE | re.ASCII):
        raise StoryboardError(f"{where} is {show(cell)}, not a number; write digits such as 3 or 4.5")
    return float(cell)


def _anchor(item: str, where: str) -> dict[str, Any]:
    image, mark, at = item.rpartition("@")
    if not mark:
        raise StoryboardError(f'{where} is {show(item)}; write "picture @ seconds", such as "ship.png @ 0.5"')
    return {"at": _number(at.strip(), "at", where, decimal_comma=False), "image": image.strip()}


def _written(value: Any, column: str) -> str:
    if value is None:
        return ""
    if column in _NUMBERS:
        written = repr(value)
        return f"'{written}" if sum(map(str.isdigit, written)) > _SPREADSHEET_DIGITS else written
    if column == "locked":
        return "true"
    if column == "focus":
        return _guarded(_joined(value, value))
    if column == "anchors":
        return _guarded(_joined([f"{one['image']} @ {one['at']!r}" for one in value], value))
    return value if column == "transition" else _guarded(value)


def _joined(items: list[str], value: list[Any]) -> str:
    plain = all(item == item.strip() and "|" not in item for item in items) and not items[0].startswith("[")
    return " | ".join(items) if plain else json.dumps(value, ensure_ascii=False)


def _guarded(text: str) -> str:
    harmless = text[:1].isalpha() and not _LOOKS_LIKE_VALUE.fullmatch(text)
    return text if harmless else f"'{text}"
