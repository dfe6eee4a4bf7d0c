"""web/js without a browser: the board's model in Node.js, and the JSDoc types of every module by TypeScript.

The Node.js is the one that playwright brings.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from playwright._impl._driver import compute_driver_executable

from longreel import dev

JS = dev.ROOT / "web" / "js"
MODULES = sorted(JS.rglob("*.js"))


def node(*words: str | Path) -> subprocess.CompletedProcess[str]:
    executable, _ = compute_driver_executable()
    return subprocess.run(
        [str(executable), *map(str, words)], capture_output=True, text=True, timeout=120, cwd=dev.ROOT
    )


def test_the_model_of_the_board():
    done = node("--test", "--test-reporter=tap", "tests/web/board.test.mjs")
    assert done.returncode == 0, done.stdout[-5000:]
    assert re.search(r"^# pass (\d+)$", done.stdout, re.MULTILINE)[1] != "0"


@pytest.mark.slow
def test_the_types_of_every_module():
    done = node(dev.web_tools() / "typescript" / "bin" / "tsc", "-p", "tests/web/tsconfig.json")
    assert done.returncode == 0, done.stdout[-5000:]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(JS)))
def test_a_module_says_what_it_is_and_asks_for_nothing_from_elsewhere(path: Path):
    source = path.read_text(encoding="utf-8")
    assert source.startswith("/**"), "it opens with a comment that says what it is"
    assert len(source.splitlines()) < 400
    for wanted in re.findall(r'\bfrom "([^"]+)"', source) + re.findall(r'\bimport\("([^"]+)"\)', source):
        beside = (path.parent / wanted).resolve()
        assert beside in MODULES or wanted in ("../../../scripts/app.js", "../../../scripts/api.js"), wanted
    assert not re.search(r"\beval\(|new Function|innerHTML|https?://(?!www\.w3\.org/2000/svg)", source)
