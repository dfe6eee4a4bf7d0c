"""Keep a run that survives: the folder in which each finished chunk is kept, found again, and reported.

See docs/design.md, Runs that survive. `longreel/<run name>/` holds storyboard.json and plan.json, one safetensors file
for each finished chunk (engine/runs/chunk_file.py), chunks.json (engine/runs/record.py) and the lock. A chunk is used
again where the hash of all that it depends on is the same; the hash of the chunk that it continues from is among that,
so a change reaches what depends on it and nothing else.

A locked shot keeps its files whatever changed, and none of them is ever removed. A lock that cannot be kept (its shot
is not recognised, a file is damaged or gone, the record is lost) stops the run before it begins. The record changes
once a run begins, so a run that is refused leaves no trace. Nothing is removed before a run is complete. What chunks
depend on, and how they are made, is not known here.

    with open_run(output / "longreel" / check_run_name(name)) as run:
        locked = run.locked_shots(shots)  # refuses what cannot be kept
        run.begin(storyboard_json, plan_json, shots)
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

from .chunk_file import (
    HEADER_BYTES,
    NAME,
    ChunkKey,
    DamagedChunk,
    NewerVersion,
    SavedChunk,
    check_version,
    read_chunk,
    write_chunk,
)
from .lock import RunLock
from .record import UNKNOWN, Made, Renewed, RunRecord, read_record
from .shots import RunShot
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


@dataclass(frozen=True)
class LockedShot:
    """A locked shot has the shapes of its tensors by name, piece after piece.

    is_complete: whether these are all its pieces; None where that is not known. made: what the shot was when they were;
    None where that is not known.
    """

    shapes: tuple[Mapping[str, tuple[int, ...]], ...]
    is_complete: bool | None
    made: Made | None


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
    """This is a run that `open_run` opened. `outcomes` by chunk number, `notes` of what was found on opening.

    lost_record: why the record cannot be read, empty where it can; then chunks are found by their hashes alone, and the
    files of locked shots are not known.
    """

    def __init__(self, path: Path):
        self.path = path
        self.outcomes: dict[int, Outcome] = {}
        self.notes = [f"{name} was half written by a run that was killed" for name in remove_unfinished(path)]
        self.lost_record = ""
        self._strangers: frozenset[int] = frozenset()  # shots that no video had before
        self._record = self._read_record()

    def locked_shots(self, shots: Sequence[RunShot], sampler: str = UNKNOWN) -> dict[int, LockedShot]:
        """Return the locked shots that have finished chunks, by number from 0; nothing is written.

        A run without any finished chunk has nothing to keep: there a locked shot is made like others. So is one that
        the last run knew and had not come to. sampler: the id of the node that makes the video; each node has one of
        its own.

        Raises ValueError, naming the shot from 1, where a lock cannot be kept, and NewerVersion for chunks of a newer
        Longreel.
        """
        for path in self._chunk_files():
            check_version(path)
        if self.lost_record:  # see begin
            return {}
        renewed = self._record.for_shots(shots, sampler)
        kept = {number: self._locked_shot(renewed, number) for number, shot in enumerate(shots) if shot.locked}
        return {number: found for number, found in kept.items() if found is not None}

    def begin(self, storyboard: str, plan: str, shots: Sequence[RunShot | str], sampler: str = UNKNOWN) -> None:
        """Write storyboard.json and plan.json, as JSON text, and find the shots of the last run again.

        shots: of the storyboard, or their prompts. From here on the record says what this run does; a folder that
        cannot be written shows here, before anything is sampled.
        """
        known = [RunShot(prompt=shot) if isinstance(shot, str) else shot for shot in shots]
        renewed = self._record.for_shots(known, sampler)
        record = renewed.record
        if self._record.has_files:
            self._strangers = frozenset(range(len(known))) - renewed.past.keys()
        if self.lost_record:  # which of them a locked shot used is not known
            record = replace(record, once_locked=frozenset(path.name for path in self._chunk_files()))
        write_whole(self.path / STORYBOARD, storyboard.encode())
        write_whole(self.path / PLAN, plan.encode())
        self._keep_record(record)

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
        wanted, by name; a locked file with others raises ValueError, because neither it nor the plan fits. So does a
        locked file that is damaged or gone. Another that is damaged is reported, not used, and stays until its
        replacement is complete.
        """
        damages: list[str] = []
        last = self._read_last(key, damages)
        if locked and damages:
            raise _lock_error(key.shot, damages[0])
        found = last if locked and last is not None else self._read_same(key, damages, shapes or {})
        if found is None:
            if locked and self.lost_record:
                raise self.lost_lock(key.shot)
            if locked and key.shot in self._strangers:
                raise self._not_recognised(key.shot)
            self.outcomes[key.number] = self._to_make(key, last, damages)
            return None
        if found is last and locked:
            _check_shapes(found, shapes or {}, key.shot)
        self.outcomes[key.number] = Outcome(key, LOCKED if locked else REUSED)
        self._use(key, found.path.name, locked)
        return found

    def has(self, key: ChunkKey) -> str | None:
        """Return the hash of the finished chunk with this key's hash, or None; nothing is noted."""
        found = self._read_same(key, [], {})
        return None if found is None else found.hash

    def lost_lock(self, shot: int) -> ValueError:
        """Return the error for a locked shot (from 0) of a run whose record is lost."""
        return ValueError(
            f"shot {shot + 1} is locked, and {RECORD}, which says which files it used, {self.lost_record}; nothing is "
            f"made or removed. Put {RECORD} back from a copy, or unlock the shots: what did not change is found by its "
            f"settings"
        )

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
        self._use(key, saved.path.name, False)
        self.outcomes[key.number] = replace(outcome, state=ONCE_MADE[outcome.state])
        return saved

    def old_files(self) -> list[str]:
        """Return the names of chunk files that no video of the record uses and no locked shot ever used."""
        used = self._record.names | self._record.once_locked
        return [path.name for path in self._chunk_files() if path.name not in used]

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
        pieces: dict[int, int] = {}
        for outcome in self.outcomes.values():
            pieces[outcome.key.shot] = max(pieces.get(outcome.key.shot, 0), outcome.key.piece + 1)
        self._keep_record(self._record.finished(pieces))
        old = self.old_files()
        if remove_old:
            for name in old:
                (self.path / name).unlink()
            self._keep_record(self._record.with_earlier(path.name for path in self._chunk_files()))
        return old

    def report(self) -> str:
        """Report to people: one line for each note and each chunk."""
        return "\n".join([*self.notes, *(outcome.line() for _, outcome in sorted(self.outcomes.items()))])

    def _locked_shot(self, renewed: Renewed, number: int) -> LockedShot | None:
        """Return what a locked shot keeps, or None where there is nothing yet. Raises ValueError as `locked_shots`."""
        shot = renewed.record.video.shots[number]
        if number not in renewed.past and self._record.has_files:
            raise self._not_recognised(number)
        was = renewed.past.get(number)
        has_id = was is not None and shot.shot.id is not None and was.shot.id == shot.shot.id
        if was is not None and not shot.kept and self._record.earlier and not has_id:
            raise self._not_recognised(number)  # a shot that left the video is as likely
        if shot.unsure and self._record.has_files:
            raise _lock_error(number, f"{shot.unsure}, so its own frames cannot be told from others")
        shapes: list[dict[str, tuple[int, ...]]] = []
        damages: list[str] = []
        for piece, name in sorted(shot.kept.items()):
            found = _read(self.path / name, damages) if (self.path / name).exists() else None
            if piece != len(shapes) or found is None:
                raise _lock_error(number, damages[0] if damages else f"{name} is gone")
            shapes.append({key: tuple(tensor.shape) for key, tensor in found.tensors.items()})
        if not shapes:
            return None
        return LockedShot(tuple(shapes), shot.is_complete, shot.made)

    def _not_recognised(self, shot: int) -> ValueError:
        return _lock_error(shot, f"none of the shots that run {self.path.name!r} has made is recognised as it")

    def _read_last(self, key: ChunkKey, damages: list[str]) -> SavedChunk | None:
        """Return the chunk that this shot and piece used last."""
        name = self._record.file_of(key.shot, key.piece)
        if name is None:
            return None
        if not (self.path / name).exists():
            damages.append(f"{name} is gone")
            return None
        return _read(self.path / name, damages)

    def _read_same(self, key: ChunkKey, damages: list[str], shapes: Mapping[str, Sequence[int]]) -> SavedChunk | None:
        """Return a chunk with the same hash, under its own number or, where it moved, under another."""
        own = self.path / key.file_name
        others = sorted(self.path.glob(f"chunk_*_{key.hash[:12]}.safetensors"))
        for path in (own, *(path for path in others if path != own)):
            found = _read(path, damages) if path.exists() else None
            if found is None or found.hash != key.hash:
                continue
            if (other := _other_shape(found, shapes)) is None:
                return found
            damages.append(other)
        return None

    def _to_make(self, key: ChunkKey, last: SavedChunk | None, damages: list[str]) -> Outcome:
        if last is not None and (changes := _changes(last.key.dependencies, key.dependencies)):
            damages = [changes, *damages]
        return Outcome(key, TO_MAKE_AGAIN, damages[0]) if damages else Outcome(key, TO_MAKE, "new")

    def _use(self, key: ChunkKey, name: str, locked: bool) -> None:
        record = self._record.with_file(key.shot, key.piece, name, locked)
        if record != self._record:
            self._keep_record(record)

    def _chunk_files(self) -> list[Path]:
        return sorted(path for path in self.path.iterdir() if NAME.fullmatch(path.name) and not path.is_dir())

    def _note_lost(self, how: str) -> None:
        self.lost_record = how
        self.notes.append(f"{RECORD} {how}: chunks are found by what they depend on alone")

    def _read_record(self) -> RunRecord:
        path = self.path / RECORD
        if not path.exists():
            if self._chunk_files():
                self._note_lost("is gone")
            return RunRecord()
        try:
            return read_record(path.read_text(encoding="utf-8"))
        except NewerVersion as error:
            raise NewerVersion(
                f"{RECORD} of run {self.path.name!r} was written by a newer Longreel ({error}); update Longreel, or "
                f"use another run name"
            ) from error
        except IsADirectoryError as error:
            raise WriteError(
                f"{RECORD} is a folder, and the record belongs there; move it out of {self.path}"
            ) from error
        except ValueError as error:
            self._note_lost(f"is damaged ({error})")
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


def _check_shapes(found: SavedChunk, shapes: Mapping[str, Sequence[int]], shot: int) -> None:
    for name, wanted in shapes.items():
        stored = list(found.tensors[name].shape) if name in found.tensors else "nothing"
        if stored != list(wanted):
            raise ValueError(
                f"shot {shot + 1} is locked, and {found.path.name} holds {name} of {stored} where "
                f"the plan needs {list(wanted)}; unlock the shot, or plan it with its size and seconds again"
            )


def _other_shape(found: SavedChunk, shapes: Mapping[str, Sequence[int]]) -> str | None:
    """Say what a chunk with the right hash holds that no chunk with this hash was made with; None for nothing."""
    for name, wanted in shapes.items():
        stored = list(found.tensors[name].shape) if name in found.tensors else "nothing"
        if stored != list(wanted):
            return f"{found.path.name} holds {name} of {stored} where the plan needs {list(wanted)}: it was changed"
    return None


def _lock_error(shot: int, why: str) -> ValueError:
    return ValueError(
        f"shot {shot + 1} is locked, and {why}; nothing is made or removed. Undo the edit or put the file back, or "
        f"unlock the shot to have it made again"
    )
