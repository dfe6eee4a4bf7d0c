"""Read JSON so that every mistake in it has a line: text into data, and paths of the data back into lines of the text.

JSON lines, one value on each line, become a list of these values. What people write that JSON does not have, such as
comments and commas before a closing bracket, is named as what it is. It does not know what a storyboard is.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from .faults import Fault, Faults, Path, StoryboardError
from .rules import show

MAX_TEXT_CHARACTERS = 4_000_000
MAX_LINES = 1000  # of JSON lines: shots, or videos
_MOST_STEPS = 100_000  # spent on finding where a mistake stands
# Keys that are for people and that no reader minds: _comment, $schema, //, #, note, notes, comment, comments.
_IGNORED = re.compile(r"[_$#].*|//.*|(?:note|comment)s?", re.IGNORECASE | re.ASCII | re.DOTALL)
_SPACE = re.compile(r"[ \t\n\r]*")
_NOT_JSON = (  # what stands where the reader stops, what it is, and what to do
    (r"//|/\*|#", 'is a comment, which JSON does not have; write it as a key: "_comment": "..."'),
    (r"[\u2018\u2019\u201c\u201d\u201e\u00ab\u00bb']", 'is no quotation mark of JSON; write "'),
    (r"(?:True|False|None|undefined)\b", "is no word of JSON; write true, false or null"),
)


def is_ignored(key: str) -> bool:
    """Tell whether a key is for people alone."""
    return bool(_IGNORED.fullmatch(key))


@dataclass(frozen=True)
class Document:
    """A document is the data of a text; without the text, no path has a line. `lines`: for JSON lines the number of
    each value's line, else empty. `doubled`: the paths of keys that are written twice.
    """

    text: str
    data: Any
    lines: tuple[int, ...] = ()
    doubled: tuple[Path, ...] = ()

    def lines_of(self, paths: Iterable[Path]) -> dict[Path, int]:
        """Return the line, from 1, on which each of these paths stands; a path into nothing has that of its parent."""
        paths = [path for path in paths if path]
        if not self.text:
            return {}
        if self.lines:
            return {path: self.lines[int(path[0])] for path in paths if isinstance(path[0], int)}
        places = _places(self.text, {path[:end] for path in paths for end in range(1, len(path) + 1)})
        begins = {}
        for path in paths:
            known = next((path[:end] for end in range(len(path), 0, -1) if path[:end] in places), ())
            if known:
                begins[path] = places[known]
        found, line, counted = {}, 1, 0
        for path, at in sorted(begins.items(), key=lambda one: one[1]):
            line, counted = line + self.text.count("\n", counted, at), at
            found[path] = line
        return found


def load_document(text: str, what: str) -> Document:
    """Return the data of JSON or JSON lines. Raises StoryboardError for text that is neither, and for one that is too
    long.
    """
    if len(text) > MAX_TEXT_CHARACTERS:
        raise StoryboardError(
            f"{what} has {len(text)} characters; at most {MAX_TEXT_CHARACTERS} are read: split it into several"
        )
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise StoryboardError(f"{what} is empty; write at least one shot")
    numbered = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if len(numbered) > 1 and all(_whole(line) for _, line in numbered):
        if len(numbered) > MAX_LINES:
            raise StoryboardError(
                f"{what} has {len(numbered)} lines of JSON; the limit is {MAX_LINES}: split it into several"
            )
        values, doubled, faults = [], [], Faults()
        for index, (number, line) in enumerate(numbered):
            try:
                value, paths = _load(line, what, number)
                values.append(value)
                doubled += [(index, *path) for path in paths]
            except StoryboardError as error:
                faults.extend(error)
        faults.stop()
        return Document(text, values, tuple(number for number, _ in numbered), tuple(doubled))
    data, paths = _load(text, what)
    return Document(text, data, doubled=paths)


def load_json(text: str, what: str) -> Any:
    """Return the data of JSON, in which no key may be written twice; else as load_document."""
    document = load_document(text, what)
    for path in document.doubled:
        raise StoryboardError(f"{what}: {said_twice(path)}")
    return document.data


def said_twice(path: Path) -> str:
    """Say that the key at the end of a path is written twice."""
    return f"the key {show(path[-1])} is written twice in one object; keep one of them"


def _whole(line: str) -> bool:
    """Tell whether a line opens and closes a list or an object. In JSON that goes over several lines not all of them
    do: between two that did, a comma would be missing.
    """
    line = line.strip()
    return (line[0], line[-1]) in (("[", "]"), ("{", "}"))


class _Doubled(dict[str, Any]):
    """This is an object in which `keys` are written twice."""

    keys_twice: tuple[str, ...] = ()


def _load(text: str, what: str, line: int = 1) -> tuple[Any, tuple[Path, ...]]:
    """Return the data and the paths of keys that are written twice; `line` is the number of the text's first line."""
    twice: list[str] = []

    def to_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            counts = Counter(name for name, _ in pairs)
            found = _Doubled(found)
            found.keys_twice = tuple(name for name, count in counts.items() if count > 1 and not is_ignored(name))
            twice.extend(found.keys_twice)
        return found

    try:
        data = json.loads(text, object_pairs_hook=to_object)
    except json.JSONDecodeError as error:
        reason, at = _reason(error, line)
        raise StoryboardError(Fault(f"{what} is not JSON: {reason}", line=at)) from error
    except RecursionError as error:
        raise StoryboardError(f"{what} nests lists or objects too deeply; a storyboard needs 5 levels") from error
    except ValueError as error:
        # Python refuses whole numbers of more than 4300 digits before any rule can see them.
        raise StoryboardError(f"{what} holds a number with too many digits; write a shorter number") from error
    doubled: list[Path] = []
    waiting: list[tuple[Path, Any]] = [((), data)]
    for _ in range(_MOST_STEPS):
        if len(doubled) == len(twice) or not waiting:
            break
        path, value = waiting.pop()
        if isinstance(value, _Doubled):
            doubled += [(*path, name) for name in value.keys_twice]
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        few = islice(inner, _MOST_STEPS - len(waiting))
        waiting += [((*path, key), one) for key, one in few if isinstance(one, (dict, list))]
    return data, tuple(doubled) or tuple((name,) for name in twice)


