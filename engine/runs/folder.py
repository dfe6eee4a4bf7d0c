"""Keep a run that survives: the folder in which each finished chunk is kept, found again, and reported.

See docs/design.md, Runs that survive. `longreel/<run name>/` holds storyboard.json and plan.json, one safetensors file
for each finished chunk (engine/runs/chunk_file.py), chunks.json (engine/runs/record.py) and the lock. A chunk is used
again where the hash of all that it depends on is the same; the hash of the chunk that it continues from is among that,
so a change reaches what depends on it and nothing else. A locked chunk keeps its file whatever changed. Nothing is
removed before a run is complete. What chunks depend on, and how they are made, is not known here.

    with open_run(output / "longreel" / check_run_name(name)) as run:
        run.begin(storyboard_json, plan_json, prompts)
        run.require_space(chunks=10, tensor_bytes=latent_bytes)
        for ...:
            key = chunk_key(number, shot, piece, {"the prompt": ..., "the chunk before": before.hash, ...})
            saved = run.find(key, locked, shapes) or run.save(key, {"samples": sample()})
        run.finish(remove_old=False)
        print(run.report())
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from .chunk_file import HEADER_BYTES, NAME, ChunkKey, DamagedChunk, SavedChunk, read_chunk, write_chunk
from .lock import RunLock
from .record import RunRecord, read_record
from .whole_file import WriteError, free_bytes, remove_unfinished, write_whole

STORYBOARD, PLAN, RECORD, LOCK = "storyboard.json", "plan.json", "chunks.json", "run.lock"
REUSED, LOCKED, MADE, MADE_AGAIN = "reused", "locked", "made", "made again"
TO_MAKE, TO_MAKE_AGAIN = "not made", "not made again"
ONCE_MADE = {TO_MAKE: MADE, TO_MAKE_AGAIN: MADE_AGAIN}


@dataclass(frozen=True)
class Outcome:
    """This is what became of a chunk, one of the states above, and why ("the prompt changed"; may be empty)."""

    key: ChunkKey
    state: str
    reason: str = ""

    def line(self) -> str:
        said = f"{self.state}: {self.reason}" if self.reason else self.state
        return f"chunk {self.key.number + 1} (shot {self.key.shot + 1}): {said}"


@contextmanager
def open_run(path: Path | str) -> Iterator["RunFolder"]:
    """Open or make the folder of a run, for one process at a time; what a killed one left half written is removed.

    Raises RunInUse where another process has it, WriteError where it cannot be written.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = RunLock(path / LOCK)
    except OSError as error:
        raise WriteError(
            f"the run folder {path} cannot be opened for writing ({error.strerror}: "
            f"{error.filename or path}), with {free_bytes(path):,} bytes free there; make it writable, or use "
            f"another output folder"
        ) from error
    try:
        yield RunFolder(path)
    finally:
        lock.release()


