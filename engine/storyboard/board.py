"""The storyboard is what the user writes, as frozen dataclasses and as JSON version 1.

See docs/design.md, The storyboard. A storyboard is a list of shots with prompts, seconds and transitions. Every
Storyboard object is valid: the constructor checks all ranges (engine/storyboard/fields.py) and all relations between
fields, so the JSON, CSV and ttt-video readers share one set of rules, and says all mistakes at once.
web/storyboard.schema.json publishes the structural part of the same rules.

It does not know models, frames or files: engine/plan/timeline.py turns seconds into frames, engine/storyboard/media.py
reads the disk.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any

from .carried import CARRIED, Anchor, Audio, CheckFiles, LoRA
from .faults import FAULTY, Fault, Faults, Path, StoryboardError, sound
from .fields import (
    BOARD_RULES,
    FOCUS_RULE,
    MAX_LIST_ITEMS,
    MAX_SEED,  # noqa: F401 - these limits have been imported from here
    MAX_SHOT_SECONDS,  # noqa: F401
    MAX_SHOTS,
    SHOT_RULES,
    TRANSITIONS,  # noqa: F401
)
from .json_text import Document, load_document, said_twice
from .keys import check_keys
from .rules import Rule, show
from .writing import as_dict, as_page

VERSION = 1


@dataclass(frozen=True)
class Shot:
    """A shot is one prompt's stretch of time.

    prompt: what the shot shows, 1 to 10,000 characters.
    seconds: length, above 0 and up to 3600.
    transition: how it meets the shot before: `continue` (same take, new prompt), `blend` (latent blending over the
        overlap) or `cut` (nothing shared but long-term memory). Without a shot before it has no meaning.
    overlap_seconds: length of a blend, up to the shorter of the two shots; None leaves it to the plan.
    focus: words of the prompt that features such as mask guidance hold on to, up to 64.
    seed: 0 to 2**64-1, None derives it from the storyboard's seed.
    strength: weight of the prompt, 0 to 10.
    negative: what to avoid; None takes the storyboard's.
    anchors: up to 64 Anchor. lora: up to 64 LoRA. audio: what the network hears.
    locked: a finished shot that must not be rendered again.
    id: a name of its own, 1 to 64 characters, by which a finished shot is known again wherever it moves; None has none.
    """

    prompt: str
    seconds: float
    transition: str = "continue"
    overlap_seconds: float | None = None
    focus: tuple[str, ...] = ()
    seed: int | None = None
    strength: float = 1.0
    negative: str | None = None
    anchors: tuple[Anchor, ...] = ()
    locked: bool = False
    id: str | None = None
    lora: tuple[LoRA, ...] = ()
    audio: Audio | None = None


@dataclass(frozen=True)
class Storyboard:
    """A storyboard has 1 to 1000 shots and what they share.

    fps: frames per second, above 0 and up to 240. width, height: pixels, 16 to 16384; the plan rounds to the model's
    grid. seed: 0 to 2**64-1 or None. style: appended to every prompt. negative: for shots without their own.
    Raises StoryboardError (a ValueError), one line that names the field and the remedy.
    """

    shots: tuple[Shot, ...]
    title: str = ""
    fps: float = 16.0
    width: int = 832
    height: int = 480
    seed: int | None = None
    style: str = ""
    negative: str = ""

    def __post_init__(self) -> None:
        faults = Faults()
        for name, rule in BOARD_RULES.items():
            object.__setattr__(self, name, faults.read(rule, getattr(self, name), name, path=(name,)))
        _check_shot_count(len(self.shots))
        shots = []
        for index, shot in enumerate(self.shots):
            shots.append(_checked_shot(shot, index, faults))
            if faults.full:
                faults.stop()
        object.__setattr__(self, "shots", tuple(shots))
        self._check_ids(faults)
        self._check_overlaps(faults)
        self._check_words(faults)
        faults.stop()

    def _check_ids(self, faults: Faults) -> None:
        holders: dict[str, int] = {}
        for index, shot in enumerate(self.shots):
            if shot.id is not None and sound(shot.id) and holders.setdefault(shot.id, index) != index:
                faults.add(
                    f"id is {show(shot.id)}, which shot {holders[shot.id] + 1} has too; "
                    "give each of them an id of its own",
                    *_at(index, "id"),
                )

    def _check_overlaps(self, faults: Faults) -> None:
        for index, shot in enumerate(self.shots):
            joined = [other.seconds for other in self.shots[max(index - 1, 0) : index + 1]]
            if shot.overlap_seconds is None or not sound(shot.overlap_seconds, *joined):
                continue
            longest = min(joined)
            if shot.overlap_seconds > longest:
                faults.add(
                    f"overlap_seconds is {show(shot.overlap_seconds)}, longer than the shorter of the shots it joins "
                    f"({show(longest)} s); write at most {show(longest)}",
                    *_at(index, "overlap_seconds"),
                )

    def _check_words(self, faults: Faults) -> None:
        for index, shot in enumerate(self.shots):
            if shot.focus and sound(shot.focus, shot.prompt, self.style):
                prompt = self.prompt_of(shot).casefold()
                for place, word in enumerate(shot.focus):
                    if sound(word) and word.casefold() not in prompt:
                        faults.add(
                            f"focus {place + 1} is {show(word)}, which the prompt does not contain; "
                            "write words of the prompt or of the style",
                            *_at(index, "focus", place),
                        )
            for place, anchor in enumerate(shot.anchors if sound(shot.anchors, shot.seconds, self.fps) else ()):
                # Times that a program wrote are rounded: what lies within half a frame of the end is the end.
                if sound(anchor.at) and anchor.at > shot.seconds + 0.5 / self.fps:
                    faults.add(
                        f"at is {show(anchor.at)}, after the end of the shot ({show(shot.seconds)} s); "
                        f"write at most {show(shot.seconds)}, its last frame",
                        *_at(index, "anchors", place, "at"),
                    )

    def prompt_of(self, shot: Shot) -> str:
        """Return the shot's prompt with the style appended: "prompt, style"."""
        return f"{shot.prompt}, {self.style}" if self.style else shot.prompt

    def negative_of(self, shot: Shot) -> str:
        """Return the shot's own negative prompt, also when that is empty, else the storyboard's."""
        return self.negative if shot.negative is None else shot.negative

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object: every storyboard field, and of each shot the fields that differ from their
        defaults.
        """
        return {"longreel": VERSION} | as_dict(self)

    def to_json(self) -> str:
        """Return JSON version 1, indented; parse_storyboard of it gives an equal storyboard."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=2) + "\n"

    def to_text(self) -> str:
        """Return a page for people: one line for the storyboard, one for each shot."""
        return as_page(self)


