"""Check a storyboard's text and plan it for a model family: all mistakes where they stand, or the plan's rows.

The text is read by the parser that the node reads it with (engine/storyboard/board.py) and planned as Longreel Plan
plans it (engine/plan/asked.py), with the usual facts of a family: no model is loaded. Of the files that shots
name, only whether they are there is looked at. A loaded model's own sizes and memory are not known here.
"""

import time
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import folder_paths

from ...engine.plan.asked import Asked, plan_as_asked
from ...engine.plan.facts import ModelFacts
from ...engine.plan.rows import plan_rows
from ...engine.storyboard.board import Storyboard, parse_storyboard
from ...engine.storyboard.faults import Fault, StoryboardError
from ...engine.storyboard.media import resolve_media
from ..families import usual_facts
from ..prompts.shot_lora import find_lora
from ..prompts.sound_file import find_audio

SECONDS = 1.0  # that a plan may take; Longreel Plan itself has no limit
RANGES = {  # of the inputs of Longreel Plan, both included
    "width": (0, 16384),
    "height": (0, 16384),
    "segment_frames": (0, 4097),
    "overlap_frames": (-1, 4096),
    "transition_prompts": (0, 16),
}


class WrongQuestion(ValueError):
    """Say what about a question is not as it should be; its author is a program."""


def check_storyboard(question: Any) -> dict[str, Any]:
    """Return the mistakes of a storyboard's text, or its plan.

    question: {"text": str, "plan": {"family": name or "", "width": pixels, ...} or null}, the keys of RANGES each
    optional. The answer: {"mistakes": [...], "more": count, "plan": engine/plan/rows.plan_rows or null, "refused": why
    there is no plan, "families": names}. A mistake is {"shot": number from 1 or null, "path": keys in a storyboard of
    version 1, "line": number from 1 or null, "place", "text", "message": the sentence that the node says}.

    Raises WrongQuestion for anything else.
    """
    if not isinstance(question, Mapping) or not isinstance(question.get("text"), str):
        raise WrongQuestion('the question is no object with a "text"; send {"text": "...", "plan": null}')
    wanted = question.get("plan")
    if wanted is not None and not isinstance(wanted, Mapping):
        raise WrongQuestion("plan is neither an object nor null; send the inputs of Longreel Plan, or null")
    facts, asked = (None, Asked()) if wanted is None else (_facts(wanted), _asked(wanted))
    answer = {"mistakes": [], "more": 0, "plan": None, "refused": "", "families": list(usual_facts())}
    folder = folder_paths.get_input_directory()
    try:
        checks = {"anchors": lambda image: resolve_media(image, folder), "lora": find_lora, "audio": find_audio}
        storyboard = parse_storyboard(question["text"], checks)
    except StoryboardError as error:
        return {**answer, "mistakes": [_mistake(one) for one in error.faults], "more": error.more}
    if facts is None:
        return answer
    try:
        return {**answer, "plan": _plan(storyboard, facts, asked)}
    except ValueError as error:
        return {**answer, "refused": str(error)}


def _plan(storyboard: Storyboard, facts: ModelFacts, asked: Asked) -> dict[str, Any]:
    end = time.monotonic() + SECONDS

    def check_time() -> None:
        if time.monotonic() > end:
            raise ValueError(f"this plan takes longer than {SECONDS:g} s; Longreel Plan makes it when it runs")

    return plan_rows(plan_as_asked(storyboard, facts, asked, check_time), asked.size(storyboard))


def _mistake(fault: Fault) -> dict[str, Any]:
    path = fault.board_path
    in_shot = len(path) > 1 and path[0] == "shots" and isinstance(path[1], int)
    return {
        "shot": int(path[1]) + 1 if in_shot else None,
        "path": list(path),
        "line": fault.line,
        "place": fault.place,
        "text": fault.text,
        "message": str(fault),
    }


def _facts(wanted: Mapping[str, Any]) -> ModelFacts | None:
    known, name = usual_facts(), wanted.get("family", "")
    if name == "":
        return None
    if not isinstance(name, str) or name not in known:
        raise WrongQuestion(f"family is {name!r:.80}; send one of {', '.join(known)}")
    return known[name]


def _asked(wanted: Mapping[str, Any]) -> Asked:
    defaults = {one.name: one.default for one in fields(Asked)}
    found = {name: wanted.get(name, default) for name, default in defaults.items()}
    for name, value in found.items():
        low, high = RANGES[name]
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise WrongQuestion(f"{name} is {value!r:.80}; send a whole number from {low} to {high}")
    return Asked(**found)
