"""Every message that the help pages and the READMEs quote in a table of errors is one that the code can say.

A message in the code is the literal text of a string, with values filled in. So the words of a quotation must stand in
one string of the code in the same order, and what stands between two of them there, a value, may be any words here.
What a quotation leaves out as `...`, and what stands in quotes in it, is not compared.
"""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "README.zh.md", *sorted((ROOT / "web" / "docs").glob("*.md"))]
CODE = ("engine", "hosts", "nodes", "training", "demo", "kernels")
HEADING = re.compile(r"^#+ .*(error|goes wrong|出错)", re.IGNORECASE)
VALUE = ""  # a place that a string leaves to a value
SHARE = 0.5  # of a quotation's words that stand in the string itself; the others are values or named by the caller
NAMES = re.compile(  # of nodes, files, inputs; in quotes, in brackets: what is filled in
    r"\bLongreel( [A-Z]\w*)+|\S*[./\[]\S*\w\S*|\([^)]*\)|(?<!\w)'[^']*'|\"[^\"]*\"|\b[A-Z]\w+( 2\.[12]( \w*B)?)?"
)
OF_OTHERS = {"Required input is missing: ttt", "No space left on device"}  # said by ComfyUI and by the system


def quotations(page: str) -> list[str]:
    """The messages that a page's tables of errors quote."""
    found: list[str] = []
    in_errors = False
    for line in page.splitlines():
        if line.startswith("#"):
            in_errors = bool(HEADING.match(line))
        elif in_errors and line.startswith("|"):
            found += re.findall(r"`([^`]+)`", line.strip("|").split("|")[0])
    return found


def clauses(quotation: str) -> list[list[str]]:
    """The words of each part of a quotation that stands between semicolons, colons, and dots that leave something
    out."""
    parts = re.split(r"[;:]|\.\.\.|…", quotation)
    words = [re.findall(r"[A-Za-z_]+", NAMES.sub(" ", part)) for part in parts]
    return [found for found in words if len(found) > 2]


@cache
def strings() -> list[list[str]]:
    """The words of every string in the code, with VALUE where something is filled in."""
    found: list[list[str]] = []
    for folder in CODE:
        for path in (ROOT / folder).rglob("*.py"):
            found += strings_of(path.read_text(encoding="utf-8"))
    return found


def strings_of(source: str) -> list[list[str]]:
    """The words of every string in a source file."""
    texts: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            texts.append("".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" not in node.value:
            texts.append(node.value)
    return [
        [VALUE if word == "{}" else word for word in re.findall(r"\{\}|[A-Za-z_]+", NAMES.sub(" {} ", text))]
        for text in texts
    ]


def share_said(words: list[str], string: list[str]) -> float:
    """The share of a clause's words that a string says itself, where it can say the clause with values filled in.

    The string may go on before and behind the clause, and so may the clause, whose ends another place may have added.
    """
    best = {
        0: 0,
        **dict.fromkeys(range(len(string)), 0),
    }  # place in the string -> words of it that the clause has so far
    top = 0
    for word in words:
        following = dict.fromkeys(range(len(string)), 0)
        for place, count in best.items():
            while place < len(string):
                if string[place] == word:
                    following[place + 1] = max(following.get(place + 1, 0), count + 1)
                    top = max(top, count + 1)
                if string[place] != VALUE:
                    break
                following[place] = max(following[place], count)
                place += 1
        best = following
    return top / len(words)


def is_said(words: list[str], among: list[list[str]]) -> bool:
    """Whether one of these strings says the clause."""
    there = set(words)
    return any(
        share_said(words, string) >= SHARE for string in among if len(there.intersection(string)) >= SHARE * len(there)
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_quotes_the_code_can_say(page: Path):
    quoted = [text for text in quotations(page.read_text(encoding="utf-8")) if text not in OF_OTHERS]
    lost = [text for text in quoted if not all(is_said(words, strings()) for words in clauses(text))]
    assert not lost, f"{page.name} quotes what no string of the code says: {lost}"


def test_the_pages_quote_messages():
    assert sum(len(quotations(page.read_text(encoding="utf-8"))) for page in PAGES) > 100


SOURCE = 'raise ValueError(f"{name} has {count} frames and the timeline {frames}; wire the {name} of the plan")'


@pytest.mark.parametrize(
    ("quotation", "said"),
    [
        ("the latent has 9 frames and the timeline 13", True),
        ("shot 1: the latent has 9 frames and the timeline 13; wire the latent of the plan", True),
        ("the latent holds 9 frames and a timeline 13", False),
        ("the latent has 9 frames and the timeline 13; use another plan here", False),
        ("its frames cannot be counted", False),
    ],
)
def test_a_quotation_that_is_out_of_date_is_found(quotation: str, said: bool):
    assert all(is_said(words, strings_of(SOURCE)) for words in clauses(quotation)) == said
