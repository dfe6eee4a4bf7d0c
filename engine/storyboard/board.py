"""The storyboard is what the user writes, as frozen dataclasses and as JSON version 1.

See docs/design.md, The storyboard. A storyboard is a list of shots with prompts, seconds and transitions. Every
Storyboard object is valid: the constructor checks all ranges and all relations between fields, so the JSON, CSV and
ttt-video readers share one set of rules. web/storyboard.schema.json publishes the structural part of the same rules.

It does not know models, frames or files: engine/plan/timeline.py turns seconds into frames, engine/storyboard/media.py
reads the disk.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any

from .rules import Choice, Flag, Media, Name, Number, Rule, StoryboardError, Text, show, within

VERSION = 1
MAX_SHOTS = 1000
MAX_TEXT_CHARACTERS = 4_000_000
MAX_PROMPT_CHARACTERS = 10_000
MAX_WORD_CHARACTERS = 200
MAX_ID_CHARACTERS = 64
MAX_LIST_ITEMS = 64
MAX_SHOT_SECONDS = 3600
MAX_SEED = 2**64 - 1
MIN_SIDE, MAX_SIDE = 16, 16384
TRANSITIONS = ("continue", "blend", "cut")

_SEED = Number(0, MAX_SEED, "write a whole number from 0 to 18446744073709551615", whole=True, optional=True)
_SIDE = Number(MIN_SIDE, MAX_SIDE, f"write whole pixels from {MIN_SIDE} to {MAX_SIDE}", whole=True)
_SECONDS = Number(0, MAX_SHOT_SECONDS, f"write seconds above 0 and up to {MAX_SHOT_SECONDS}", above=True)
_OVERLAP = Number(0, MAX_SHOT_SECONDS, f"write seconds above 0 and up to {MAX_SHOT_SECONDS}", above=True, optional=True)

PROMPT_RULE = Text(MAX_PROMPT_CHARACTERS, filled="say what the shot shows")
BOARD_RULES: dict[str, Rule] = {
    "title": Text(MAX_PROMPT_CHARACTERS),
    "fps": Number(0, 240, "write frames per second above 0 and up to 240", above=True),
    "width": _SIDE,
    "height": _SIDE,
    "seed": _SEED,
    "style": Text(MAX_PROMPT_CHARACTERS),
    "negative": Text(MAX_PROMPT_CHARACTERS),
}
SHOT_RULES: dict[str, Rule] = {
    "prompt": PROMPT_RULE,
    "seconds": _SECONDS,
    "transition": Choice(TRANSITIONS),
    "overlap_seconds": _OVERLAP,
    "seed": _SEED,
    "strength": Number(0, 10, "write a strength from 0 to 10; 1 is normal"),
    "negative": Text(MAX_PROMPT_CHARACTERS, optional=True),
    "locked": Flag(),
    "id": Name(MAX_ID_CHARACTERS),
}
FOCUS_RULE = Text(MAX_WORD_CHARACTERS, filled="write a word of the prompt")
ANCHOR_RULES: dict[str, Rule] = {
    "at": Number(0, MAX_SHOT_SECONDS, f"write seconds from the start of the shot, 0 to {MAX_SHOT_SECONDS}"),
    "image": Media(),
}


@dataclass(frozen=True)
class Anchor:
    """An anchor is a picture that the video must show: `at` seconds from the shot's start, `image` relative to the
    input folder.
    """

    at: float
    image: str


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
    anchors: up to 64 Anchor.
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
        for name, rule in BOARD_RULES.items():
            object.__setattr__(self, name, rule.read(getattr(self, name), name))
        _check_shot_count(len(self.shots))
        shots = tuple(_checked_shot(shot, f"shot {index + 1}") for index, shot in enumerate(self.shots))
        object.__setattr__(self, "shots", shots)
        self._check_ids()
        self._check_overlaps()
        self._check_words()

    def _check_ids(self) -> None:
        holders: dict[str, int] = {}
        for index, shot in enumerate(self.shots):
            if shot.id is not None and holders.setdefault(shot.id, index) != index:
                raise StoryboardError(
                    f"shot {index + 1}: id is {show(shot.id)}, which shot {holders[shot.id] + 1} has too; "
                    "give each of them an id of its own"
                )

    def _check_overlaps(self) -> None:
        for index, shot in enumerate(self.shots):
            field = f"shot {index + 1}: overlap_seconds"
            if shot.overlap_seconds is None:
                continue
            longest = min(other.seconds for other in self.shots[max(index - 1, 0) : index + 1])
            if shot.overlap_seconds > longest:
                raise StoryboardError(
                    f"{field} is {show(shot.overlap_seconds)}, longer than the shorter of the shots it joins "
                    f"({show(longest)} s); write at most {show(longest)}"
                )

    def _check_words(self) -> None:
        for index, shot in enumerate(self.shots):
            prompt = self.prompt_of(shot).casefold()
            for place, word in enumerate(shot.focus):
                if word.casefold() not in prompt:
                    raise StoryboardError(
                        f"shot {index + 1}: focus {place + 1} is {show(word)}, which the prompt does not contain; "
                        "write words of the prompt or of the style"
                    )
            for place, anchor in enumerate(shot.anchors):
                if anchor.at > shot.seconds:
                    raise StoryboardError(
                        f"shot {index + 1}, anchor {place + 1}: at is {show(anchor.at)}, after the end of the shot "
                        f"({show(shot.seconds)} s); write at most {show(shot.seconds)}"
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
        board = {"longreel": VERSION} | {name: _plain(getattr(self, name)) for name in BOARD_RULES}
        return board | {"shots": [_shot_dict(shot) for shot in self.shots]}

    def to_json(self) -> str:
        """Return JSON version 1, indented; parse_storyboard of it gives an equal storyboard."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=2) + "\n"

    def to_text(self) -> str:
        """Return a page for people: one line for the storyboard, one for each shot."""
        total = show(round(sum(shot.seconds for shot in self.shots), 3))
        head = f"{self.title or 'Untitled'}: {len(self.shots)} shot{'s' * (len(self.shots) != 1)}, {total} s, "
        head += f"{show(self.fps)} frames per second, {self.width}x{self.height}"
        head += "" if self.seed is None else f", seed {self.seed}"
        lines = [head]
        lines += [f"style: {self.style}"] if self.style else []
        lines += [f"negative: {self.negative}"] if self.negative else []
        return "\n".join(lines + [_shot_text(index, shot) for index, shot in enumerate(self.shots)]) + "\n"


