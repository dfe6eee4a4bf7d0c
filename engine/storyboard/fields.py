"""The fields of a storyboard and of its shots, each with its rule and its limits.

See docs/design.md, The storyboard; web/storyboard.schema.json publishes the same limits. What the fields mean is said
by the classes in engine/storyboard/board.py, what stands in a shot's lists of objects in engine/storyboard/carried.py,
and how a rule reads a value in engine/storyboard/rules.py.
"""

from __future__ import annotations

from .rules import Choice, Flag, Name, Number, Rule, Text

MAX_SHOTS = 1000
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
