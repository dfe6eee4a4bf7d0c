"""Read and write the storyboard as a table: CSV that a spreadsheet program opens, saves and gives back without loss.

See docs/design.md, The storyboard. Row 1 names the columns. Each further row is one shot with
the columns of Shot; the columns `longreel` and `board_...` hold what belongs to the whole storyboard and are written
in the first shot's row. They are read from any row, so that sorting or inserting rows does no harm, but rows that
contradict each other are refused. An empty cell means "not given". Columns for people, such as notes, and columns
with nothing below their name are not read.

What a spreadsheet would change is written so that it does not:
- Text that it would take for a number, a date, a formula or TRUE gets one apostrophe in front, and so does a number
  of more than 15 digits, all that a spreadsheet keeps. The reader takes one leading apostrophe off.
- Several focus words stand as "word | word", anchors as "ship.png @ 0.5 | rocks.png @ 2", LoRAs as "ink.safetensors @
  0.8", or as a JSON list where a name contains such a mark.
- Comma, semicolon and tab are read as separators; with semicolon or tab a decimal comma is read too, as in the
  countries where spreadsheets write both. Excel's line sep=; above the names is no row of the table.

It does not know bytes: the file is UTF-8 with a byte order mark (engine/storyboard/files.py), for Excel's sake.
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from dataclasses import fields, replace
from itertools import islice
from typing import Any

from .board import VERSION, Shot, Storyboard, storyboard_from_dict
from .carried import CARRIED, Carried, CheckFiles
from .faults import FAULTY, MOST, Fault, Faults, Path, StoryboardError
from .fields import BOARD_RULES, MAX_SHOTS
from .json_text import MAX_TEXT_CHARACTERS, is_ignored, load_json
from .keys import nearest, remedy
from .rules import show
from .yes_no import NO, YES

SHOT_COLUMNS = tuple(one.name for one in fields(Shot))
BOARD_COLUMNS = ("longreel", *(f"board_{name}" for name in BOARD_RULES))
COLUMNS = SHOT_COLUMNS + BOARD_COLUMNS
MAX_COLUMNS = 1000
MAX_ROWS = 20_000  # that are counted before the table is refused
LATER = ("id", "lora", "audio")  # columns that a table has only where a shot has them
IGNORED = "-"  # a column that holds nothing for the storyboard

_WHOLE = {"longreel", "seed", "board_seed", "board_width", "board_height"}
_NUMBERS = _WHOLE | {"seconds", "overlap_seconds", "strength", "board_fps"}
_LISTS = {"focus", *CARRIED}
_LOOKS_LIKE_VALUE = re.compile(r"true|false|(?=.*\d)[\w .,:/+%-]{1,32}", re.IGNORECASE)
_SPREADSHEET_DIGITS = 15
_SEPARATOR_LINE = re.compile(r'"?sep=([,;|\t]|\\t)"?[,;\t ]*(?:\r\n|\r|\n)', re.IGNORECASE)


def to_csv(storyboard: Storyboard) -> str:
    """Return the table as text; parse_csv of it gives an equal storyboard."""
    out = io.StringIO()
    writer = csv.writer(out)
    used = {one for one in LATER for shot in storyboard.shots if getattr(shot, one) != getattr(Shot, one)}
    columns = [one for one in COLUMNS if one not in LATER or one in used]
    writer.writerow(columns)
    data = storyboard.to_dict()
    board = {"longreel": VERSION} | {f"board_{name}": data[name] for name in BOARD_RULES if data[name] != ""}
    for index, shot in enumerate(data["shots"]):
        row = {"transition": Shot.transition} | shot | (board if index == 0 else {})
        writer.writerow([_written(row.get(column), column) for column in columns])
    return out.getvalue()


def parse_csv(text: str, check_files: CheckFiles | None = None) -> Storyboard:
    """Read the table. Raises StoryboardError with all mistakes, each with its row as a spreadsheet numbers it.

    check_files: see parse_storyboard in engine/storyboard/board.py.
    """
    if len(text) > MAX_TEXT_CHARACTERS:
        raise StoryboardError(
            f"the table has {len(text)} characters; at most {MAX_TEXT_CHARACTERS} are read: split it into several"
        )
    text, delimiter = _delimited(text.removeprefix("\ufeff"))
    (top, header), *rows = _rows(text, delimiter)
    faults = Faults()
    columns, lost = _columns(header, [row for _, row in rows], top, faults)
    known = [place for place, column in enumerate(columns) if column != IGNORED]
    filled = [
        (number, row)
        for number, row in rows
        if any(row[place].strip() for place in known if place < len(row)) or any(map(str.strip, row[len(columns) :]))
    ]
    if len(filled) > MAX_SHOTS:
        raise StoryboardError(
            f"the table has {len(filled)} shots; the limit is {MAX_SHOTS}: split it into several tables"
        )
    shots: list[dict[str, Any]] = []
    board: dict[str, Any] = {}
    board_rows: dict[str, int] = {}
    for number, row in filled:
        found = lost | _read_row(row, columns, len(shots), faults, decimal_comma=delimiter != ",")
        shots.append({name: value for name, value in found.items() if name in SHOT_COLUMNS})
        for name in BOARD_COLUMNS:
            if name in found and board.setdefault(name, found[name]) != found[name]:
                faults.add(
                    f"{name} is {show(found[name])}, but a row above says {show(board[name])}; keep it in one row",
                    path=("shots", len(shots) - 1, name),
                )
            elif name in found:
                board_rows.setdefault(name.removeprefix("board_"), number)
    data = {name.removeprefix("board_"): value for name, value in board.items()}
    lines = [number for number, _ in filled]
    try:
        return storyboard_from_dict({"longreel": VERSION} | data | {"shots": shots}, check_files, faults)
    except StoryboardError as error:
        named = error.changed(_in_table)
        raise named.located(lambda paths: _table_rows(paths, lines, board_rows), "row") from error


def _in_table(fault: Fault) -> Fault:
    """Return the same fault in the table's own words: a storyboard field has its column's name."""
    is_board = len(fault.path) == 1 and fault.path[0] in BOARD_RULES
    return replace(fault, text=f"board_{fault.text}") if is_board else fault


def _table_rows(paths: list[Path], rows: list[int], board_rows: dict[str, int]) -> dict[Path, int]:
    """Return the row of each path into the table: of a shot, of a storyboard field, or ("row", number)."""
    found: dict[Path, int] = {}
    for path in paths:
        if len(path) > 1 and isinstance(path[1], int):
            found[path] = rows[path[1]] if path[0] == "shots" else path[1]
        elif path and path[0] in board_rows:
            found[path] = board_rows[str(path[0])]
    return found


def _delimited(text: str) -> tuple[str, str]:
    """Return (the table, what stands between its cells); Excel's own line that says so, sep=; , is taken off."""
    told = _SEPARATOR_LINE.match(text)
    text = text[told.end() :] if told else text
    first = next((line for line in re.split(r"[\r\n]", text) if line.strip(' ,;\t"\xa0')), "")
    given = [told[1].replace("\\t", "\t")] if told else []
    for delimiter in (*given, ",", ";", "\t"):
        if "prompt" in [_column(cell) for cell in first.split(delimiter)]:
            return text, delimiter
    raise StoryboardError("row 1 has no column prompt; name the columns there: prompt,seconds,transition")


