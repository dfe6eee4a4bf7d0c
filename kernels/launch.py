"""Hold one launch of a Triton kernel, so that what is launched here can be compiled for GPUs that are not here.

tests/kernels/offline_compile.py reads types, alignments and constants off it. Triton is not imported.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Launch:
    """This is one launch of a kernel: its grid, its arguments by name, and Triton's options (num_warps, num_stages)."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    options: dict[str, int]

    def run(self) -> None:
        """Launch it on the current device and stream."""
        self.kernel[self.grid](**self.arguments, **self.options)