def _reason(error: json.JSONDecodeError, first_line: int) -> tuple[str, int]:
    """Return what keeps a text from being JSON, and where, in one line; and the number of that line."""
    rest, before, at = error.doc[error.pos :], error.doc[: error.pos].rstrip(), error.lineno + first_line - 1
    here = f"(line {at}, column {error.colno})"
    comma = len(before) - 1 if before.endswith(",") else error.pos if rest.startswith(",") else -1
    if comma >= 0 and error.doc[comma + 1 :].lstrip()[:1] in ("]", "}"):
        line, column = error.doc.count("\n", 0, comma) + first_line, comma - error.doc.rfind("\n", 0, comma)
        return f"a comma stands before a closing bracket (line {line}, column {column}); remove it", line
    for pattern, remedy in _NOT_JSON:
        found = re.match(pattern, rest)
        if found:
            return f"{show(found[0])} {remedy} {here}", at
    if not rest.strip():
        return f"it ends too early {here}; close all brackets and quotation marks", at
    if error.msg.startswith("Unterminated string"):
        return f"a quotation mark that opens here is never closed {here}; close it", at
    if error.msg.startswith("Invalid control character") and rest[0] == "\n":
        said = f"a text goes on over the end of its line {here}; write \\n for a new line, or close the quotation mark"
        return said, at
    if error.msg == "Extra data":
        said = f"something stands behind its end {here}; put several shots into square brackets, with commas between"
        return said, at
    return f"{error.msg} {here}; correct the text there", at


def _places(text: str, wanted: set[Path]) -> dict[Path, int]:
    """Return where in a JSON text each wanted path begins: the key of a member, the first character of an element.

    All beginnings of a wanted path must be wanted, too. Whatever is not wanted is skipped as json skips it.
    """
    found: dict[Path, int] = {}
    decoder = json.JSONDecoder()
    waiting: list[tuple[int, Path]] = [(_past_space(text, 0), ())]
    steps = 0
    while waiting and len(found) < len(wanted):
        at, path = waiting.pop()
        opened = text[at]
        if opened not in "[{":
            continue
        at, number = _past_space(text, at + 1), 0
        while text[at] not in "]}" and len(found) < len(wanted) and steps < _MOST_STEPS:
            steps += 1
            begins, name = at, number
            if opened == "{":
                key, at = decoder.raw_decode(text, at)
                name, at = key, _past_space(text, _past_space(text, at) + 1)  # over the colon
            inner = (*path, name)
            if inner in wanted:
                found[inner] = begins
                waiting = [one for one in waiting if one[1] != inner]  # of a key that is written twice, the last one
                waiting.append((at, inner))
            at = _past_space(text, decoder.raw_decode(text, at)[1])
            at, number = _past_space(text, at + 1) if text[at] == "," else at, number + 1
    return found


def _past_space(text: str, at: int) -> int:
    matched = _SPACE.match(text, at)
    return matched.end() if matched else at
