"""Read and write the scene list of ttt-video: prompts of One-Minute Video Generation with Test-Time Training.

From test-time-training/ttt-video-dit; see docs/ttt.md, Prompts. JSON is a list of videos, each a list of scenes; JSONL
has one such list of scenes on each line. A scene is {"text", "requires_scene_transition" (default false), "neg_text"
(text or null)} and lasts three seconds at 16 frames per second, 720x480. The flag says that a cut stands before the
scene; on the first scene it has no meaning, there and here. Scene marks (<start_scene>, <end_scene>) are not part of
the file: ttt-video's own sampler adds them from the flags, and nothing here does.

The format holds prompts, negatives and cuts. Exporting refuses a storyboard with anything else and names it; style
and the storyboard's negative become part of each scene, and a shot of 3n seconds becomes n scenes. There is no place
for ids, which say nothing of the video: they are left out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, overload

from .board import Shot, Storyboard
from .carried import CARRIED
from .faults import Faults, StoryboardError
from .fields import MAX_SHOTS, PROMPT_RULE, SHOT_RULES
from .json_text import Document, load_document, said_twice
from .keys import check_keys
from .rules import Flag, Rule, has_no_character, show

SCENE_SECONDS = 3.0
SCENE_FPS = 16.0
SCENE_WIDTH, SCENE_HEIGHT = 720, 480
MAX_VIDEOS = 1000
_NAMED_PROBLEMS = 6
_SCENE_RULES: dict[str, Rule] = {
    "text": PROMPT_RULE,
    "requires_scene_transition": Flag(),
    "neg_text": SHOT_RULES["negative"],
}


def parse_ttt(text: str) -> tuple[Storyboard, ...]:
    """Return the storyboards of a JSON or JSONL file, one for each video; see scenes_of."""
    return tuple(scenes_of(load_document(text, "the scene list")))


class Videos(Sequence[Storyboard]):
    """These are the storyboards of a scene list that has been checked; each is made when it is asked for, because a
    list may hold a million scenes.
    """

    def __init__(self, videos: list[list[dict[str, Any]]]) -> None:
        self._videos = videos

    def __len__(self) -> int:
        return len(self._videos)

    @overload
    def __getitem__(self, index: int) -> Storyboard: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Storyboard, ...]: ...

    def __getitem__(self, index: int | slice) -> Storyboard | tuple[Storyboard, ...]:
        if isinstance(index, slice):
            return tuple(map(_storyboard, self._videos[index]))
        return _storyboard(self._videos[index])


def scenes_of(document: Document) -> Videos:
    """Return the storyboards of a document that was read, one for each video; a list of scenes is one, and so are
    scenes that have a line each.

    Raises StoryboardError with all mistakes, each with its line, video, scene, field and remedy.
    """
    data = document.data
    if not isinstance(data, list) or not data:
        raise StoryboardError(f'the scene list is {show(data)}; write [[{{"text": "..."}}]], a list of videos')
    prefix = (0,) * isinstance(data[0], dict)
    videos = [data] if prefix else data
    if len(videos) > MAX_VIDEOS:
        raise StoryboardError(f"the scene list has {len(videos)} videos; the limit is {MAX_VIDEOS}: split the file")
    faults = Faults()
    for path in document.doubled:
        faults.add(said_twice(path), path=(*prefix, *path))
    for number, scenes in enumerate(videos):
        _check_video(scenes, number, faults)
    try:
        faults.stop()
    except StoryboardError as error:
        inner = error.changed(lambda fault: replace(fault, path=fault.path[len(prefix) :]))
        raise inner.located(document.lines_of) from error
    return Videos(videos)


def to_ttt_json(storyboards: Sequence[Storyboard]) -> str:
    """Return JSON, a list of videos. Raises StoryboardError that names all that the format cannot hold."""
    return json.dumps([_scenes(one) for one in storyboards], ensure_ascii=False, indent=2) + "\n"


def to_ttt_jsonl(storyboards: Sequence[Storyboard]) -> str:
    """Return JSONL, one video on each line. Raises StoryboardError that names all that the format cannot hold."""
    return "".join(json.dumps(_scenes(one), ensure_ascii=False) + "\n" for one in storyboards)


def _check_video(scenes: Any, number: int, faults: Faults) -> None:
    place = f"video {number + 1}"
    if not isinstance(scenes, list) or not scenes:
        faults.add(f'{place} is {show(scenes)}, not a list of scenes; write [{{"text": "..."}}]', path=(number,))
        return
    if len(scenes) > MAX_SHOTS:
        faults.add(f"{place} has {len(scenes)} scenes; the limit is {MAX_SHOTS}: split it into several", path=(number,))
        return
    for index, scene in enumerate(scenes):
        if not _is_plain(scene) and not faults.full:
            _check_scene(scene, number, index, faults)


def _is_plain(scene: Any) -> bool:
    """Tell at a glance that a scene is right; one that is not need not be wrong."""
    if not isinstance(scene, dict) or not scene.keys() <= _SCENE_RULES.keys():
        return False
    text, cut, negative = scene.get("text"), scene.get("requires_scene_transition", False), scene.get("neg_text", "")
    return (
        isinstance(text, str)
        and isinstance(negative, str | None)
        and isinstance(cut, bool)
        and max(len(text), len(negative or "")) <= PROMPT_RULE.longest
        and bool(text.strip())
        and not has_no_character(text)
        and not has_no_character(negative or "")
    )


def _check_scene(scene: Any, number: int, index: int, faults: Faults) -> None:
    place, path = f"video {number + 1}, scene {index + 1}", (number, index)
    if not isinstance(scene, dict):
        faults.add(f'{place} is {show(scene)}, not a scene; write {{"text": "..."}}', path=path)
        return
    meant = check_keys(scene, _SCENE_RULES, faults, place=place, path=path, owner="a scene")
    if "text" not in scene and "text" not in meant:
        faults.add(f'text is missing; add "text" to {place}', place, path)
    for name, rule in _SCENE_RULES.items():
        if name in scene:
            faults.read(rule, scene[name], name, place, (*path, name))


def _storyboard(scenes: list[dict[str, Any]]) -> Storyboard:
    shots = tuple(
        Shot(
            prompt=scene["text"],
            seconds=SCENE_SECONDS,
            transition="cut" if scene.get("requires_scene_transition", False) else "continue",
            negative=scene.get("neg_text"),
        )
        for scene in scenes
    )
    return Storyboard(shots, fps=SCENE_FPS, width=SCENE_WIDTH, height=SCENE_HEIGHT)


def _scenes(storyboard: Storyboard) -> list[dict[str, Any]]:
    problems = _problems(storyboard)
    if problems:
        named = "; ".join(problems[:_NAMED_PROBLEMS])
        more = f"; and {len(problems) - _NAMED_PROBLEMS} more" if len(problems) > _NAMED_PROBLEMS else ""
        raise StoryboardError(f"ttt-video cannot hold {named}{more}")
    scenes = []
    for shot in storyboard.shots:
        inherits = shot.negative is None and not storyboard.negative
        for part in range(round(shot.seconds / SCENE_SECONDS)):
            scenes.append(
                {
                    "text": storyboard.prompt_of(shot),
                    "requires_scene_transition": shot.transition == "cut" and part == 0,
                    "neg_text": None if inherits else storyboard.negative_of(shot),
                }
            )
    return scenes


def _problems(storyboard: Storyboard) -> list[str]:
    """Return what the format cannot hold, each with its remedy in brackets."""
    found = []
    if storyboard.title:
        found.append(f"title {show(storyboard.title)} (remove it)")
    if storyboard.fps != SCENE_FPS:
        found.append(f"fps {show(storyboard.fps)} (use {show(SCENE_FPS)})")
    if (storyboard.width, storyboard.height) != (SCENE_WIDTH, SCENE_HEIGHT):
        found.append(f"size {storyboard.width}x{storyboard.height} (use width {SCENE_WIDTH}, height {SCENE_HEIGHT})")
    if storyboard.seed is not None:
        found.append(f"seed {storyboard.seed} (remove it)")
    for index, shot in enumerate(storyboard.shots):
        found += [f"shot {index + 1}: {problem}" for problem in _shot_problems(storyboard, shot)]
    scenes = sum(shot.seconds for shot in storyboard.shots) / SCENE_SECONDS
    if scenes > MAX_SHOTS:
        found.append(f"{show(scenes)} scenes (use at most {MAX_SHOTS}, {show(MAX_SHOTS * SCENE_SECONDS)} seconds)")
    return found


def _shot_problems(storyboard: Storyboard, shot: Shot) -> list[str]:
    found = []
    if shot.seconds % SCENE_SECONDS != 0:
        found.append(f"seconds {show(shot.seconds)} (use a multiple of {show(SCENE_SECONDS)})")
    if shot.transition == "blend":
        found.append('transition "blend" (use "continue" or "cut")')
    if shot.strength != Shot.strength:
        found.append(f"strength {show(shot.strength)} (use {show(Shot.strength)})")
    found += [
        f"{name} (remove it)"
        for name in ("focus", "seed", *CARRIED, "locked")
        if getattr(shot, name) != getattr(Shot, name)
    ]
    longest = PROMPT_RULE.longest
    if len(storyboard.prompt_of(shot)) > longest:
        found.append(f"prompt with style of {len(storyboard.prompt_of(shot))} characters (use at most {longest})")
    return found
