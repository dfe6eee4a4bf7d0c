"""Settings of a whole node under one name: what a paper uses, and what was measured to do what people want.

A preset replaces the values of the inputs that it names and of no others. CUSTOM replaces none, and is what graphs from
before presets mean: for those the schema cannot tell a missing value from a new node, so it is the default.
"""

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io

from ..engine.attention.kv_share import ALIGNED, BEFORE, EXTEND, FIRST, PREVIOUS, REPLACE
from ..hosts.features.kv_share import FAST, PAPER
from ..hosts.memory.long_memory import BEFORE as ANCHOR_BEFORE
from ..hosts.memory.long_memory import TAKE, VIDEO

CUSTOM = "custom"
Preset = Mapping[str, Any]

KV_SHARE: dict[str, Preset] = {
    "paper": {  # DiTCtrl's code: its last 5 of 30 layers, its steps 2 to 24 of 50
        "mode": PAPER, "source": {"source": PREVIOUS}, "join": REPLACE, "placement": ALIGNED, "strength": 1.0,
        "share_text": True, "layers": "last 1/6", "start_percent": 0.04, "end_percent": 0.5,
    },
    "same subject in every shot": {  # the best row of `bench kv_share` on the demo model
        "mode": FAST, "source": {"source": FIRST}, "join": EXTEND, "placement": BEFORE, "strength": 1.0,
        "share_text": False, "layers": "all", "start_percent": 0.0, "end_percent": 1.0,
    },
}  # fmt: skip
LONG_MEMORY: dict[str, Preset] = {
    "same scene throughout": {  # the last row of `bench rollout` on the demo model
        "anchor": VIDEO, "frames": 2, "placement": ANCHOR_BEFORE, "strength": 1.0, "layers": "all", "statistics": 0.5,
    },
    "new scene after each cut": {
        "anchor": TAKE, "frames": 2, "placement": ANCHOR_BEFORE, "strength": 1.0, "layers": "all", "statistics": 0.5,
    },
    "colours only": {
        "anchor": VIDEO, "frames": 2, "placement": ANCHOR_BEFORE, "strength": 0.0, "layers": "all", "statistics": 1.0,
    },
}  # fmt: skip


def preset_input(presets: Mapping[str, Preset], tooltip: str) -> io.Combo.Input:
    """Return the input `preset`, to be appended to a node whose own settings are advanced inputs."""
    custom = f" {CUSTOM}: the settings under the advanced inputs."
    return io.Combo.Input(
        "preset", options=[CUSTOM, *presets], default=CUSTOM, optional=True, tooltip=tooltip + custom
    )  # fmt: skip


def with_preset(presets: Mapping[str, Preset], preset: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs that hold: those of the preset, and what it says nothing of as it was given.

    Raises ValueError for a preset that there is not.
    """
    if preset not in (CUSTOM, *presets):
        raise ValueError(f"preset: {preset!r} not in {[CUSTOM, *presets]}")  # core's words
    return {**given, **presets.get(preset, {})}
