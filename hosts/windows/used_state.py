"""Give core's functions back as they were: some keep what they have seen from one evaluation to the next.

Core's APG remembers a running average and the last sigma in variables of the function that encloses its own, its
PerpNeg replaces the entries of the list of prompts that its function encloses. The MODEL that carries them is cached by
ComfyUI and hashed for a run on disk: what one sampling leaves behind must not change the next one, or what a chunk
depends on. Variables that a function assigns itself are such state, and so is what lies in the lists and dicts that it
encloses; what else it encloses was set by the user. Functions of other packs are left alone: what they collect, such
as maps of attention, is read by those packs afterwards.
"""

import dis
import os
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import comfy.model_patcher

from ..types import ModelPatcher

ROOT = Path(comfy.model_patcher.__file__).parents[1]
OF_CORE = tuple(f"{ROOT / folder}{os.sep}" for folder in ("comfy", "comfy_extras"))  # ComfyUI names modules by paths
ASSIGNS = ("STORE_DEREF", "DELETE_DEREF")


@contextmanager
def as_it_was(model: ModelPatcher) -> Iterator[None]:
    """Set back, after a sampling, what functions of core on a ModelPatcher have assigned and filled."""
    places = (model.model_options, model.wrappers, model.callbacks, model.object_patches)
    set_back = list(_state(places, {}, enclosed=False))
    try:
        yield
    finally:
        for one in set_back:
            one()


def _state(value: object, seen: dict[int, object], enclosed: bool) -> Iterator[Callable[[], object]]:
    """Yield what sets back each cell that core's functions in `value` assign, and each list and dict they enclose."""
    if id(value) in seen:
        return
    seen[id(value)] = value  # held, so that nothing else gets its number
    if isinstance(value, dict):
        if enclosed:
            yield partial(_refill, value, dict(value))
        value = tuple(value.values())
    if isinstance(value, (list, tuple)):
        if enclosed and isinstance(value, list):
            yield partial(value.__setitem__, slice(None), list(value))
        for item in value:
            yield from _state(item, seen, enclosed)
    elif isinstance(value, partial):
        yield from _state((value.func, *value.args, value.keywords), seen, enclosed)
    elif isinstance(value, types.MethodType):
        yield from _state(value.__func__, seen, enclosed)
    elif isinstance(value, types.FunctionType) and value.__closure__:
        is_core = value.__code__.co_filename.startswith(OF_CORE)
        steps = dis.get_instructions(value.__code__) if is_core else ()
        own = {step.argval for step in steps if step.opname in ASSIGNS}
        for name, cell in zip(value.__code__.co_freevars, value.__closure__, strict=True):
            try:
                contents = cell.cell_contents
            except ValueError:  # it is empty yet
                continue
            if name in own and id(cell) not in seen:
                seen[id(cell)] = cell
                yield partial(setattr, cell, "cell_contents", contents)
            yield from _state(contents, seen, enclosed=is_core)


def _refill(held: dict, before: dict) -> None:
    held.clear()
    held.update(before)
