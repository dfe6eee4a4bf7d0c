"""Whoever follows a link, looks at a picture or goes to a file that a sentence names finds it there.

Two checkers. `broken_links` follows the links and pictures of a page, headings included. `broken_citations` takes the
prose of a file (a page, or comments and docstrings) and looks up all that reads like a place in this repository:
`engine/plan/facts.py`, `hosts/families/sites.Site`, `longreel.training.ttt`, `python dev.py bench blend`. Files that
belong to ComfyUI are named by their folder (`comfy/model_base.py`) or stand in FILES_OF_OTHERS.
"""

from __future__ import annotations

import ast
import fnmatch
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DATA = "tests/golden/data/"  # made elsewhere from the published code, and never edited; its pages name their own makers
NOT_OURS = {".venv", ".comfyui", ".git", "build", "__pycache__"}
FILES_OF_OTHERS = {  # a bare name in prose: whose it is
    "main.py": "ComfyUI",
    "nodes.py": "ComfyUI",
    "requirements.txt": "ComfyUI",
}
FOLDERS_OF_OTHERS = ("comfy", "comfy_api", "comfy_extras", "comfy_execution", "app", "vendor")
PACKAGES = ("engine", "hosts", "nodes", "cluster", "kernels", "training", "demo", "tests", "web", "workflows", "docs")
ELLIPSIS = re.compile(r"\.\.\.|[{}$|]")
PLACEHOLDER = re.compile(r"<\w+>|\*")
LINK = re.compile(r"!?\[(?:[^\[\]]|!\[[^\]]*\]\([^)]*\))*\]\(([^()\s]+)(?:\s+\"[^\"]*\")?\)")
PICTURE = re.compile(r"!\[[^\]]*\]\(([^()\s]+)\)|<(?:img|video|source)[^>]*\ssrc=\"([^\"]+)\"")
SUFFIX = r"(?:py|md|json|jsonl|toml|yml|yaml|js|webp|png|jpg|csv)"
PLACE = re.compile(
    r"(?<![\w./~:@-])(?:\./)?((?:\.?(?:[\w-]|<\w+>)+/)+(?:[\w.*{}$-]|<\w+>)*/?|[A-Za-z_][\w-]*\.(?:py|md)\b)"
)
MODULE = re.compile(r"(?<![\w./-])((?:longreel|tests)(?:\.[A-Za-z_]\w*)+)(?![\w/-])")
BENCH = re.compile(r"dev\.py bench ([a-z_]\w*)")


@cache
def tree() -> frozenset[str]:
    """Every file and folder of the repository, relative to its root; what git ignores is not in it."""
    try:
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
        files = [name for name in listed if name and (ROOT / name).is_file()]
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive
        found = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
        files = [path.as_posix() for path in found if not NOT_OURS & set(path.parts)]
    folders = {parent.as_posix() for name in files for parent in Path(name).parents}
    return frozenset(files) | folders


@cache
def modules() -> frozenset[str]:
    """The bare names of all Python files."""
    return frozenset(Path(name).name for name in tree() if name.endswith(".py"))


