"""Read a file of keys into dataclasses: TOML, or JSON with the same keys.

tomllib reads TOML, which Python has from 3.11 on; on 3.10 a .json file does. A key that is not known is an error that
names the one that was meant, or all. What the keys mean is not known here.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, get_origin

from ..engine.storyboard.keys import remedy


def read_table(path: Path) -> Mapping[str, Any]:
    """Read a .toml file, or .json with the same keys. Raises ValueError where there is none that can be read."""
    if not path.is_file():
        raise ValueError("there is no such file; write one, see the command's --help")
    text = path.read_text(encoding="utf-8")
    if path.suffix.lower() == ".json":
        table = json.loads(text)
        return table_of(table, "the file")
    if sys.version_info < (3, 11):
        raise ValueError("Python 3.10 cannot read TOML and 3.11 can; write the same keys as a .json file")
    import tomllib

    return tomllib.loads(text)


def fill(kind: type, given: Any, where: str) -> Any:
    """Return a dataclass of `kind` from the table `given`, which stands at `where` in the file. Raises ValueError for a
    key that it does not have, one that is missing, and a value of another kind.
    """
    kinds = {one.name: value for one, value in kinds_of(kind)}
    check_keys(table_of(given, where), tuple(kinds), where)
    for one in fields(kind):
        if one.default is MISSING and one.name not in given:
            raise ValueError(f"{where}.{one.name} is missing; write {one.name} = ...")
    return kind(**{name: value_of(value, kinds[name], f"{where}.{name}") for name, value in given.items()})


def kinds_of(kind: type) -> list[tuple[Field[Any], Any]]:
    """Return each field of a dataclass with the kind of value that it takes."""
    return [(one, get_origin(one.type) or one.type) for one in fields(kind)]


def check_keys(given: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    """Raise ValueError for a key that is not known, naming the one that was meant, or all."""
    for name in given:
        if name not in known:
            place = f"{where}.{name}" if where else name
            raise ValueError(f"{place} is no known key; {remedy(name, known, where or 'the file')}")


def table_of(value: Any, where: str) -> Mapping[str, Any]:
    """Return the table. Raises ValueError where it is none."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} is {value!r}, not a table; write [{where}]")
    return value


def value_of(value: Any, kind: type, where: str) -> Any:
    """Return a value as `kind`: int, float, str, bool, or tuple for two numbers. Raises ValueError for another."""
    if kind is float and type(value) is int:
        return float(value)
    if kind is tuple and isinstance(value, list) and [type(one) in (int, float) for one in value] == [True, True]:
        return tuple(float(one) for one in value)
    if type(value) is not kind:
        wanted = {int: "a whole number", float: "a number", str: "text", bool: "true or false", tuple: "two numbers"}
        raise ValueError(f"{where} is {value!r}, not {wanted[kind]}; correct it")
    return value
