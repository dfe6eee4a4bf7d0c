"""What the pack's messages may not say: numbers forced into them, and places that count shots as programs do."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("engine", "kernels", "hosts", "nodes", "cluster", "training", "demo")
FORBIDDEN = {
    r"\b0 of [\d{]": "say none of the ...",
    r"\band 1 (\w+ )?is needed": "say what is missing, or what it should be",
    r"\bneeds [01]\b(?! s)": "say what it needs",
    r"\b(has|have|holds|names) 0\b": "say that there is none",
    r"\bis 0 times among\b": "say that it is not among them",
    r"\bfits? 0\b": "say that it fits none",
    r"\bhas 1 way\b": "say which way it is",
    r"^0 [a-z]": "say no ...",
    r"\b(shots|videos|anchors)\[": "say shot 2, counted from 1",
}
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def messages(source: str) -> Iterator[tuple[int, str]]:
    """(line, text) of every message that is raised, with {} in place of what is filled in."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            for argument in node.exc.args:
                yield from ((node.lineno, text) for text in _texts(argument))


def _texts(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.JoinedStr):
        yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, (ast.BinOp, ast.IfExp, ast.BoolOp)):
        for inner in ast.iter_child_nodes(node):
            yield from _texts(inner)


def forced(source: str) -> list[str]:
    """One line for each message that holds a forbidden pattern."""
    return [
        f"line {line}: {text!r}: {remedy}"
        for line, text in messages(source)
        for pattern, remedy in FORBIDDEN.items()
        if re.search(pattern, text)
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_message_is_forced(path: Path):
    assert forced(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        "0 of {count} tensors fit",
        "rate is {value!r}, and 1 float is needed",
        "the loader has 0 ways to load it",
        "{word} is 0 times among the words",
        "0 text encoders came",
        "shots[{index}].seconds is too short",
    ],
)
def test_a_forced_message_is_found(text: str):
    assert forced(f"raise ValueError(f{text!r})")


@pytest.mark.parametrize("text", ["rank is 0, not 1 to 64", "{done} of {count} chunks are not made", "use 0 to 4"])
def test_a_plain_message_passes(text: str):
    assert forced(f"raise ValueError(f{text!r})") == []