_NAMES: dict[type, tuple[str, ...]] = {kind: tuple(one.name for one in fields(kind)) for kind in (Storyboard, Shot)}
LISTS = tuple(name for name, part in CARRIED.items() if not part.single)
_NEEDED = tuple(one.name for one in fields(Shot) if one.default is MISSING)


def parse_storyboard(text: str, check_files: CheckFiles | None = None) -> Storyboard:
    """Read JSON version 1 (up to 4,000,000 characters), a list of shots, or a shot on each line.

    check_files: what looks up the files that shots name.
    Raises StoryboardError with all mistakes, each with its line, shot, field and remedy.
    """
    return storyboard_of(load_document(text, "the storyboard"), check_files)


def storyboard_of(document: Document, check_files: CheckFiles | None = None) -> Storyboard:
    """Return the storyboard of a document that was read; see parse_storyboard."""
    data, prefix = _as_board(document.data)
    faults = Faults()
    for path in document.doubled:
        faults.add(said_twice(path), _place((*prefix, *path)), (*prefix, *path))
    try:
        return storyboard_from_dict(data, check_files, faults)
    except StoryboardError as error:
        inner = error.changed(lambda one: replace(one, path=one.path[len(prefix) :], board_path=one.path))
        raise inner.located(document.lines_of) from error