def parse_storyboard(text: str) -> Storyboard:
    """Read JSON version 1 (up to 4,000,000 characters). Raises StoryboardError naming the field and the remedy."""
    data = load_json(text, "the storyboard")
    if not isinstance(data, dict):
        raise StoryboardError(
            f'the storyboard is {show(data)}, not an object; start it with {{"longreel": 1, "shots": [...]}}'
        )
    return storyboard_from_dict(data)


def storyboard_from_dict(data: dict[str, Any]) -> Storyboard:
    """Return the storyboard from the parsed JSON object of version 1; also the last step of the CSV reader."""
    version = data.get("longreel")
    if isinstance(version, bool) or version != VERSION:
        found = f"is {show(version)}" if "longreel" in data else "is missing"
        raise StoryboardError(f'longreel {found}; this pack reads version {VERSION}: write "longreel": {VERSION}')
    _check_keys(data, ("longreel", *_names(Storyboard)), "", _names(Shot))
    shots = data.get("shots")
    if not isinstance(shots, list):
        found = f"is {show(shots)}, not a list" if "shots" in data else "is missing"
        raise StoryboardError(f'shots {found}; write "shots": [{{"prompt": "...", "seconds": 3.0}}]')
    _check_shot_count(len(shots))
    board = {name: value for name, value in data.items() if name not in ("longreel", "shots")}
    return Storyboard(shots=tuple(_shot_from(shot, f"shot {index + 1}") for index, shot in enumerate(shots)), **board)


def load_json(text: str, what: str) -> Any:
    """Run json.loads with a size limit, no doubled keys, and errors on one line that give line and column."""
    if len(text) > MAX_TEXT_CHARACTERS:
        raise StoryboardError(
            f"{what} has {len(text)} characters; at most {MAX_TEXT_CHARACTERS} are read: split it into several"
        )
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise StoryboardError(f"{what} is empty; write at least one shot")
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        reason = f"{error.msg} (line {error.lineno}, column {error.colno})"
        raise StoryboardError(f"{what} is not JSON: {reason}; correct the text there") from error
    except RecursionError as error:
        raise StoryboardError(f"{what} nests lists or objects too deeply; a storyboard needs 5 levels") from error
    except ValueError as error:
        if isinstance(error, StoryboardError):
            raise
        # Python refuses whole numbers of more than 4300 digits before any rule can see them.
        raise StoryboardError(f"{what} holds a number with too many digits; write a shorter number") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise StoryboardError(f"the key {show(name)} is written twice in one object; keep one of them")
        found[name] = value
    return found


def _shot_from(data: Any, place: str) -> Shot:
    if not isinstance(data, dict):
        raise StoryboardError(f'{place} is {show(data)}, not an object; write {{"prompt": "...", "seconds": 3.0}}')
    _check_keys(data, _names(Shot), place, (*BOARD_RULES, "shots"))
    _require(data, Shot, place)
    found = dict(data)
    for name in ("focus", "anchors"):
        found[name] = _list(data.get(name, []), within(place, name))
    found["anchors"] = tuple(_anchor_from(one, f"{place}, anchor {at + 1}") for at, one in enumerate(found["anchors"]))
    return Shot(**found)


