"""Read and write the scene list of ttt-video: prompts of One-Minute Video Generation with Test-Time Training.

From test-time-training/ttt-video-dit; see docs/ttt.md, Prompts. JSON is a list of videos, each a list of scenes; JSONL
has one such list of scenes on each line. A scene is {"text", "requires_scene_transition" (default false), "neg_text"
(text or null)} and lasts three seconds at 16 frames per second, 720x480. The flag says that a cut stands before the
scene; on the first scene it has no meaning, there and here. Scene marks (<start_scene>, <end_scene>) are not part of
the file: the sampler adds them from the flags.

The format holds prompts, negatives and cuts. Exporting refuses a storyboard with anything else and names it; style
and the storyboard's negative become part of each scene, and a shot of 3n seconds becomes n scenes. There is no place
for ids, which say nothing of the video: they are left out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from .board import MAX_SHOTS, MAX_TEXT_CHARACTERS, PROMPT_RULE, SHOT_RULES, Shot, Storyboard, load_json, nearest
from .rules import Flag, Rule, StoryboardError, show, within

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
    """Return the storyboards of a JSON or JSONL file, one for each video. Raises StoryboardError, one line."""
    data = _load(text)
    if not isinstance(data, list) or not data:
        raise StoryboardError(f'the scene list is {show(data)}; write [[{{"text": "..."}}]], a list of videos')
    if isinstance(data[0], dict):
        data = [data]  # one line of JSONL is one video
    if len(data) > MAX_VIDEOS:
        raise StoryboardError(f"the scene list has {len(data)} videos; the limit is {MAX_VIDEOS}: split the file")
    return tuple(_video(scenes, f"video {index + 1}") for index, scenes in enumerate(data))


def to_ttt_json(storyboards: Sequence[Storyboard]) -> str:
    """Return JSON, a list of videos. Raises StoryboardError that names all that the format cannot hold."""
    return json.dumps([_scenes(one) for one in storyboards], ensure_ascii=False, indent=2) + "\n"


def to_ttt_jsonl(storyboards: Sequence[Storyboard]) -> str:
    """Return JSONL, one video on each line. Raises StoryboardError that names all that the format cannot hold."""
    return "".join(json.dumps(_scenes(one), ensure_ascii=False) + "\n" for one in storyboards)


def _load(text: str) -> Any:
    if len(text) <= MAX_TEXT_CHARACTERS:
        lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
        if len(lines) > 1 and all(_whole_list(line) for _, line in lines):
            return [load_json(line, f"line {number} of the scene list") for number, line in lines]
    return load_json(text, "the scene list")


def _whole_list(line: str) -> bool:
    """Tell whether a line is a video on its own, as in JSONL; a line of indented JSON never opens and closes
    its list.
    """
    return line.strip().removeprefix("\ufeff").startswith("[") and line.strip().endswith("]")


def _video(scenes: Any, place: str) -> Storyboard:
    if not isinstance(scenes, list) or not scenes:
        raise StoryboardError(f'{place} is {show(scenes)}, not a list of scenes; write [{{"text": "..."}}]')
    if len(scenes) > MAX_SHOTS:
        raise StoryboardError(f"{place} has {len(scenes)} scenes; the limit is {MAX_SHOTS}: split it into several")
    shots = tuple(_shot(scene, f"{place}, scene {index + 1}") for index, scene in enumerate(scenes))
    return Storyboard(shots=shots, fps=SCENE_FPS, width=SCENE_WIDTH, height=SCENE_HEIGHT)


def _shot(scene: Any, place: str) -> Shot:
    if not isinstance(scene, dict):
        raise StoryboardError(f'{place} is {show(scene)}, not a scene; write {{"text": "..."}}')
    for key in scene:
        if key not in _SCENE_RULES:
            name, known = show(key, bare=True), nearest(key, tuple(_SCENE_RULES))
            raise StoryboardError(f'{place}: {name} is not a known key; did you mean "{known}"?')
    if "text" not in scene:
        raise StoryboardError(f'{place}: text is missing; add "text" to {place}')
    found: dict[str, Any] = {key: _SCENE_RULES[key].read(value, within(place, key)) for key, value in scene.items()}
    return Shot(
        prompt=found["text"],
        seconds=SCENE_SECONDS,
        transition="cut" if found.get("requires_scene_transition", False) else "continue",
        negative=found.get("neg_text"),
    )


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
        for name in ("focus", "seed", "anchors", "locked")
        if getattr(shot, name) != getattr(Shot, name)
    ]
    longest = PROMPT_RULE.longest
    if len(storyboard.prompt_of(shot)) > longest:
        found.append(f"prompt with style of {len(storyboard.prompt_of(shot))} characters (use at most {longest})")
    return found
