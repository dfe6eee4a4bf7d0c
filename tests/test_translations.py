"""The pack speaks Chinese wherever it speaks English: in the editor (locales/zh) and on every help page.

ComfyUI serves locales/<language>/{nodeDefs,main}.json at /api/i18n (app/custom_node_manager.py), and its editor looks a
string up by `nodeDefs.<node>.inputs.<input>.name` and the like; an input inside a choice has the key of its last name
(`mask.words` is asked for as `mask_words`). A help page in another language is web/docs/<node>/<language>.md.
Messages of the code are English, so a translated page quotes them as they are.
"""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from longreel import dev
from tests.comfy_process import ComfyProcess

LANGUAGE = "zh"
LOCALE = dev.ROOT / "locales" / LANGUAGE
DOCS = dev.ROOT / "web" / "docs"
PAGES = sorted(DOCS.glob("*.md"))
OF_CORE = {"sampling", "training"}  # categories that ComfyUI has and translates
HAN = re.compile(r"[\u4e00-\u9fff]")
CODE = re.compile(r"`([^`]+)`")
EMPHASIS = re.compile(r"(\*{1,2})(?=\S)([^*\n]+)\1")
PICTURE = re.compile(r"!\[[^\]]*\]\(([^)]+)\)")


def read(name: str) -> dict:
    return json.loads((LOCALE / name).read_text(encoding="utf-8"))


# --- the editor ------------------------------------------------------------------------------------------------------


def inputs_of(inputs: dict, prefix: str = "") -> Iterator[tuple[str, bool]]:
    """(key, whether it has a tooltip) of every input that the editor shows, those inside choices too."""
    for section in ("required", "optional"):
        for name, (kind, *rest) in inputs.get(section, {}).items():
            options = rest[0] if rest else {}
            yield f"{prefix}{name}", bool(options.get("tooltip"))
            if kind == "COMFY_DYNAMICCOMBO_V3":
                for option in options["options"]:
                    yield from inputs_of(option["inputs"], f"{prefix}{name}_")


def expected(definition: dict) -> set[str]:
    """The keys below `nodeDefs.<node>` for which the editor shows a string of this node."""
    keys = {"display_name", "description"}
    for name, has_tooltip in inputs_of(definition["input"]):
        keys |= {f"inputs.{name}.name", *([f"inputs.{name}.tooltip"] if has_tooltip else [])}
    outputs = zip(definition["output"], definition["output_name"], definition["output_tooltips"], strict=True)
    for index, (kind, name, tooltip) in enumerate(outputs):
        if name != kind:  # an output named by its type is translated as `dataTypes.<type>`, which is core's
            keys.add(f"outputs.{index}.name")
        if tooltip:
            keys.add(f"outputs.{index}.tooltip")
    return keys