def _rows(text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    """Return (number, cells) of every row in which anything stands."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        filled = ((number, row) for number, row in enumerate(reader, start=1) if any(map(str.strip, row)))
        found = list(islice(filled, MAX_ROWS + 1))
    except csv.Error as error:
        raise StoryboardError(f"the table is not CSV at line {reader.line_num}: {error}; correct it there") from error
    if len(found) > MAX_ROWS:
        raise StoryboardError(
            f"the table has more than {MAX_ROWS} rows; the limit is {MAX_SHOTS} shots: split it into several tables"
        )
    return found


def _column(cell: str) -> str:
    """Return a column's name as it stands in COLUMNS, however a person wrote it: "Overlap seconds", "ID "."""
    return "_".join(cell.strip(" \t\n\r\xa0\u200b\ufeff\"'").lower().replace("-", " ").replace("_", " ").split())


def _columns(header: list[str], rows: list[list[str]], number: int, faults: Faults) -> tuple[list[str], dict[str, Any]]:
    """Return (the name of each column, FAULTY for those that are needed and missing). A column named "" has no name;
    IGNORED is for people, or empty below its name.
    """
    columns: list[str] = []
    meant = set()
    named = sum(map(bool, header))
    if named > MAX_COLUMNS:
        raise StoryboardError(f"the table has {named} columns with a name; the limit is {MAX_COLUMNS}: remove some")
    for place, cell in enumerate(header):
        column = _column(cell)
        if column and column not in COLUMNS:
            empty = not any(row[place].strip() for row in rows if place < len(row))
            if not empty and not is_ignored(cell.strip()) and not is_ignored(column):
                said = remedy(column, COLUMNS, "a table") if place < MOST else ""
                faults.add(f"column {show(cell, bare=True)} is not known; {said}", path=("row", number))
                meant.add(nearest(column, COLUMNS) if place < MOST else "")
            column = IGNORED
        elif column and column in columns:
            faults.add(f"column {column} stands twice in row {number}; keep one of them", path=("row", number))
            column = IGNORED
        columns.append(column)
    lost = [needed for needed in ("prompt", "seconds") if needed not in columns]
    for needed in lost:
        if needed not in meant:
            faults.add(f"column {needed} is missing; add it to row {number}", path=("row", number))
    return columns, dict.fromkeys(lost, FAULTY)


def _read_row(row: list[str], columns: list[str], index: int, faults: Faults, decimal_comma: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for place, cell in enumerate(row):
        column = columns[place] if place < len(columns) else ""
        if not column and cell.strip():
            said = f"{show(cell)} stands in a column without a name; name it in row 1"
            faults.add(said, f"shot {index + 1}", ("shots", index))
        blank = not cell if column in ("prompt", "negative") else not cell.strip()
        if column and column != IGNORED and not blank:
            try:
                found[column] = _value(cell.removeprefix("'"), column, decimal_comma)
            except StoryboardError as error:
                faults.extend(error, f"shot {index + 1}", ("shots", index, column))
                found[column] = FAULTY
    return found


def _value(cell: str, column: str, decimal_comma: bool) -> Any:
    if column in _NUMBERS:
        return _number(cell.strip(), column, decimal_comma)
    if column == "locked":
        word = unicodedata.normalize("NFKC", cell).strip().casefold()
        if word not in YES | NO:
            raise StoryboardError(f"locked is {show(cell)}; write true or false")
        return word in YES
    if column == "transition":
        return cell.strip()
    if column not in _LISTS:
        return cell
    if cell.startswith("["):
        found = load_json(cell, column)
    else:
        items = [item.strip() for item in cell.split("|")]
        found = items if column == "focus" else [_part(item, column) for item in items]
    if column not in CARRIED or not CARRIED[column].single:
        return found
    if len(found) != 1:
        raise StoryboardError(f"{column} holds {len(found)} files; write one")
    return found[0]


def _number(cell: str, name: str, decimal_comma: bool) -> float | int:
    if re.fullmatch(r"[-+]?[0-9]{1,40}", cell):
        return int(cell)
    if name in _WHOLE and "e" in cell.lower():
        raise StoryboardError(f"{name} is {show(cell)}, rounded by a spreadsheet; write ' and then all digits")
    if decimal_comma and cell.count(",") == 1 and "." not in cell:
        cell = cell.replace(",", ".")
    if not re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", cell, re.IGNORECASE | re.ASCII):
        raise StoryboardError(f"{name} is {show(cell)}, not a number; write digits such as 3 or 4.5")
    return float(cell)


def _part(item: str, column: str) -> dict[str, Any]:
    """Return what "file @ number" means in the column of a key of CARRIED; the number may be left out where it may."""
    part = CARRIED[column]
    file, mark, number = item.rpartition("@")
    if mark:
        found = _number(number.strip(), column, decimal_comma=True)
        return {part.number: found, part.file: file.strip()}
    if part.number in part.needed:
        raise StoryboardError(f'{column} is {show(item)}; write "picture @ seconds", such as "ship.png @ 0.5"')
    return {part.file: item}


def _part_item(value: dict[str, Any], part: Carried) -> str:
    if part.number not in value:
        return value[part.file] if "@" not in value[part.file] else "["  # which is written as JSON
    return f"{value[part.file]} @ {value[part.number]!r}"


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
    if column in CARRIED:
        values = [value] if CARRIED[column].single else value
        return _guarded(_joined([_part_item(one, CARRIED[column]) for one in values], values))
    return value if column == "transition" else _guarded(value)


def _joined(items: list[str], value: list[Any]) -> str:
    plain = all(item == item.strip() and "|" not in item for item in items) and not items[0].startswith("[")
    return " | ".join(items) if plain else json.dumps(value, ensure_ascii=False)


def _guarded(text: str) -> str:
    harmless = text[:1].isalpha() and not _LOOKS_LIKE_VALUE.fullmatch(text)
    return text if harmless else f"'{text}"
