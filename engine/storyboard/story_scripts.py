"""Read the story scripts of two public benchmarks as storyboards, so that their stories can be made and compared.

ViStoryBench (arXiv 2505.24862; its public loader, StoryDataset): a story has `Shots`, each with a plot, a static
description, a camera and a setting in English ("en") and Chinese ("ch"), and `Characters` with a description each. A
prompt is put together in that loader's order. MSVBench (arXiv 2602.23969; its public ShotPerspectiveAligner): a script
has `script`, a list of scenes with `clips`, each with a description and perhaps a shot distance and a camera angle.
Every shot becomes one of SECONDS behind a cut, since neither says how long it lasts nor how it meets the one before.

Read from their public loaders; the data sets themselves were not seen. What stands in MSVBench's `characters` and
`environments` is not known and not used. ViStoryBench's character pictures are no frames that a video must show, and
are left out too; so is a character that a shot names and the script does not describe, as its own loader has it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .board import VERSION, Storyboard, storyboard_from_dict
from .faults import FAULTY, Faults, Path, StoryboardError, sound
from .json_text import Document, said_twice
from .rules import show

SECONDS = 5.0  # of a shot
LANGUAGES = ("en", "ch")  # the first that a story is told in
SCENE, CHARACTERS = "Setting Description", "Characters Appearing"
FIRST = ("Shot Perspective Design", "Plot Correspondence", "Static Shot Description")  # of a prompt, in this order
ENDS = ".!?\u3002\uff01\uff1f"  # of sentences, the last three of Chinese ones
VIEW = ("shot_distance", "camera_angle")  # of a clip of MSVBench, where it says so

Texts = list[tuple[Any, Path]]  # prompts, and where each shot stands in the file


def is_story_script(data: Any) -> bool:
    """Tell whether parsed JSON is a script of one of the benchmarks, right or not."""
    return isinstance(data, dict) and "shots" not in data and any(isinstance(data.get(k), list) for k in _READERS)


def storyboard_of_script(document: Document) -> Storyboard:
    """Return the storyboard of a script that was read.

    Raises StoryboardError with all mistakes, each with its line, shot, field and remedy.
    """
    faults = Faults()
    for path in document.doubled:
        faults.add(said_twice(path), path=path)
    key = next(key for key in _READERS if isinstance(document.data.get(key), list))
    texts = _READERS[key](document.data, faults)
    if not document.data[key]:
        faults.add(f"{key} holds no shot; a story has one or more", path=(key,))
    shots = [
        {"prompt": prompt, "seconds": SECONDS, "transition": "cut" if number else "continue"}
        for number, (prompt, _) in enumerate(texts)
    ]
    try:
        faults.stop()
        return storyboard_from_dict({"longreel": VERSION, "shots": shots})
    except StoryboardError as error:
        own = error.changed(lambda one: replace(one, path=_own(one.path, texts)))
        raise own.located(document.lines_of) from error


def _own(path: Path, texts: Texts) -> Path:
    """Return where in the script stands what stands at a path of the storyboard."""
    return texts[int(path[1])][1] if path[:1] == ("shots",) and len(path) > 1 else path


def _of_vistorybench(data: dict[str, Any], faults: Faults) -> Texts:
    described = data.get("Characters", {})
    if not isinstance(described, dict):
        faults.add(f'Characters is {show(described)}, not an object; write {{"NAME": {{...}}}}', path=("Characters",))
        described = {}
    texts: Texts = []
    for number, shot in enumerate(data["Shots"]):
        place, path = f"shot {number + 1}", ("Shots", number)
        if not isinstance(shot, dict):
            faults.add(f"{place} is {show(shot)}, not an object", path=path)
            continue
        first = [_told(shot, name, faults, place, path) for name in FIRST]
        scene = _told(shot, SCENE, faults, place, path)
        if sound(*first, scene):
            texts.append((_sentences([*first, *_who(shot, described), scene]), path))
    return texts


def _told(shot: dict[str, Any], name: str, faults: Faults, place: str, path: Path) -> str:
    """Return the text under a name in the first language that has it, or FAULTY."""
    value = shot.get(name)
    told = value if isinstance(value, dict) else {LANGUAGES[0]: value}
    for language in LANGUAGES:
        text = told.get(language)
        if isinstance(text, str) and text.strip():
            return text
    found = f"has no text in {' or '.join(LANGUAGES)}" if isinstance(value, dict) else f"is {show(value)}"
    found = found if name in shot else "is missing"
    faults.add(f'{name} {found}; write {{"en": "..."}}', place, (*path, name) if name in shot else path)
    return FAULTY


def _who(shot: dict[str, Any], described: dict[str, Any]) -> list[str]:
    """Return "NAME is DESCRIPTION" for every character of a shot that the script describes."""
    appearing = shot.get(CHARACTERS)
    names = appearing.get("en", ()) if isinstance(appearing, dict) else ()
    found = []
    for name in names if isinstance(names, list) else ():
        one = described.get(str(name).strip())
        told = one.get("prompt_en") or one.get("prompt_ch") or one.get("prompt_cn") if isinstance(one, dict) else None
        if isinstance(told, str) and told.strip():
            found.append(f"{str(name).strip()} is {told}")
    return found


def _of_msvbench(data: dict[str, Any], faults: Faults) -> Texts:
    texts: Texts = []
    number = 0
    for at, scene in enumerate(data["script"]):
        clips = scene.get("clips") if isinstance(scene, dict) else None
        if not isinstance(clips, list):
            faults.add(f'scene {at + 1} has no list of clips; write "clips": [{{...}}]', path=("script", at))
            continue
        for index, clip in enumerate(clips):
            number += 1
            place, path = f"shot {number}", ("script", at, "clips", index)
            told = clip.get("description") if isinstance(clip, dict) else None
            if not isinstance(told, str) or not told.strip():
                faults.add(f'description is {show(told)}; write "description": "..."', place, path)
                continue
            view = [clip[name] for name in VIEW if isinstance(clip.get(name), str) and clip[name].strip()]
            texts.append((_sentences([", ".join(view), told]), path))
    return texts


def _sentences(parts: list[str]) -> str:
    """Return the parts behind each other, each ended as a sentence is."""
    stripped = [part.strip() for part in parts if part.strip()]
    return " ".join(part if part[-1] in ENDS else f"{part}." for part in stripped)


_READERS = {"Shots": _of_vistorybench, "script": _of_msvbench}
