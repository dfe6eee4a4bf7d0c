"""Keep the record of a run folder: which file each chunk used last, by the shot and the piece of the shot.

chunks.json: {"longreel_run": 1, "shots": [prompt, ...], "chunks": [{"shot": 0, "piece": 0, "file": ...}, ...]}. Shots
are recognised by their prompts, so that a locked shot keeps its files when others are put in or taken out before it.
Whether the files are there and whole is not known here.
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .chunk_file import NAME

VERSION = 1


@dataclass(frozen=True)
class RunRecord:
    """A record has the prompts of the `shots`, and in `files` the file name by (shot, piece), both from 0."""

    shots: tuple[str, ...] = ()
    files: Mapping[tuple[int, int], str] = field(default_factory=dict)

    def with_file(self, shot: int, piece: int, name: str) -> "RunRecord":
        return RunRecord(self.shots, {**self.files, (shot, piece): name})

    def for_shots(self, prompts: Sequence[str]) -> "RunRecord":
        """Return the same files under the numbers that their shots have in `prompts`; files of shots that are gone drop
        out.
        """
        moved = match_shots(self.shots, prompts)
        return RunRecord(
            tuple(prompts), {(moved[shot], piece): name for (shot, piece), name in self.files.items() if shot in moved}
        )

    def to_json(self) -> str:
        chunks = [{"shot": shot, "piece": piece, "file": name} for (shot, piece), name in sorted(self.files.items())]
        return json.dumps(
            {"longreel_run": VERSION, "shots": list(self.shots), "chunks": chunks}, ensure_ascii=False, indent=1
        )


def read_record(text: str) -> RunRecord:
    """Read a record. Raises ValueError where `text` is no record, naming what is wrong."""
    try:
        record = json.loads(text)
        if record["longreel_run"] != VERSION:
            raise ValueError(f"it is of version {record['longreel_run']!r}, and this Longreel reads {VERSION}")
        files = {(chunk["shot"], chunk["piece"]): chunk["file"] for chunk in record["chunks"]}
        shots = tuple(record["shots"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{len(text)} characters are no record of a run ({type(error).__name__}: {error})") from error
    if not all(type(number) is int for place in files for number in place):
        raise ValueError("shots and pieces are not all whole numbers")
    if not all(type(value) is str for value in (*shots, *files.values())):
        raise ValueError("prompts and file names are not all text")
    for name in files.values():
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a chunk's file")
    return RunRecord(shots, files)


def match_shots(before: Sequence[str], now: Sequence[str]) -> dict[int, int]:
    """Return the number now of each shot before that is still there, both from 0.

    A shot with the same prompt in the same order is the same shot; so is one that stands alone, or in a row of as many,
    between shots that stayed: there the prompt was edited.
    """
    moved: dict[int, int] = {}
    for kind, low, high, to_low, to_high in difflib.SequenceMatcher(None, before, now, autojunk=False).get_opcodes():
        if kind in ("equal", "replace") and high - low == to_high - to_low:
            moved.update(zip(range(low, high), range(to_low, to_high), strict=True))
    return moved
