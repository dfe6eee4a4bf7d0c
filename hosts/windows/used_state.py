"""Give other nodes' functions back as they were: some keep what they have seen from one evaluation to the next.

Core's APG remembers a running average and the last sigma in variables of the function that encloses its own. The MODEL
that carries it is cached by ComfyUI and hashed for a run on disk: what one sampling leaves behind must not change the
next one, or what a chunk depends on. Variables that a function assigns itself are such state; what it only reads was
set by the user.
"""

import dis
import functools
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ..types import ModelPatcher

ASSIGNS = ("STORE_DEREF", "DELETE_DEREF")


@contextmanager
def as_it_was(model: ModelPatcher) -> Iterator[None]:
    """Set back, after a sampling, the variables that functions on a ModelPatcher have assigned."""
    places = (model.model_options, model.wrappers, model.callbacks, model.object_patches)
    before = [(cell, cell.cell_contents) for cell in _assigned(places, set())]
    try:
        yield
    finally:
        for cell, contents in before:
            cell.cell_contents = contents


def _assigned(value: object, seen: set[int]) -> Iterator[types.CellType]:
    """Yield the cells that the functions in `value` assign, in containers and in what they enclose."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _assigned(item, seen)
    elif isinstance(value, functools.partial):
        yield from _assigned([value.func, *value.args, value.keywords], seen)
    elif isinstance(value, types.MethodType):
        yield from _assigned(value.__func__, seen)
    elif isinstance(value, types.FunctionType) and value.__closure__:
        own = {step.argval for step in dis.get_instructions(value.__code__) if step.opname in ASSIGNS}
        for name, cell in zip(value.__code__.co_freevars, value.__closure__, strict=True):
            try:
                contents = cell.cell_contents
            except ValueError:  # it is empty yet
                continue
            if name in own and id(cell) not in seen:
                seen.add(id(cell))
                yield cell
            yield from _assigned(contents, seen)
