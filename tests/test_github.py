"""The files in .github are what GitHub takes, and as careful as they should be.

The schemas of these files come with check-jsonschema. What they cannot say (whether an expression, a label or an input
exists) is actionlint's work, which .github/workflows/gates.yml runs: its packages download it from GitHub.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from longreel import dev

GITHUB = dev.ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
PINNED = re.compile(r"uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # \S")


def check(schema: str, *files: Path) -> subprocess.CompletedProcess:
    """Hold files to one of the schemas that check-jsonschema brings along."""
    command = [sys.executable, "-I", "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("github-workflows", WORKFLOWS),
        ("github-issue-forms", sorted(GITHUB.glob("ISSUE_TEMPLATE/[!c]*.yml"))),
        ("github-issue-config", [GITHUB / "ISSUE_TEMPLATE" / "config.yml"]),
        ("dependabot", [GITHUB / "dependabot.yml"]),
    ],
)
def test_files_are_what_github_takes(schema: str, files: list[Path]):
    assert files
    done = check(schema, *files)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wrong_workflow_is_found(tmp_path: Path):
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(WORKFLOWS[0].read_text("utf-8").replace("runs-on:", "runs_on:"), "utf-8")
    done = check("github-workflows", wrong)
    assert done.returncode == 1 and "runs_on" in done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_has_least_rights_pinned_actions_and_an_end(path: Path):
    text = path.read_text("utf-8")
    assert re.search(r"^permissions:\n  contents: read\n\n", text, re.MULTILINE)
    assert re.search(r"^concurrency:", text, re.MULTILINE)
    assert text.count("runs-on:") == text.count("timeout-minutes:")
    assert [line.strip() for line in text.splitlines() if "uses:" in line and not PINNED.search(line)] == []
    assert text.count("actions/checkout@") == text.count("persist-credentials: false")


def test_every_supported_system_and_python_is_tested():
    text = (GITHUB / "workflows" / "tests.yml").read_text("utf-8")
    assert "os: [ubuntu-latest, windows-latest, macos-latest]" in text
    oldest = ".".join(map(str, dev.OLDEST_PYTHON))
    assert f'python: ["{oldest}", "3.11", "3.12", "3.13"]' in text
    assert "run: python dev.py test --quick" in text and "run: python dev.py test\n" in text
