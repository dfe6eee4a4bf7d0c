"""Check settings that a person wrote down, before they become a dataclass: known keys, and values of the
wanted kind.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from .storyboard.keys import remedy


def check_settings(kind: type, given: Mapping[str, Any], where: str) -> None:
    """Check values given for fields of the dataclass `kind`, in the table `where`. Raises ValueError, naming the key,
    for one that `kind` does not have and a value of another type; a whole number is a float too.
    """
    kinds: dict[str, Any] = {one.name: one.type for one in fields(kind)}  # types: no annotation there is postponed
    for name, value in given.items():
        if name not in kinds:
            raise ValueError(f"{where}.{name} is not a known key; {remedy(name, tuple(kinds), where)}")
        wanted = (int, float) if kinds[name] is float else kinds[name]
        if not isinstance(value, wanted) or isinstance(value, bool) != (wanted is bool):
            raise ValueError(f"{where}.{name} is {value!r}, not a {kinds[name].__name__}; correct it")