@cache
def text_of(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def pages() -> list[str]:
    return sorted(name for name in tree() if name.endswith(".md") and not name.startswith(DATA))


def sources() -> list[str]:
    found = (name for name in tree() if name.endswith((".py", ".toml", ".yml")) and not name.startswith(DATA))
    return sorted(name for name in found if name != "tests/test_docs.py")  # full of places that do not exist


# --- links -----------------------------------------------------------------------------------------------------------


def without_code(text: str) -> str:
    """A page without its fenced and indented blocks and its `code`, where brackets are no links."""
    text = re.sub(r"^(```|~~~).*?^\1", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^ {4}.*$", "", text, flags=re.MULTILINE))


def headings(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    found: set[str] = set()
    text = re.sub(r"^(```|~~~).*?^\1", "", text, flags=re.MULTILINE | re.DOTALL)
    for title in re.findall(r"^#{1,6} +(.+?) *#*$", text, flags=re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower()).replace(" ", "-")
        number = next(n for n in range(len(found) + 1) if (f"{slug}-{n}" if n else slug) not in found)
        found.add(f"{slug}-{number}" if number else slug)
    return found


def broken_links(text: str, page: str) -> list[str]:
    """One line for each link or picture of `page` (its place in the repository) that leads nowhere."""
    prose = without_code(text)
    targets = [*LINK.findall(prose), *(target for pair in PICTURE.findall(prose) for target in pair if target)]
    wrong = []
    for target in dict.fromkeys(targets):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        place, _, heading = target.partition("#")
        there = resolved(page, place) if place else page
        if there not in tree():
            wrong.append(f"{page}: {target} is not in the tree")
        elif page.startswith("web/") and not there.startswith("web/"):
            wrong.append(f"{page}: {target} is outside web/, the one folder that ComfyUI serves")
        elif heading and heading not in headings(text if there == page else text_of(there)):
            wrong.append(f"{page}: {target} names a heading that {there} does not have")
    return wrong


def resolved(page: str, target: str) -> str:
    """The place in the repository that a relative link of a page leads to.

    ComfyUI's editor shows a translated help page, web/docs/<node>/<language>.md, as if it lay beside the English one.
    """
    folder = Path("web/docs") if page.startswith("web/docs/") else Path(page).parent
    parts: list[str] = []
    for part in [*folder.parts, *target.split("/")]:
        if part == ".." and parts:
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts) or "."


# --- citations -------------------------------------------------------------------------------------------------------


def prose_of(source: str, name: str) -> Iterator[tuple[int, str]]:
    """(line, text) of all that a person reads in a file: comments and docstrings of code, everything of a page."""
    if name.endswith((".toml", ".yml")):
        yield from ((number, "#".join(line.split("#")[1:])) for number, line in enumerate(source.splitlines(), 1))
        return
    if not name.endswith(".py"):
        yield 1, source
        return
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            for statement in body:  # docstrings, also those below a field
                value = statement.value if isinstance(statement, ast.Expr) else None
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield value.lineno, value.value


def defines(path: str, name: str) -> bool:
    """Whether a Python file has that name: a function, a class, a constant, a field, an import."""
    written = (
        rf"^\s*(?:async\s+)?(?:def|class)\s+{name}\b",
        rf"^[\w, ]*\b{name}\b[\w, ]*[:=]",
        rf"^\s*(?:from|import)\b.*\b{name}\b",
    )
    return re.search("|".join(written), text_of(path), re.MULTILINE) is not None


def place_exists(place: str, near: str) -> bool:
    """Whether `place` is a file or folder, seen from the root or from the file `near`, or a name inside a module."""
    place = place.rstrip("/")
    for start in ("", *(f"{parent.as_posix()}/" for parent in Path(near).parents if parent != Path())):
        candidate = start + place
        if candidate in tree() or f"{candidate}.py" in tree():
            return True
        module, _, names = candidate.rpartition("/")
        stem, *inside = names.split(".")
        file = f"{module}/{stem}.py" if module else f"{stem}.py"
        if inside and file in tree() and inside != ["py"]:
            return all(defines(file, name) for name in inside)
    return False


def something_matches(place: str) -> bool:
    """Whether some file is where `hosts/families/<family>.py` or `web/docs/*.md` says that there are such files."""
    return bool(fnmatch.filter(tree(), PLACEHOLDER.sub("*", place.rstrip("/"))))


def broken_citations(text: str, near: str, first_line: int = 1) -> list[str]:
    """One line for each place named in `text`, prose of the file `near`, that is not in the repository."""
    wrong = []
    for match in PLACE.finditer(text):
        place = match[1].rstrip(".")
        first = place.split("/")[0]
        if first in FOLDERS_OF_OTHERS or place in FILES_OF_OTHERS or ELLIPSIS.search(place):
            continue
        if PLACEHOLDER.search(place):
            good = first not in PACKAGES or something_matches(place)
        elif "/" not in place:
            good = place in modules() if place.endswith(".py") else place_exists(place, near)
        elif first in PACKAGES or first == "spec" or re.search(rf"\.{SUFFIX}$", place):
            good = place_exists(place, near)
        else:
            continue
        if not good:
            wrong.append(f"{near}:{first_line + text[: match.start()].count(chr(10))}: {place} is not in the tree")
    for match in MODULE.finditer(text):
        if not module_exists(match[1]):
            wrong.append(f"{near}:{first_line + text[: match.start()].count(chr(10))}: there is no {match[1]}")
    for name in BENCH.findall(text):
        if f"tests/bench/{name}.py" not in tree():
            wrong.append(f"{near}: there is no bench {name}")
    return wrong


def module_exists(name: str) -> bool:
    """Whether `longreel.engine.x` or `tests.x` is a module, or a name in one."""
    parts = name.split(".")
    parts = parts[1:] if parts[0] == "longreel" else parts
    for end in range(len(parts), 0, -1):
        place = "/".join(parts[:end])
        if f"{place}.py" in tree():
            return all(defines(f"{place}.py", inside) for inside in parts[end:])
        if place in tree():
            package = f"{place}/__init__.py"
            return end == len(parts) or (package in tree() and defines(package, parts[end]))
    return False


# --- the repository --------------------------------------------------------------------------------------------------


def wrong_in(names: list[str]) -> list[str]:
    return [
        wrong
        for name in names
        for line, text in prose_of(text_of(name), name)
        for wrong in broken_citations(text, name, line)
    ]


@pytest.mark.parametrize("page", pages())
def test_every_link_and_picture_of_a_page_exists(page: str):
    assert broken_links(text_of(page), page) == []


@pytest.mark.parametrize("page", pages())
def test_every_place_that_a_page_names_exists(page: str):
    assert wrong_in([page]) == []


@pytest.mark.parametrize("folder", sorted({name.split("/")[0] for name in sources()}))
def test_every_place_that_comments_and_docstrings_name_exists(folder: str):
    assert wrong_in([name for name in sources() if name.split("/")[0] == folder]) == []


# --- the checkers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "See [the map](docs/nowhere.md).",
        "![a chart](web/docs/nowhere.png)",
        "| ![a](workflows/nowhere.jpg) | text |",
        '<img src="web/nowhere.png">',
        "See [training](training/README.md#no-such-heading).",
        "See [below](#nothing).",
        "[![a picture in a link](web/docs/nowhere.png)](LICENSE)",
    ],
)
def test_a_wrong_link_is_found(line: str):
    assert broken_links(f"# Title\n\n{line}\n", "README.md")


