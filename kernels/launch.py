"""Hold one launch of a Triton kernel, so that what is launched here can be compiled for GPUs that are not here.

tests/kernels/offline_compile.py reads types, alignments and constants off it. Triton is not imported.
"""

from dataclasses import dataclass
from typing import Any

REGISTERS = 65536  # of a multiprocessor
MOST_REGISTERS = 255  # of a thread


def options_of(warps: int, stages: int) -> dict[str, int]:
    """Return Triton's options for a kernel that has a multiprocessor to itself.

    Told that it may have all registers, the assembler takes them; left to itself it gave sm_80's learner 128 of a
    thread's 255, and spilled twice as much.
    """
    registers = min(MOST_REGISTERS, REGISTERS // (32 * warps))
    return {"num_warps": warps, "num_stages": stages, "maxnreg": registers}


@dataclass(frozen=True)
class Launch:
    """This is one launch of a kernel: its grid, its arguments by name, and Triton's options."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    options: dict[str, int]

    def run(self) -> None:
        """Launch it on the current device and stream."""
        self.kernel[self.grid](**self.arguments, **self.options)
