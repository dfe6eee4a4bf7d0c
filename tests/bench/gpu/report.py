"""Keep what has been measured in one JSON file that is whole at every moment.

Each change writes a temporary file beside it and renames that, so a killed machine leaves the last state. It does not
know what is measured; docs/measured/README.md says how the file reads.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

VERSION = 1
WAITING, RUNNING, OK, FAILED, TIMED_OUT, DIED, SKIPPED = (
    "waiting", "running", "ok", "failed", "timed out", "died", "skipped"
)  # fmt: skip


class Report:
    """The file: facts about the run, then its rows by name in the order in which they are measured."""

    def __init__(self, path: Path, names: Sequence[str], **facts: Any):
        self.path = path
        self.rows: dict[str, dict[str, Any]] = {name: {"state": WAITING} for name in names}
        self.facts = {"version": VERSION, **facts}
        path.parent.mkdir(parents=True, exist_ok=True)
        self.write()

    def fact(self, **facts: Any) -> None:
        """Add facts about the whole run, and write."""
        self.facts.update(facts)
        self.write()

    def row(self, name: str, **changes: Any) -> None:
        """Change or add one row, and write."""
        self.rows.setdefault(name, {}).update(changes)
        self.write()

    def figure(self, name: str, key: str, value: Any) -> None:
        """Add one figure to a row, and write."""
        self.rows[name].setdefault("figures", {})[key] = value
        self.write()

    def counts(self) -> dict[str, int]:
        """How many rows are in each state."""
        states = [row["state"] for row in self.rows.values()]
        return {state: states.count(state) for state in dict.fromkeys(states)}

    def write(self) -> None:
        """Replace the file as a whole."""
        text = json.dumps({**self.facts, "rows": self.rows}, indent=2, default=str) + "\n"
        temporary = self.path.with_name(self.path.name + ".part")
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path)