def storyboard_from_dict(
    data: dict[str, Any], check_files: CheckFiles | None = None, faults: Faults | None = None
) -> Storyboard:
    """Return the storyboard from the parsed JSON object of version 1; also the last step of the CSV reader.

    faults: mistakes that were found before; they are raised with those that are found here. See parse_storyboard.
    """
    faults = faults or Faults()
    version = data.get("longreel")
    if "longreel" in data and (isinstance(version, bool) or version != VERSION):
        text = f'longreel is {show(version)}; this pack reads version {VERSION}: write "longreel": {VERSION}'
        raise StoryboardError(Fault(text, path=("longreel",)))
    if "longreel" not in data:
        faults.add(f'longreel is missing; this pack reads version {VERSION}: write "longreel": {VERSION}')
    known = ("longreel", *_NAMES[Storyboard])
    meant = check_keys(data, known, faults, owner="a storyboard", elsewhere=_NAMES[Shot])
    shots = [FAULTY] if "shots" in meant and "shots" not in data else data.get("shots")
    if not isinstance(shots, list):
        found = f"is {show(shots)}, not a list" if "shots" in data else "is missing"
        faults.add(f'shots {found}; write "shots": [{{"prompt": "...", "seconds": 3.0}}]', path=("shots",))
        shots = [FAULTY]
    _check_shot_count(len(shots))
    board = {name: data[name] for name in BOARD_RULES if name in data}
    read = []
    for index, shot in enumerate(shots):
        read.append(_shot_from(shot, index, faults, check_files))
        if faults.full:
            faults.stop()
    try:
        storyboard = Storyboard(shots=tuple(read), **board)
    except StoryboardError as error:
        faults.extend(error)
    faults.stop()
    return storyboard


def are_shots(data: list[Any]) -> bool:
    """Tell shots, whatever is wrong with them, from the scenes of ttt-video, which have a text and no prompt."""
    first = next((one for one in data[:10] if isinstance(one, dict)), None)
    return first is not None and not isinstance(data[0], list) and ("prompt" in first or "text" not in first)


def _as_board(data: Any) -> tuple[dict[str, Any], Path]:
    """Return the data as an object of version 1, and the path in it at which `data` lies: a list holds shots, and an
    object with a prompt is one.
    """
    if isinstance(data, list):
        _check_shot_count(max(len(data), 1))
    if isinstance(data, list) and are_shots(data):
        return {"longreel": VERSION, "shots": data}, ("shots",)
    if isinstance(data, dict):
        if "prompt" in data and not {"shots", "longreel"} & set(data):
            return {"longreel": VERSION, "shots": [data]}, ("shots", 0)
        return data, ()
    if isinstance(data, list) and data and isinstance(data[0], list | dict):
        raise StoryboardError(
            "the storyboard is a scene list of ttt-video; load it from a file with Longreel Load Storyboard"
        )
    raise StoryboardError(
        f'the storyboard is {show(data)}, not an object; start it with {{"longreel": 1, "shots": [...]}}'
    )


def _at(index: int, *path: str | int) -> tuple[str, Path]:
    """Return (the place that a message names, the path) of a field of a shot."""
    return _place(("shots", index, *path)), ("shots", index, *path)


def _place(path: Path) -> str:
    """Return the place that a message names: "shot 2, anchor 1", or "" for the storyboard itself."""
    if len(path) < 2 or path[0] != "shots" or isinstance(path[1], str):
        return ""
    shot = f"shot {path[1] + 1}"
    if len(path) > 2 and path[2] in CARRIED and CARRIED[str(path[2])].single:
        return f"{shot}, {CARRIED[str(path[2])].word}"
    if len(path) < 4 or path[2] not in CARRIED or isinstance(path[3], str):
        return shot
    return f"{shot}, {CARRIED[str(path[2])].word} {path[3] + 1}"


def _shot_from(data: Any, index: int, faults: Faults, check_files: CheckFiles | None) -> Shot:
    place, path = _at(index)
    if not isinstance(data, dict):
        if sound(data):
            shape = '{"prompt": "...", "seconds": 3.0}'
            faults.add(f"{place} is {show(data)}, not an object; write {shape}", path=path)
        return Shot(FAULTY, FAULTY)
    elsewhere = (*BOARD_RULES, "shots")
    meant = check_keys(data, _NAMES[Shot], faults, place=place, path=path, owner="a shot", elsewhere=elsewhere)
    found = _given(data, _NAMES[Shot], _NEEDED, meant, faults, place, path)
    for name in ("focus", *LISTS):
        if name in found:
            found[name] = _list(found[name], name, faults, place, (*path, name))
    for name in CARRIED:
        if CARRIED[name].single and found.get(name) is not None and sound(found[name]):
            found[name] = _part_from(found[name], (index, name), faults, check_files)
        elif name in LISTS and sound(found.get(name, ())):
            parts = enumerate(found.get(name, ()))
            found[name] = tuple(_part_from(one, (index, name, at), faults, check_files) for at, one in parts)
    return Shot(**found)


