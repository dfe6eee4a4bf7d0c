"""A ledger of every tensor that is kept from one evaluation of the network to another: whose it is, and where it lies.

Whoever keeps a tensor notes it once. The ledger holds no tensor alive and decides nothing; it is there to be read, by
the log, by tests that hold the memory plan against it, and by `python dev.py gpu`. One for the whole process, because
what is kept may outlive a sampler's run (an anchor that every chunk reads).
"""

import threading
import weakref
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Line:
    """This tensor is kept. owner: the name of a node. what: in a few words. size_bytes: of its storage."""

    owner: str
    what: str
    size_bytes: int
    device: torch.device
    pinned: bool


class Ledger:
    """Notes tensors as long as they live; two that share a storage count once."""

    def __init__(self) -> None:
        self._noted: dict[int, tuple[weakref.ref, str, str]] = {}
        self._lock = threading.RLock()  # a tensor may die, and be crossed out, while this thread reads

    def note(self, tensor: torch.Tensor, owner: str, what: str) -> torch.Tensor:
        """Write down a tensor that is kept from now on, and return it."""
        key = id(tensor)
        with self._lock:
            self._noted[key] = weakref.ref(tensor, lambda _: self._cross_out(key)), owner, what
        return tensor

    def _cross_out(self, key: int) -> None:
        with self._lock:
            found = self._noted.get(key)
            if found is not None and found[0]() is None:  # else another tensor lives at that address by now
                del self._noted[key]

    def lines(self, owner: str | None = None) -> list[Line]:
        """Return a line for every storage that is alive, of one owner or of all."""
        with self._lock:
            noted = list(self._noted.values())
        lines = {}
        for reference, name, what in noted:
            tensor = reference()
            if tensor is None or (owner is not None and name != owner):
                continue
            storage = tensor.untyped_storage()
            lines[storage._cdata] = Line(name, what, storage.nbytes(), tensor.device, tensor.is_pinned())
        return list(lines.values())

    def bytes_of(self, owner: str | None = None) -> int:
        """Return the bytes that are kept, by one owner or by all, wherever they lie."""
        return sum(line.size_bytes for line in self.lines(owner))


LEDGER = Ledger()