class RunFolder:
    """This is a run that `open_run` opened. `outcomes` by chunk number, `notes` of what was found on opening."""

    def __init__(self, path: Path):
        self.path = path
        self.outcomes: dict[int, Outcome] = {}
        self.notes = [f"{name} was half written by a run that was killed" for name in remove_unfinished(path)]
        self._record = self._read_record()

    def begin(self, storyboard: str, plan: str, prompts: Sequence[str]) -> None:
        """Write storyboard.json and plan.json, as JSON text, and find the shots of the last run again by their prompts.
        A folder that cannot be written shows here, before anything is sampled."""
        write_whole(self.path / STORYBOARD, storyboard.encode())
        write_whole(self.path / PLAN, plan.encode())
        self._keep_record(self._record.for_shots(prompts))

    def require_space(self, chunks: int, tensor_bytes: int) -> None:
        """Raise WriteError unless `chunks` more chunks of `tensor_bytes` each have room."""
        needed, free = chunks * (tensor_bytes + HEADER_BYTES), free_bytes(self.path)
        if needed > free:
            raise WriteError(
                f"{chunks} chunks need {needed:,} bytes, and {free:,} are free in {self.path}; free space, "
                f"use another output folder, or plan fewer chunks"
            )

    def find(
        self, key: ChunkKey, locked: bool = False, shapes: Mapping[str, Sequence[int]] | None = None
    ) -> SavedChunk | None:
        """Return the finished chunk, or None if it must be made; why is kept for the report.

        locked: keep the last file of this shot and piece, whatever it depends on. shapes: of the tensors that are
        wanted, by name; a locked file with others raises ValueError, because neither it nor the plan fits.
        A file that is damaged is reported, not used, and stays until its replacement is complete.
        """
        damages: list[str] = []
        last = self._read_last(key, damages)
        found = last if locked and last is not None else self._read_same(key, damages)
        if found is None:
            self.outcomes[key.number] = self._to_make(key, last, damages)
            return None
        if found is last and locked:
            _check_shapes(found, shapes or {})
        self.outcomes[key.number] = Outcome(key, LOCKED if locked else REUSED)
        self._use(key, found.path.name)
        return found

    def save(self, key: ChunkKey, tensors: Mapping[str, torch.Tensor]) -> SavedChunk:
        """Write a chunk that was looked for and not found. On return it is on the disk.

        Raises WriteError where it cannot be written; all that was finished is kept.
        """
        outcome = self.outcomes.get(key.number)
        if outcome is None or outcome.state not in ONCE_MADE:
            raise ValueError(f"chunk {key.number} is saved without having been looked for and missed; call find first")
        if (name := _not_finite(tensors)) is not None:
            raise ValueError(
                f"chunk {key.number + 1} of shot {key.shot + 1} has {name} with NaN or infinite numbers, and all that "
                f"continues from it would have them; it is not kept"
            )
        saved = write_chunk(self.path, key, tensors)
        self._use(key, saved.path.name)
        self.outcomes[key.number] = replace(outcome, state=ONCE_MADE[outcome.state])
        return saved

    def old_files(self) -> list[str]:
        """Return the names of chunk files that no chunk used last."""
        used = set(self._record.files.values())
        return sorted(path.name for path in self.path.iterdir() if NAME.fullmatch(path.name) and path.name not in used)

    def finish(self, remove_old: bool = False) -> list[str]:
        """Close a complete run: chunks that are not part of it leave the record. Returns the names of files that are
        not used any more, which are removed if asked for. Raises ValueError while a chunk is not made.
        """
        missing = [number for number, outcome in self.outcomes.items() if outcome.state in ONCE_MADE]
        if missing:
            raise ValueError(
                f"{len(missing)} of {len(self.outcomes)} chunks are not made, first {min(missing)}; make them "
                f"before the run is finished"
            )
        places = {(outcome.key.shot, outcome.key.piece) for outcome in self.outcomes.values()}
        self._keep_record(
            replace(self._record, files={place: name for place, name in self._record.files.items() if place in places})
        )
        old = self.old_files()
        if remove_old:
            for name in old:
                (self.path / name).unlink()
        return old

    def report(self) -> str:
        """Report to people: one line for each note and each chunk."""
        return "\n".join([*self.notes, *(outcome.line() for _, outcome in sorted(self.outcomes.items()))])

    def _read_last(self, key: ChunkKey, damages: list[str]) -> SavedChunk | None:
        """Return the chunk that this shot and piece used last."""
        name = self._record.files.get((key.shot, key.piece))
        if name is None:
            return None
        if not (self.path / name).exists():
            damages.append(f"{name} is gone")
            return None
        return _read(self.path / name, damages)

    def _read_same(self, key: ChunkKey, damages: list[str]) -> SavedChunk | None:
        """Return a chunk with the same hash, under its own number or, where it moved, under another."""
        own = self.path / key.file_name
        others = sorted(self.path.glob(f"chunk_*_{key.hash[:12]}.safetensors"))
        for path in (own, *(path for path in others if path != own)):
            found = _read(path, damages) if path.exists() else None
            if found is not None and found.hash == key.hash:
                return found
        return None

    def _to_make(self, key: ChunkKey, last: SavedChunk | None, damages: list[str]) -> Outcome:
        if last is not None:
            damages = [_changes(last.key.dependencies, key.dependencies), *damages]
        return Outcome(key, TO_MAKE_AGAIN, damages[0]) if damages else Outcome(key, TO_MAKE, "new")

    def _use(self, key: ChunkKey, name: str) -> None:
        if self._record.files.get((key.shot, key.piece)) != name:
            self._keep_record(self._record.with_file(key.shot, key.piece, name))

    def _read_record(self) -> RunRecord:
        path = self.path / RECORD
        if not path.exists():
            return RunRecord()
        try:
            return read_record(path.read_text(encoding="utf-8"))
        except ValueError as error:
            self.notes.append(f"{RECORD} is damaged ({error}): chunks are found by their hashes alone, locked ones too")
            return RunRecord()

    def _keep_record(self, record: RunRecord) -> None:
        write_whole(self.path / RECORD, record.to_json().encode())
        self._record = record


def _read(path: Path, damages: list[str]) -> SavedChunk | None:
    try:
        found = read_chunk(path)
    except DamagedChunk as error:
        damages.append(str(error))
        return None
    if (name := _not_finite(found.tensors)) is not None:  # kept by a Longreel that did not look
        damages.append(f"{path.name} holds {name} with NaN or infinite numbers")
        return None
    return found


def _not_finite(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """Return the name of the first tensor that holds a number that is none."""
    return next((name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()), None)


def _changes(stored: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """Say what is different, as in "the prompt changed, the seed is new"."""
    names = [
        f"{name} changed" if name in stored else f"{name} is new"
        for name, value in wanted.items()
        if stored.get(name) != value
    ]
    names += [f"{name} is gone" for name in stored if name not in wanted]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _check_shapes(found: SavedChunk, shapes: Mapping[str, Sequence[int]]) -> None:
    for name, wanted in shapes.items():
        stored = list(found.tensors[name].shape) if name in found.tensors else "nothing"
        if stored != list(wanted):
            raise ValueError(
                f"shot {found.key.shot + 1} is locked, and {found.path.name} holds {name} of {stored} where "
                f"the plan needs {list(wanted)}; unlock the shot, or plan it with its size and seconds again"
            )
