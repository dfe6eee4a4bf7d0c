"""Core's own nodes, found by what they hand out, and called with what a graph of a tiny model would wire into them.

Every node that core has is looked at, so that a new one takes part in the tests without being listed. One whose inputs
cannot be had here (a ControlNet, a file of weights) is left out by the kind of that input.
"""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from tests.comfy_inprocess import import_comfyui

SIMPLE = {"INT": 1, "FLOAT": 1.0, "STRING": "", "BOOLEAN": False}


class NotHere(Exception):
    """An input of a kind that no tiny model has."""


def mappings() -> dict[str, type]:
    """Core's nodes by id, with those of comfy_extras."""
    nodes = import_comfyui()
    if "EasyCache" not in nodes.NODE_CLASS_MAPPINGS:
        asyncio.run(nodes.init_extra_nodes(init_custom_nodes=False, init_api_nodes=False))
    return nodes.NODE_CLASS_MAPPINGS


def outputs(cls: type) -> list[str]:
    return [str(getattr(kind, "io_type", kind)) for kind in cls.RETURN_TYPES]


def inputs(cls: type) -> dict[str, tuple]:
    asked = cls.INPUT_TYPES()
    return {**asked.get("required", {}), **asked.get("optional", {})}


def that_patch(kind: str) -> Iterator[str]:
    """Ids of the nodes that take a `kind` and hand one out."""
    for name, cls in sorted(mappings().items()):
        if kind in outputs(cls) and kind in [asked[0] for asked in inputs(cls).values()]:
            yield name


def call(name: str, given: Mapping[str, Any], **own: Any) -> dict[str, Any]:
    """What a node hands out, by kind (the first of each).

    given: by kind of input; own: by name of input. The rest are defaults. Raises NotHere for an input of another kind.
    """
    cls = mappings()[name]
    asked, wired = cls.INPUT_TYPES(), {}
    for key, spec in asked.get("required", {}).items():
        wired[key] = own[key] if key in own else _default(spec, given)
    for key, spec in asked.get("optional", {}).items():
        if key in own or spec[0] in given:
            wired[key] = own[key] if key in own else given[spec[0]]
    with torch.inference_mode():
        if str(cls.FUNCTION).startswith("EXECUTE"):
            made = cls.EXECUTE_NORMALIZED(**wired)
            made = made.args if made.args else made.result
        else:
            made = getattr(cls(), cls.FUNCTION)(**wired)
    found: dict[str, Any] = {}
    for kind, value in zip(outputs(cls), made, strict=False):
        found.setdefault(kind, value)
    return found


def _default(spec: tuple, given: Mapping[str, Any]) -> Any:
    kind, options = spec[0], spec[1] if len(spec) > 1 else {}
    if isinstance(kind, str) and kind in given:
        return given[kind]
    choices = kind if isinstance(kind, list) else options.get("options") if kind == "COMBO" else None
    if choices is not None:
        if not choices:
            raise NotHere("a file that is not there")
        return options.get("default", choices[0])
    if kind in SIMPLE:
        return options.get("default", options.get("min", SIMPLE[kind]))
    raise NotHere(kind)
