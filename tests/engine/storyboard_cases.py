"""Storyboards for the storyboard tests: hypothesis strategies over everything that a storyboard may say."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from longreel.engine.storyboard.board import Anchor, Shot, Storyboard, parse_storyboard
from longreel.engine.storyboard.carried import Audio, LoRA
from longreel.engine.storyboard.faults import StoryboardError
from longreel.engine.storyboard.fields import MAX_SEED, MAX_SHOT_SECONDS, TRANSITIONS

# A busy machine draws slowly; that is no fault of the storyboard.
relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
# Marks that CSV, spreadsheets and path rules care about turn up often.
marks = st.sampled_from([*list("'\"|@[]{},;=+-/\t\n\r .0129aZ"), "TRUE", "1/2", "1e5", " @ ", " | ", "''"])
rare = st.sampled_from("灯🦊\u2028\ufeff\uffff")
characters = st.one_of(st.characters(min_codepoint=1, max_codepoint=0x4FF), rare)
texts = st.lists(st.one_of(marks, characters), max_size=12).map("".join)
filled = texts.filter(str.strip)
seeds = st.one_of(st.none(), st.integers(0, MAX_SEED), st.integers(MAX_SEED - 3, MAX_SEED))
seconds = st.one_of(
    st.integers(1, MAX_SHOT_SECONDS).map(float), st.floats(0, MAX_SHOT_SECONDS, exclude_min=True, allow_nan=False)
)
name_ends = st.sampled_from(list("a0é'[|@=#~-_"))
names = st.tuples(st.text(st.sampled_from(list("a0é .'[]|@=\"%")), max_size=5), name_ends).map("".join)
shot_ids = st.text(st.sampled_from(list("aZ09.,-/'=+@[| é灯")), min_size=1, max_size=6).map(str.strip).filter(bool)
images = st.lists(names, min_size=1, max_size=3).map("/".join)


@st.composite
def shots(draw: st.DrawFn, before: float | None, style: str) -> Shot:
    length = draw(seconds)
    transition = draw(st.sampled_from(TRANSITIONS))
    longest = min(length, before or math.inf)
    overlaps = st.one_of(st.none(), st.floats(0, longest, exclude_min=True))
    audio = st.builds(Audio, file=images, offset=st.one_of(st.none(), st.floats(0, 86_400)))
    lora = st.builds(LoRA, file=images, strength=st.floats(-20, 20))
    anchor = st.builds(Anchor, at=st.floats(0, length), image=images)
    prompt = draw(filled)
    pieces = [piece for piece in (*prompt.split(" "), *style.split(" "), prompt[:200]) if piece.strip()]
    return Shot(
        prompt=prompt,
        seconds=length,
        transition=transition,
        overlap_seconds=draw(overlaps) if transition == "blend" else None,
        focus=tuple(draw(st.lists(st.sampled_from(pieces), max_size=3))),
        seed=draw(seeds),
        strength=draw(st.floats(0, 10)),
        negative=draw(st.one_of(st.none(), texts)),
        anchors=tuple(draw(st.lists(anchor, max_size=3))),
        locked=draw(st.booleans()),
        lora=tuple(draw(st.lists(lora, max_size=2))),
        audio=draw(st.one_of(st.none(), audio)),
    )


@st.composite
def storyboards(draw: st.DrawFn) -> Storyboard:
    style = draw(texts)
    found: list[Shot] = []
    for _ in range(draw(st.integers(1, 4))):
        found.append(draw(shots(found[-1].seconds if found else None, style)))
    ids = draw(st.one_of(st.none(), st.lists(st.one_of(st.none(), shot_ids), min_size=4, max_size=4)))
    if ids and len({one for one in ids if one}) == sum(one is not None for one in ids):
        found = [replace(shot, id=one) for shot, one in zip(found, ids, strict=False)]
    return Storyboard(
        shots=tuple(found),
        title=draw(texts),
        fps=draw(st.floats(0, 240, exclude_min=True)),
        width=draw(st.integers(16, 16384)),
        height=draw(st.integers(16, 16384)),
        seed=draw(seeds),
        style=style,
        negative=draw(texts),
    )


SCHEMA = json.loads((Path(__file__).parents[2] / "web" / "storyboard.schema.json").read_text(encoding="utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)


def fault(text: str) -> str:
    """The reader's error, or "" when it accepts the text."""
    try:
        parse_storyboard(text)
    except StoryboardError as error:
        return str(error)
    return ""


def one(**changes: Any) -> str:
    """A storyboard of one shot with these fields."""
    return json.dumps({"longreel": 1, "shots": [{"prompt": "a fox", "seconds": 3} | changes]})


def board(**changes: Any) -> str:
    return json.dumps({"longreel": 1, "shots": [{"prompt": "a", "seconds": 3}]} | changes)
