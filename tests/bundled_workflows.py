"""The workflows that the pack ships, for the tests that run over all of them: those of the demo model, and the ready
ones for real models (tests/ready_workflows)."""

from __future__ import annotations

import json
from pathlib import Path

WORKFLOWS = Path(__file__).resolve().parents[1] / "workflows"
_ALL = sorted(WORKFLOWS.glob("*.json"))
READY = [path for path in _ALL if "LongreelDemoModel" not in path.read_text(encoding="utf-8")]
PATHS = [path for path in _ALL if path not in READY]


def name_of(path: Path) -> str:
    """A test id."""
    return path.stem


def load(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))
