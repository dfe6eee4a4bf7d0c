"""Count the bytes that dispatched operations read and write: what a GPU's memory moves where nothing is fused.

Every operation that torch dispatches is charged what it reads and writes, each tensor once; views cost nothing, and an
expanded tensor what it holds. Matrix products are kept apart: their traffic is not what a fused pass saves. A kernel
that torch does not dispatch (Triton's) is not seen.
"""

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "linear"}
FREE = {"empty", "empty_like", "new_empty", "empty_strided", "_unsafe_view", "lift_fresh", "detach"}


def held(x: torch.Tensor) -> int:
    """The bytes of the numbers of x that differ in place: an expanded axis counts once."""
    return x.element_size() * torch.Size(n for n, s in zip(x.shape, x.stride(), strict=True) if s or n == 0).numel()


class Traffic(TorchDispatchMode):
    """Count within `with Traffic() as traffic: ...`: bytes and calls by operation, products apart."""

    def __init__(self):
        super().__init__()
        self.bytes: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.products = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        schema = operation._schema
        name = schema.name.split("::")[1]
        views = schema.returns and all(r.alias_info and not r.alias_info.is_write for r in schema.returns)
        if views or name in FREE:
            return result
        moved, written = 0, 0
        given = dict(zip((a.name for a in schema.arguments), args, strict=False)) | (kwargs or {})
        for argument in schema.arguments:
            tensors = [x for x in tree_leaves(given.get(argument.name)) if isinstance(x, torch.Tensor)]
            writes = bool(argument.alias_info and argument.alias_info.is_write)
            reads = not (writes and (argument.is_out or name in ("copy_", "fill_", "zero_")))
            moved += sum(held(x) for x in tensors) * (reads + writes)
            written += writes * len(tensors)
        if not written:
            moved += sum(held(x) for x in tree_leaves(result) if isinstance(x, torch.Tensor))
        if name in PRODUCTS:
            self.products += moved
            return result
        self.bytes[name] += moved
        self.calls[name] += 1
        return result

    @property
    def total(self) -> int:
        """Bytes of all that is not a product."""
        return sum(self.bytes.values())