def _part_from(data: Any, at: tuple[Any, ...], faults: Faults, check_files: CheckFiles | None) -> Any:
    """Return what a shot carries under a key of CARRIED; at: (the shot, the key, its place where that is a list)."""
    place, path = _at(*at)
    part = CARRIED[at[1]]
    if not isinstance(data, dict):
        faults.add(f"{place} is {show(data)}, not an object; write {part.example}", path=path)
        return part.kind(*[FAULTY] * len(part.names))
    meant = check_keys(data, part.names, faults, place=place, path=path, owner=part.owner)
    found = _given(data, part.names, part.needed, meant, faults, place, path)
    file = found[part.file] = faults.read(part.rules[part.file], found[part.file], part.file, place, (*path, part.file))
    check = (check_files or {}).get(at[1])
    if check is not None and sound(file) and not faults.full:
        try:
            check(file)
        except StoryboardError as error:
            faults.extend(error, place, (*path, part.file))
    return part.kind(**found)


def _list(value: Any, name: str, faults: Faults, place: str, path: Path) -> Any:
    if isinstance(value, list):
        return tuple(value)
    if sound(value):
        faults.add(f"{name} is {show(value)}, not a list; write it in square brackets", place, path)
    return FAULTY


def _given(
    data: dict[str, Any],
    names: Iterable[str],
    needed: Iterable[str],
    meant: set[str],
    faults: Faults,
    place: str,
    path: Path,
) -> dict[str, Any]:
    """Return the known keys of an object. One that is missing is FAULTY, and noted unless a misspelt one means it."""
    found = {name: data[name] for name in names if name in data}
    for name in needed:
        if name not in data:
            found[name] = FAULTY
            if name not in meant:
                faults.add(f'{name} is missing; add "{name}" to {place}', place, path)
    return found


def _check_shot_count(count: int) -> None:
    if count < 1:
        raise StoryboardError("the storyboard has no shots; write at least one")
    if count > MAX_SHOTS:
        raise StoryboardError(
            f"the storyboard has {count} shots; the limit is {MAX_SHOTS}: split it into several storyboards"
        )


def _checked_shot(shot: Shot, index: int, faults: Faults) -> Shot:
    place, path = _at(index)
    found = _read(shot, SHOT_RULES, faults, place, path)
    for name in (one for one in CARRIED if CARRIED[one].single and getattr(shot, one) is not None):
        value = getattr(shot, name)
        if sound(value):
            found[name] = CARRIED[name].kind(**_read(value, CARRIED[name].rules, faults, *_at(index, name)))
    for name in ("focus", *LISTS):
        values = getattr(shot, name)
        if sound(values) and len(values) > MAX_LIST_ITEMS:
            faults.add(
                f"{name} has {len(values)} entries; the limit is {MAX_LIST_ITEMS}: remove some", place, (*path, name)
            )
            found[name] = FAULTY
        elif sound(values) and name == "focus":
            found[name] = tuple(
                faults.read(FOCUS_RULE, word, f"focus {at + 1}", place, (*path, name, at))
                for at, word in enumerate(values)
            )
        elif sound(values):
            part = CARRIED[name]
            found[name] = tuple(
                part.kind(**_read(one, part.rules, faults, *_at(index, name, at))) for at, one in enumerate(values)
            )
    overlap, transition = found["overlap_seconds"], found["transition"]
    if overlap is not None and sound(overlap, transition) and transition != "blend":
        faults.add(
            f'overlap_seconds is {show(overlap)} but the transition is "{transition}", '
            'which has no overlap; remove overlap_seconds or write "transition": "blend"',
            place,
            (*path, "overlap_seconds"),
        )
    return replace(shot, **found)


def _read(one: Any, rules: Mapping[str, Rule], faults: Faults, place: str, path: Path) -> dict[str, Any]:
    found = {}
    for name, rule in rules.items():
        value = found[name] = getattr(one, name)
        if sound(value):
            try:
                found[name] = rule.read(value, name)
            except StoryboardError as error:
                faults.extend(error, place, (*path, name))
                found[name] = FAULTY
    return found
