"""The workflows that the pack ships, for the tests that run over all of them."""

from __future__ import annotations

import json
from pathlib import Path

WORKFLOWS = Path(__file__).resolve().parents[1] / "workflows"
PATHS = sorted(WORKFLOWS.glob("*.json"))


def name_of(path: Path) -> str:
    """A test id."""
    return path.stem


def load(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))
