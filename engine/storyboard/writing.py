"""Write a storyboard as the data of JSON version 1, and as a page for people.

A field that has its default is not written, so that files stay short and those of earlier versions stay as they are.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from .carried import CARRIED
from .fields import BOARD_RULES
from .rules import show

if TYPE_CHECKING:  # the storyboard itself writes with what stands here
    from .board import Shot, Storyboard


def as_dict(storyboard: Storyboard) -> dict[str, Any]:
    """Return every storyboard field but the version, and of each shot the fields that differ from their defaults."""
    board = {name: _plain(getattr(storyboard, name)) for name in BOARD_RULES}
    return board | {"shots": [_shot_dict(shot) for shot in storyboard.shots]}


def as_page(storyboard: Storyboard) -> str:
    """Return one line for the storyboard and one for each shot."""
    total = show(round(sum(shot.seconds for shot in storyboard.shots), 3))
    head = f"{storyboard.title or 'Untitled'}: {len(storyboard.shots)} shot{'s' * (len(storyboard.shots) != 1)}, "
    head += f"{total} s, {show(storyboard.fps)} frames per second, {storyboard.width}x{storyboard.height}"
    head += "" if storyboard.seed is None else f", seed {storyboard.seed}"
    lines = [head]
    lines += [f"style: {storyboard.style}"] if storyboard.style else []
    lines += [f"negative: {storyboard.negative}"] if storyboard.negative else []
    return "\n".join(lines + [_shot_text(index, shot) for index, shot in enumerate(storyboard.shots)]) + "\n"


def _plain(value: Any) -> Any:
    """Write 3.0 as 3, so that a file looks the way a person types it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _shot_dict(shot: Shot) -> dict[str, Any]:
    changed = [one.name for one in fields(shot) if getattr(shot, one.name) != one.default]
    found = {name: _plain(getattr(shot, name)) for name in changed}
    if shot.focus:
        found["focus"] = list(shot.focus)
    for key in CARRIED:
        if key in found:
            value = getattr(shot, key)
            found[key] = _part_dict(value) if CARRIED[key].single else [_part_dict(one) for one in value]
    return found


def _part_dict(part: Any) -> dict[str, Any]:
    return {name: _plain(value) for name, value in asdict(part).items() if value is not None}


def _shot_text(index: int, shot: Shot) -> str:
    plain = [one for one in fields(shot) if one.name in ("overlap_seconds", "seed", "strength", "negative", "id")]
    changed = [one.name for one in plain if getattr(shot, one.name) != one.default]
    notes = [f"{name} {show(getattr(shot, name), bare=True)}" for name in changed]
    notes += [f"focus {', '.join(shot.focus)}"] if shot.focus else []
    notes += [f"anchor {one.image} at {show(one.at)} s" for one in shot.anchors]
    notes += [f"lora {one.file} at {show(one.strength)}" for one in shot.lora]
    if shot.audio:
        from_second = "" if shot.audio.offset is None else f" from {show(shot.audio.offset)} s"
        notes.append(f"audio {shot.audio.file}{from_second}")
    notes += ["locked"] if shot.locked else []
    meets = "start" if index == 0 else shot.transition
    line = f"{index + 1:>4}  {show(shot.seconds):>6} s  {meets:<8}  {' '.join(shot.prompt.split())}"
    return line + (f"  [{'; '.join(notes)}]" if notes else "")
