"""One rule stands here for each kind of storyboard field: what it accepts, and the one-line error when it does not.

See docs/design.md, The storyboard. `rule.read(value, field)` returns the value in its plain type (3 seconds become
3.0, a width of 64.0 becomes 64) or raises StoryboardError with the field, the value found and the remedy.

It does not know which fields exist (engine/storyboard/board.py) nor what lies on the disk (engine/storyboard/media.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from .faults import StoryboardError

MAX_PATH_CHARACTERS = 512
# The same expression stands in web/storyboard.schema.json. A name may not end in a dot or a space, which shuts out
# "." and ".." and the spellings that Windows strips down to them.
_NAME = r"[^/\\:\u0000-\u001f]*[^/\\:\u0000-\u001f. ]"
_CONTROL = re.compile(r"[\u0000-\u001f\u007f-\u009f\u2028\u2029]")  # as in web/storyboard.schema.json
# NUL ends strings in C libraries; half a surrogate pair cannot be written as UTF-8.
_NO_CHARACTER = re.compile("[\0\ud800-\udfff]")
MEDIA_PATTERN = re.compile(rf"^(?:{_NAME}/)*{_NAME}(?![\s\S])")


def show(value: Any, bare: bool = False) -> str:
    """Return a value for an error message: one line, at most 60 characters; `bare` leaves plain text without quotes."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 200:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, (list, dict)):
        return f"a list of {len(value)}" if isinstance(value, list) else f"an object of {len(value)} keys"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if not isinstance(value, str):
        return repr(value)
    written = repr(value if len(value) <= 60 else value[:57] + "...")
    return written[1:-1] if bare else written


def within(place: str, field: str) -> str:
    """Return a field as messages name it: "shot 2: seconds", or "seconds" where `place` is empty, the
    storyboard's own.
    """
    return f"{place}: {field}" if place else field


@dataclass(frozen=True)
class Text:
    """Accept a string up to `longest` characters; `filled` is the remedy when it may not be blank."""

    longest: int
    filled: str = ""
    optional: bool = False

    def read(self, value: Any, field: str) -> str | None:
        if value is None and self.optional:
            return None
        if not isinstance(value, str):
            raise StoryboardError(f"{field} is {show(value)}, not text; write it in quotation marks")
        if len(value) > self.longest:
            raise StoryboardError(f"{field} has {len(value)} characters; the limit is {self.longest}: shorten it")
        if self.filled and not value.strip():
            raise StoryboardError(f"{field} is empty; {self.filled}")
        _check_characters(value, field)
        return value


@dataclass(frozen=True)
class Number:
    """Accept a finite number from `low` to `high`, both included; `above` leaves `low` itself out; `whole` reads an
    int.
    """

    low: float
    high: float
    remedy: str
    above: bool = False
    whole: bool = False
    optional: bool = False

    def read(self, value: Any, field: str) -> float | int | None:
        if value is None and self.optional:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise StoryboardError(f"{field} is {show(value)}, not a number; {self.remedy}")
        # Written so that nan, which compares false with everything, is refused as well.
        inside = self.low <= value <= self.high and not (self.above and value <= self.low)
        if not inside or (self.whole and value != int(value)):
            raise StoryboardError(f"{field} is {show(value)}; {self.remedy}")
        return int(value) if self.whole else float(value)


@dataclass(frozen=True)
class Choice:
    """Accept one of a few words, whatever the case of its letters."""

    options: tuple[str, ...]

    def read(self, value: Any, field: str) -> str:
        word = value.strip().lower() if isinstance(value, str) else ""
        if word not in self.options:
            names = ", ".join(f'"{option}"' for option in self.options[:-1]) + f' or "{self.options[-1]}"'
            raise StoryboardError(f"{field} is {show(value)}; write {names}")
        return word


@dataclass(frozen=True)
class Flag:
    """Accept true or false."""

    def read(self, value: Any, field: str) -> bool:
        if not isinstance(value, bool):
            raise StoryboardError(f"{field} is {show(value)}; write true or false")
        return value


@dataclass(frozen=True)
class Media:
    """Accept a path below a folder of ComfyUI's, written with forward slashes. folder: its name. example: a path in
    it.
    """

    folder: str = "input"
    example: str = "shots/ship.png"

    def read(self, value: Any, field: str) -> str:
        if not isinstance(value, str):
            raise StoryboardError(
                f'{field} is {show(value)}, not text; write a file name such as "{PurePosixPath(self.example).name}"'
            )
        if len(value) > MAX_PATH_CHARACTERS:
            limit = f"the limit is {MAX_PATH_CHARACTERS}"
            raise StoryboardError(f"{field} has {len(value)} characters; {limit}: shorten it")
        if not MEDIA_PATTERN.match(value):
            raise StoryboardError(f"{field} is {show(value)}, {self._fault(value)}")
        _check_characters(value, field)
        return value

    def _fault(self, path: str) -> str:
        inside = f'write a path below ComfyUI\'s {self.folder} folder, such as "{self.example}"'
        if not path:
            return f"which is empty; {inside}"
        if "\\" in path:
            return f"which has a backslash; use forward slashes and {inside}"
        if path.startswith("/") or ":" in path:
            return f"which is not relative; {inside}"
        if ".." in path.split("/"):
            return f"which leaves the {self.folder} folder; {inside}"
        return f"which has a name that is empty, ends in a dot or space, or has a control character; {inside}"


@dataclass(frozen=True)
class Name:
    """Accept a short name on one line, or a whole number as one; blanks around it are left out."""

    longest: int

    def read(self, value: Any, field: str) -> str | None:
        if value is None:
            return None
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**64:
            value = str(int(value)) if value == int(value) else value
        if not isinstance(value, str):
            raise StoryboardError(f"{field} is {show(value)}, not text; write it in quotation marks")
        if len(value) > self.longest:
            raise StoryboardError(f"{field} has {len(value)} characters; the limit is {self.longest}: shorten it")
        if not value.strip():
            raise StoryboardError(f"{field} is empty; write a short name, or leave it out")
        if _CONTROL.search(value):
            raise StoryboardError(f"{field} is {show(value)}, which has a control character; write a plain short name")
        _check_characters(value, field)
        return value.strip()


Rule = Text | Number | Choice | Flag | Media | Name


def has_no_character(text: str) -> bool:
    """Tell whether a text holds what is no character."""
    return bool(_NO_CHARACTER.search(text))


def _check_characters(value: str, field: str) -> None:
    found = _NO_CHARACTER.search(value)
    if found:
        raise StoryboardError(f"{field} holds U+{ord(found[0]):04X}, which is not a character; remove it")
