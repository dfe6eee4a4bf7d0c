"""A network's modules, evaluated in part or replaced for a while, by nothing but torch's own means.

Nothing stays changed: hooks and forwards are taken back when the evaluation ends, interrupted or not. Which modules,
and what for, is not known here.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


class Reached(Exception):
    """Cuts a block's evaluation short, with the attention's output."""

    def __init__(self, output: torch.Tensor):
        super().__init__("the evaluation of a block was cut short")
        self.output = output


def output_of(module: torch.nn.Module, evaluate: Callable[[], Any]) -> torch.Tensor:
    """Return what `module` returns in the course of evaluate(), which goes no further."""

    def reached(module: torch.nn.Module, args: tuple, output: torch.Tensor):
        raise Reached(output)

    handle = module.register_forward_hook(reached)
    try:
        return until_reached(evaluate)
    finally:
        handle.remove()


def until_reached(evaluate: Callable[[], Any]) -> torch.Tensor:
    """Return the attention's output that cuts evaluate() short. Raises RuntimeError where none came."""
    try:
        evaluate()
    except Reached as end:
        return end.output
    raise RuntimeError(
        "the attention of a block was never evaluated: another node replaces it; remove that node, or Longreel's TTT "
        "nodes"
    )


@contextmanager
def replaced(module: torch.nn.Module, forward: Callable) -> Iterator[None]:
    """Have `module` run `forward`, and afterwards what it ran before (its class's, or a patch's)."""
    before = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before