@pytest.mark.parametrize(
    "line",
    [
        "See [the licence](LICENSE), [its text](./LICENSE) and [the title](#the-title).",
        "![a chart](web/docs/ttt_color.png)",
        "[elsewhere](https://example.org/nowhere.md), `[code](nowhere.md)`",
        "    [an indented block](nowhere.md)",
        "```\n[a fence](nowhere.md)\n```",
    ],
)
def test_a_right_link_passes(line: str):
    assert broken_links(f"# The Title\n\n{line}\n", "README.md") == []


def test_a_help_page_may_not_lead_out_of_what_comfyui_serves():
    assert broken_links("[readme](../../README.md)", "web/docs/LongreelPlan.md")
    assert broken_links("![](kv_share.webp)", "web/docs/LongreelPlan.md") == []
    assert broken_links("![](web/docs/kv_share.webp)", "web/docs/LongreelPlan.md")


def test_pictures_of_a_translated_help_page_are_looked_for_where_the_editor_does():
    assert broken_links("![](kv_share.webp)", "web/docs/LongreelKVShare/zh.md") == []
    assert broken_links("![](../kv_share.webp)", "web/docs/LongreelKVShare/zh.md")


def test_headings_of_one_name_are_numbered():
    assert headings("# A `b`, c\n## Same\n## Same\n```\n# no heading\n```\n") == {"a-b-c", "same", "same-1"}


@pytest.mark.parametrize(
    "sentence",
    [
        "engine/timeline.py says how.",
        "(spec/ttt.md, section 3)",
        "From design.md, section 6.",
        "See hosts/families/sites.NoSuchName.",
        "as in hosts/nowhere.Site",
        "engine/nowhere",
        "web/docs/nowhere.webp",
        "plan/nowhere.py",
        "ttt_forward.py and others",
        "hosts/ttt_<family>.py says how",
        "web/nowhere/*.md",
        "`python -m longreel.training.nowhere`",
        "`tests.bench.nowhere`",
        "`python dev.py bench nowhere`",
    ],
)
def test_a_wrong_citation_is_found(sentence: str):
    assert broken_citations(sentence, "engine/ttt/layer.py")


@pytest.mark.parametrize(
    "sentence",
    [
        "engine/plan/timeline.py says how, and so does engine/ttt.",
        "See hosts/families/sites.Site, layer.py and ttt/order.py.",
        "`python -m longreel.training.ttt`, `longreel.engine`, `python dev.py bench ttt`",
        "comfy/model_base.py, ComfyUI's nodes.py, models/ttt, and/or, 1/2",
        "workflows/<name>.jpg, hosts/families/<family>.py, web/docs/*.md",
        "https://example.org/engine/nowhere.py",
    ],
)
def test_a_right_citation_passes(sentence: str):
    assert broken_citations(sentence, "engine/ttt/layer.py") == []


def test_prose_is_comments_and_docstrings_with_their_lines():
    source = '"""One."""\nvalue = "not prose"  # two\n\n\ndef f():\n    """Three."""\n'
    assert sorted(prose_of(source, "a.py")) == [(1, "One."), (2, "# two"), (6, "Three.")]
    assert list(prose_of("# Title\n", "a.md")) == [(1, "# Title\n")]
    assert list(prose_of("key = 1  # one\n", "a.toml")) == [(1, " one")]