def _anchor_from(data: Any, place: str) -> Anchor:
    if not isinstance(data, dict):
        raise StoryboardError(f'{place} is {show(data)}, not an object; write {{"at": 0.0, "image": "ship.png"}}')
    _check_keys(data, _names(Anchor), place, ())
    _require(data, Anchor, place)
    return Anchor(**data)


def _list(value: Any, field: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise StoryboardError(f"{field} is {show(value)}, not a list; write it in square brackets")
    return tuple(value)


def _names(kind: type) -> tuple[str, ...]:
    return tuple(one.name for one in fields(kind))


def _require(data: dict[str, Any], kind: type, place: str) -> None:
    for one in fields(kind):
        if one.default is MISSING and one.name not in data:
            raise StoryboardError(f'{within(place, one.name)} is missing; add "{one.name}" to {place}')


def _check_keys(data: dict[str, Any], known: tuple[str, ...], place: str, elsewhere: tuple[str, ...]) -> None:
    for key in data:
        if key in known:
            continue
        name = within(place, show(key, bare=True))
        if key in elsewhere:
            home = "the storyboard, beside shots" if place else "a shot"
            raise StoryboardError(f"{name} is not a known key here; it belongs to {home}")
        raise StoryboardError(f'{name} is not a known key; did you mean "{nearest(key, known)}"?')


def nearest(key: str, known: tuple[str, ...]) -> str:
    """Return the known key most like `key`, whatever the case of its letters."""
    return difflib.get_close_matches(key[:64].lower(), known, n=1, cutoff=0.0)[0]


def _check_shot_count(count: int) -> None:
    if count < 1:
        raise StoryboardError("the storyboard has no shots; write at least one")
    if count > MAX_SHOTS:
        raise StoryboardError(
            f"the storyboard has {count} shots; the limit is {MAX_SHOTS}: split it into several storyboards"
        )


def _checked_shot(shot: Shot, place: str) -> Shot:
    found: dict[str, Any] = _read(shot, SHOT_RULES, place)
    for name in ("focus", "anchors"):
        if len(getattr(shot, name)) > MAX_LIST_ITEMS:
            count = len(getattr(shot, name))
            raise StoryboardError(
                f"{within(place, name)} has {count} entries; the limit is {MAX_LIST_ITEMS}: remove some"
            )
    found["focus"] = tuple(
        FOCUS_RULE.read(word, within(place, f"focus {at + 1}")) for at, word in enumerate(shot.focus)
    )
    anchors = enumerate(shot.anchors)
    found["anchors"] = tuple(Anchor(**_read(one, ANCHOR_RULES, f"{place}, anchor {at + 1}")) for at, one in anchors)
    if found["overlap_seconds"] is not None and found["transition"] != "blend":
        raise StoryboardError(
            f'{place}: overlap_seconds is {show(shot.overlap_seconds)} but the transition is "{shot.transition}", '
            'which has no overlap; remove overlap_seconds or write "transition": "blend"'
        )
    return replace(shot, **found)


def _read(one: Shot | Anchor, rules: dict[str, Any], place: str) -> dict[str, Any]:
    return {name: rule.read(getattr(one, name), within(place, name)) for name, rule in rules.items()}


def _plain(value: Any) -> Any:
    """Write 3.0 as 3, so that a file looks the way a person types it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _shot_dict(shot: Shot) -> dict[str, Any]:
    changed = [one.name for one in fields(Shot) if getattr(shot, one.name) != one.default]
    found = {name: _plain(getattr(shot, name)) for name in changed}
    if shot.focus:
        found["focus"] = list(shot.focus)
    if shot.anchors:
        found["anchors"] = [{name: _plain(value) for name, value in asdict(one).items()} for one in shot.anchors]
    return found


def _shot_text(index: int, shot: Shot) -> str:
    plain = [one for one in fields(Shot) if one.name in ("overlap_seconds", "seed", "strength", "negative", "id")]
    changed = [one.name for one in plain if getattr(shot, one.name) != one.default]
    notes = [f"{name} {show(getattr(shot, name), bare=True)}" for name in changed]
    notes += [f"focus {', '.join(shot.focus)}"] if shot.focus else []
    notes += [f"anchor {one.image} at {show(one.at)} s" for one in shot.anchors]
    notes += ["locked"] if shot.locked else []
    meets = "start" if index == 0 else shot.transition
    line = f"{index + 1:>4}  {show(shot.seconds):>6} s  {meets:<8}  {' '.join(shot.prompt.split())}"
    return line + (f"  [{'; '.join(notes)}]" if notes else "")
