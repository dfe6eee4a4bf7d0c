"""What a shot carries beside its prompt: the pictures that it must show, the LoRAs that change the model for it, and
the sound that the network hears.

Each kind is a frozen dataclass with its rules, and CARRIED says how a storyboard writes it under a key of a shot. A new
kind is one more entry; the readers of JSON and CSV and the writers know no kind by its name. Whether a file is there is
not known here: the caller looks it up (engine/storyboard/board.parse_storyboard).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from .fields import MAX_SHOT_SECONDS
from .rules import Media, Number, Rule

MAX_LORA_STRENGTH = 20
MAX_OFFSET_SECONDS = 86_400

CheckFiles = Mapping[str, Callable[[str], Any]]
"""By a key of CARRIED, what is called with the name of each file; it raises StoryboardError where that is none."""


@dataclass(frozen=True)
class Anchor:
    """An anchor is a picture that the video must show: `at` seconds from the shot's start, `image` relative to the
    input folder.
    """

    at: float
    image: str


@dataclass(frozen=True)
class LoRA:
    """A LoRA changes the model for one shot: `file` below the loras folder, `strength` -20 to 20; 0 changes nothing."""

    file: str
    strength: float = 1.0


@dataclass(frozen=True)
class Audio:
    """An audio is the sound that a shot's network hears: `file` relative to the input folder, from `offset` seconds on;
    None goes on where the shot before stops in the same file, or begins at its start.
    """

    file: str
    offset: float | None = None


@dataclass(frozen=True)
class Carried:
    """This is how one key of a shot is written: as a list of objects of a `kind`, or as `single` one of them.

    word: of one of them in a message, "shot 2, anchor 1". example: one as JSON. file, number: the fields that a table
    writes as "file @ number".
    """

    kind: type
    word: str
    owner: str
    example: str
    file: str
    number: str
    rules: Mapping[str, Rule]
    single: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Return the keys of one object, in the order in which they are written."""
        return tuple(one.name for one in fields(self.kind))

    @property
    def needed(self) -> tuple[str, ...]:
        """Return the keys that may not be left out."""
        return tuple(one.name for one in fields(self.kind) if one.default is MISSING)


CARRIED: dict[str, Carried] = {
    "anchors": Carried(
        Anchor,
        word="anchor",
        owner="an anchor",
        example='{"at": 0.0, "image": "ship.png"}',
        file="image",
        number="at",
        rules={
            "at": Number(0, MAX_SHOT_SECONDS, f"write seconds from the start of the shot, 0 to {MAX_SHOT_SECONDS}"),
            "image": Media(),
        },
    ),
    "lora": Carried(
        LoRA,
        word="lora",
        owner="a lora",
        example='{"file": "ink.safetensors", "strength": 1.0}',
        file="file",
        number="strength",
        rules={
            "file": Media("loras", "styles/ink.safetensors"),
            "strength": Number(
                -MAX_LORA_STRENGTH,
                MAX_LORA_STRENGTH,
                f"write a strength from -{MAX_LORA_STRENGTH} to {MAX_LORA_STRENGTH}; 0 changes nothing",
            ),
        },
    ),
    "audio": Carried(
        Audio,
        word="audio",
        owner="an audio",
        example='{"file": "speech.wav", "offset": 0.0}',
        file="file",
        number="offset",
        rules={
            "file": Media("input", "speech/keeper.wav"),
            "offset": Number(
                0, MAX_OFFSET_SECONDS, f"write seconds into the file, 0 to {MAX_OFFSET_SECONDS}", optional=True
            ),
        },
        single=True,
    ),
}
