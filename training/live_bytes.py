"""Count the bytes of the tensors that an operation makes: alive now, and at most. Deterministic, any device.

Every storage that a torch operation returns is followed until it is freed, whoever holds it: a Python name, the
autograd graph, a checkpoint. What was there before is not counted, nor is what an operation uses inside itself.
"""

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Count within `with LiveBytes() as memory: ...`; then `memory.alive` and `memory.peak` are in bytes."""

    def __init__(self, *before: torch.Tensor):
        """Begin to count. before: tensors that exist already, of which a view is nothing new."""
        super().__init__()
        self.alive = self.peak = 0
        self._followed = {self._address(x) for x in before}

    def __torch_dispatch__(self, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        for x in tree_leaves(result):
            if isinstance(x, torch.Tensor) and self._address(x) not in self._followed:
                storage = x.untyped_storage()
                self._followed.add(self._address(x))
                self.alive += storage.nbytes()
                weakref.finalize(storage, self._freed, self._address(x), storage.nbytes())
        self.peak = max(self.peak, self.alive)
        return result

    def _freed(self, address: int, size: int) -> None:
        self._followed.discard(address)
        self.alive -= size

    @staticmethod
    def _address(x: torch.Tensor) -> int:
        return x.untyped_storage()._cdata
