"""How a node tells ComfyUI before a run that an input is wrong: core wants True, or the reason as text.

The thread that answers the browser waits for it: bounds come before work, headers of files before bodies, and what
reads files or long texts is checked in a thread of its own.

A reason that is returned is listed by core once for every input that `validate_inputs` names, and one that is raised
only once. So a node that names several inputs there raises.

Inputs that belong to a choice (io.DynamicCombo) reach `validate_inputs` only where it takes all inputs, as `**inputs`.
Core then checks none of the node's values, so `check_values` does.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from comfy_api.latest import io


def verdict(check: Callable[[], object]) -> bool | str:
    """True, or the message of the ValueError that `check` raises."""
    try:
        check()
    except ValueError as error:
        return str(error)
    return True


async def verdict_aside(check: Callable[[], object]) -> bool | str:
    """As `verdict`, in a thread of its own, so that ComfyUI goes on answering whatever a file holds."""
    return await asyncio.to_thread(verdict, check)


def check_values(node: type[io.ComfyNode], inputs: Mapping[str, Any]) -> None:
    """Raise ValueError for a number out of its range and a choice that is none, as core does where it looks itself.

    inputs: by id, those of a choice in a dict with it; None, or missing, where the value comes through a wire.
    """
    _check_values(node.define_schema().inputs, inputs)


def _check_values(schema: list[io.Input], inputs: Mapping[str, Any]) -> None:
    for entry in schema:
        value = inputs.get(entry.id)
        if isinstance(entry, io.DynamicCombo.Input):
            options = {option.key: option.inputs for option in entry.options}
            if isinstance(value, dict) and value.get(entry.id) in options:
                _check_values(options[value[entry.id]], value)
            elif not entry.optional:  # core hands over no choice that is no option, nor one from a wire
                raise ValueError(f"{entry.id} is no choice of this node; use {', '.join(options)}")
        elif value is None:
            continue
        elif isinstance(entry, io.Combo.Input) and value not in entry.options:
            raise ValueError(f"{entry.id}: {value!r} not in {list(entry.options)}")  # core's words
        elif isinstance(entry, io.Int.Input | io.Float.Input) and not entry.min <= value <= entry.max:
            raise ValueError(f"{entry.id} is {value}; use {entry.min} to {entry.max}")