def leaves(tree: dict, prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def test_every_string_of_every_node_is_translated_and_nothing_that_is_gone(comfy: ComfyProcess):
    nodes = {name: node for name, node in comfy.object_info().items() if name.startswith("Longreel")}
    translated = read("nodeDefs.json")
    assert set(translated) == set(nodes)
    for name, node in nodes.items():
        assert {key for key, _ in leaves(translated[name])} == expected(node), name


def test_every_category_is_translated(comfy: ComfyProcess):
    nodes = [node for name, node in comfy.object_info().items() if name.startswith("Longreel")]
    words = {word for node in nodes for word in node["category"].split("/")}
    assert set(read("main.json")["nodeCategories"]) == words - OF_CORE


def test_sentences_are_chinese_and_names_are_told_apart():
    translated = read("nodeDefs.json")
    for key, text in leaves(translated):
        if key.endswith((".tooltip", ".description", ".display_name")) and not key.endswith("TTT.display_name"):
            assert HAN.search(text), key
        assert text and text == text.strip(), key
    names = [node["display_name"] for node in translated.values()]
    assert len(set(names)) == len(names) and all(name.startswith("Longreel ") for name in names)


def test_comfyui_serves_the_translations(comfy: ComfyProcess):
    with urllib.request.urlopen(f"{comfy.url}/api/i18n") as answer:
        served = json.load(answer)[LANGUAGE]
    assert served["nodeDefs"]["LongreelPlan"] == read("nodeDefs.json")["LongreelPlan"]
    assert served["nodeCategories"].items() >= read("main.json")["nodeCategories"].items()


STRING = r'"((?:[^"\\\n]|\\.)*)"'


def test_every_sentence_of_the_page_is_translated_and_nothing_that_is_gone():
    """Those that are looked up by a variable are seen in the browser (tests/browser/test_storyboard_editor.py)."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in (dev.ROOT / "web" / "js").rglob("*.js"))
    source = re.sub(r"/\*\*.*?\*/", "", source, flags=re.DOTALL)
    asked = set(re.findall(rf"\bt\(\s*{STRING}", source))
    asked |= {word for pair in re.findall(rf"\bcount\([^\n]*?{STRING}, {STRING}\)", source) for word in pair}
    translated = read("main.json")["longreel"]
    assert len(asked) > 60 and asked <= set(translated), asked - set(translated)
    for english, text in translated.items():
        assert f'"{english}"' in source or english == "start", english  # that comes with a plan's rows
        assert sorted(re.findall(r"\{\w+\}", english)) == sorted(re.findall(r"\{\w+\}", text)), english
        assert HAN.search(text) or english == text, english


# --- the help pages --------------------------------------------------------------------------------------------------


def translated_page(page: Path) -> Path:
    return DOCS / page.stem / f"{LANGUAGE}.md"


def shape(text: str) -> list[str]:
    """What each line that is not empty begins with: a heading's marks, a table, a picture, a list, code, or a text."""
    begins = re.compile(r"(#{1,6}) |(\|)|(!\[)|(- )|(\d+\. )|( {4})")
    found = ((begins.match(line), line) for line in text.splitlines() if line.strip())
    return [match[0] if match else "text" for match, _ in found]


def first_cells(text: str) -> list[list[str]]:
    """What stands in `code` in the first cell of each row of the tables: inputs, choices, quoted messages."""
    return [CODE.findall(row[0]) for row in rows(text)]


def rows(text: str) -> list[list[str]]:
    lines = (line.replace(r"\|", "") for line in text.splitlines() if line.startswith("|"))
    return [line.strip().removeprefix("|").removesuffix("|").split("|") for line in lines]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_help_page_has_a_whole_translation(page: Path):
    assert translated_page(page).is_file(), f"{page.name} has no {translated_page(page).relative_to(dev.ROOT)}"
    english, chinese = page.read_text(encoding="utf-8"), translated_page(page).read_text(encoding="utf-8")
    assert shape(chinese) == shape(english)
    assert first_cells(chinese) == first_cells(english)
    assert [len(row) for row in rows(chinese)] == [len(row) for row in rows(english)]
    assert PICTURE.findall(chinese) == PICTURE.findall(english)
    for line in chinese.splitlines():
        assert not re.match(r"(?:[a-z,.()-]+ ){5}", CODE.sub("", line)), f"left in English: {line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_emphasis_of_a_translation_ends(page: Path):
    """Markdown does not end emphasis behind punctuation where a letter follows at once: it asks for a blank between."""
    text = CODE.sub("code", translated_page(page).read_text(encoding="utf-8"))
    unseen = [m[0] for m in EMPHASIS.finditer(text) if m[2][-1] in "）。，：；？！”" and HAN.match(text[m.end() :])]
    assert not unseen


def test_no_translation_of_a_page_that_is_gone():
    assert {folder.parent.name for folder in DOCS.glob("*/*.md")} == {page.stem for page in PAGES}


def test_a_translation_says_the_name_that_the_menu_shows():
    names = {node: strings["display_name"] for node, strings in read("nodeDefs.json").items()}
    for page in PAGES:
        title = translated_page(page).read_text(encoding="utf-8").splitlines()[0]
        assert title.startswith(f"# {names[page.stem]}"), page.stem


def labels(node: str) -> dict[str, str]:
    """The label that the editor shows for each input of a node, by the input's id as the help pages write it."""
    names = {key: strings["name"] for key, strings in read("nodeDefs.json")[node].get("inputs", {}).items()}
    inside = {key.removeprefix(f"{choice}_"): name for key, name in names.items() for choice in names}
    return inside | names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_row_of_an_input_says_its_label(page: Path):
    known = labels(page.stem)
    for row in rows(translated_page(page).read_text(encoding="utf-8")):
        for name in CODE.findall(row[0]) if re.fullmatch(r"\s*`\w+`(?:, `\w+`)*(?:（.*)?\s*", row[0]) else []:
            label = known.get(name, name)
            assert label in row[0] or label.lower() == name, (row[0], label)
