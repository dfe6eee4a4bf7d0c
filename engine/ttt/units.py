"""Group the parts of a network whose weights are needed at the same time, and the calls around which it is known when.

A `Unit` computes nothing: it holds modules and evaluates what it is given. Hooks on its calls see when the weights in
it are needed and when they no longer are, also in the backward pass; so several processes that train can divide them
(training/shards.py) without knowing the network, whose own modules keep their classes, their forwards and the patches
of other nodes. Who holds which modules is said by whoever evaluates them.
"""

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn


class Unit(nn.Module):
    """A unit is one such group. parts: modules that are evaluated within its calls alone. inner: units whose calls lie
    within its own, and which hold some of those modules.
    """

    def __init__(self, parts: Iterable[nn.Module], inner: Iterable["Unit"] = ()):
        super().__init__()
        self.parts, self.inner = nn.ModuleList(parts), nn.ModuleList(inner)

    def forward(self, evaluate: Callable, *args: Any, **kwargs: Any) -> Any:
        """Return evaluate(*args, **kwargs). Tensors that gradients flow through on their way in must be among its
        arguments, one at least, and those on their way out its result, a new tensor or a tuple of such.
        """
        return evaluate(*args, **kwargs)
