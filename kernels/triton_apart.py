"""Scan with TTT-MLP by two kernels, one that learns from chunk to chunk and one that reads many chunks at once.

The scan as one kernel (triton_mlp.py) has a program for each head of each video: 48 on a card of 132 multiprocessors,
and every chunk's reading stands between one step of learning and the next. Here the reading is done beside it, on a
second stream, by the multiprocessors that learning leaves empty: while a piece of the scan is learned, the piece before
is read. Two pieces' weights are kept, `PIECE_BYTES` each at most. Where heads times videos fill the card there is
nothing to gain, and triton_launch.py takes the one kernel. Importing this file imports Triton.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, Protocol

import torch
import triton

from .inputs import ScanInputs
from .launch import Launch, options_of
from .state import State
from .triton_learn import STAGES as LEARN_STAGES
from .triton_learn import WARPS as LEARN_WARPS
from .triton_learn import is_early, learn_mlp
from .triton_read import SLICE, read_mlp
from .triton_read import STAGES as READ_STAGES
from .triton_read import WARPS as READ_WARPS

PIECE_BYTES = 128 * 2**20
NAMES = ("W1", "b1", "W2", "b2")


class Beside(Protocol):
    """This is where reading happens: a second stream, or the same one where there is only one."""

    def run(self, work: Callable[[], None]) -> Any:
        """Do `work` after all that was asked for until now, and return what `wait` takes."""

    def wait(self, done: Any) -> None:
        """Let nothing that is asked for from now on happen before that work is done."""


class AtOnce:
    """This is for devices without streams: work is done when it is asked for."""

    def run(self, work: Callable[[], None]) -> None:
        work()

    def wait(self, done: None) -> None:
        pass


class SecondStream:
    """This is a second stream of a CUDA device beside its current one."""

    def __init__(self, device: torch.device):
        self.main, self.side = torch.cuda.current_stream(device), _side_stream(device)

    def run(self, work: Callable[[], None]) -> torch.cuda.Event:
        self.side.wait_event(self.main.record_event())
        with torch.cuda.stream(self.side):
            work()
            return self.side.record_event()

    def wait(self, done: torch.cuda.Event) -> None:
        self.main.wait_event(done)


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def is_worth_it(inputs: ScanInputs, multiprocessors: int) -> bool:
    """Return whether learning and reading apart leaves a card of so many multiprocessors less idle.

    Not in float32: learning chunks of 64 would take 260 KB of shared memory, which no GPU has.
    """
    B, _, H, D = inputs.q.shape
    halves = inputs.q.element_size() < 4
    return inputs.state.is_mlp and D == 64 and halves and multiprocessors >= B * H


def piece_of(inputs: ScanInputs, most: int = PIECE_BYTES) -> int:
    """Return how many chunks are learned before they are read: as many as `most` bytes keep the weights of, one or
    more.
    """
    B, _, H, D = inputs.q.shape
    return max(1, most // (B * H * (2 * 4 * D * D * inputs.q.element_size() + 4 * (4 * D + D))) - 1)


def scan(
    inputs: ScanInputs, major: int, approx: bool, beside: Beside, piece: int | None = None
) -> tuple[torch.Tensor, State]:
    """Pass over the tokens once, as kernels.scan describes it, on a GPU of compute capability `major`.x.

    piece: chunks that are learned before they are read.
    """
    # Copies are made before the streams part: what is let go of while the other stream reads it may be overwritten.
    inputs = contiguous(inputs)
    tokens = inputs.q.shape[1] if inputs.index is None else inputs.index.numel()
    piece = min(piece or piece_of(inputs), max(1, triton.cdiv(tokens, inputs.chunk)))
    out, end, kept = results(inputs, piece)
    reading: dict[int, Any] = {}  # by which of the two kept weights
    start = list(inputs.state.tensors())
    for number, first in enumerate(range(0, tokens, piece * inputs.chunk)):
        stop, slot = min(tokens, first + piece * inputs.chunk), number % 2
        learn = learning(inputs, major, approx, first, stop, start, end, kept[slot])
        read = reading_of(inputs, approx, first, stop, kept[slot], out)
        if slot in reading:
            beside.wait(reading[slot])
        learn.run()
        reading[slot] = beside.run(read.run)
        start = end
    for done in reading.values():
        beside.wait(done)
    return out, State(*end) if tokens else inputs.state


def results(inputs: ScanInputs, piece: int) -> tuple[torch.Tensor, list[torch.Tensor], list[list[torch.Tensor]]]:
    """Return memory for the outputs, the weights after the scan, and twice the weights before and after a piece's
    chunks.
    """
    q = inputs.q
    # Every token that the scan visits is written; only an index that leaves some out needs zeros there.
    whole = inputs.index is None or inputs.index.numel() == q.shape[1]
    out = (torch.empty if whole else torch.zeros)(q.shape, dtype=q.dtype, device=q.device)
    end = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in inputs.state.tensors()]
    return out, end, [room_for(inputs, piece, q.dtype) for _ in range(2)]


def room_for(inputs: ScanInputs, chunks: int, dtype: torch.dtype) -> list[torch.Tensor]:
    """Return memory for the weights before and after so many chunks: W1 transposed and W2 in dtype, the biases in
    float32, [programs, chunks + 1, ...].
    """
    B, _, H, D = inputs.q.shape
    shapes = (((4 * D, D), dtype), ((4 * D,), torch.float32), ((4 * D, D), dtype), ((D,), torch.float32))
    return [torch.empty(B * H, chunks + 1, *shape, dtype=of, device=inputs.q.device) for shape, of in shapes]


def learning(
    inputs: ScanInputs,
    major: int,
    approx: bool,
    first: int,
    stop: int,
    start: list[torch.Tensor],
    end: list[torch.Tensor],
    kept: list[torch.Tensor],
) -> Launch:
    """Return the launch that learns the tokens `first` to `stop` of the scan; nothing is launched.

    All tensors lie as `contiguous` makes them.
    """
    learned = _of_both(inputs, approx, first, stop, kept) | placed(k=inputs.k, v=inputs.v, eta=inputs.eta)
    learned |= {"once": 1, "EARLY": is_early(major)}
    learned |= {f"{name}_ptr": x for name, x in zip(NAMES, start, strict=True)}
    learned |= {f"{name}_out_ptr": x for name, x in zip(NAMES, end, strict=True)}
    return Launch(learn_mlp, (kept[0].shape[0],), learned, options_of(LEARN_WARPS, LEARN_STAGES))


def reading_of(
    inputs: ScanInputs, approx: bool, first: int, stop: int, kept: list[torch.Tensor], out: torch.Tensor
) -> Launch:
    """Return the launch that reads what `learning` has learned; nothing is launched."""
    read = _of_both(inputs, approx, first, stop, kept) | placed(q=inputs.q, out=out) | {"S": SLICE}
    grid = (kept[0].shape[0], triton.cdiv(stop - first, inputs.chunk))
    return Launch(read_mlp, grid, read, {"num_warps": READ_WARPS, "num_stages": READ_STAGES})


def _of_both(inputs: ScanInputs, approx: bool, first: int, stop: int, kept: list[torch.Tensor]) -> dict[str, Any]:
    """Return the arguments that learning and reading have in common."""
    both = {
        "index_ptr": inputs.index,
        "gamma_ptr": inputs.ln_weight, "beta_ptr": inputs.ln_bias,
        "heads": inputs.q.shape[2], "first": first, "stop": stop, "places": kept[0].shape[1], "eps": inputs.eps,
        "K": inputs.chunk, "D": inputs.q.shape[3], "APPROX": approx,
    }  # fmt: skip
    return both | {f"{name}_kept_ptr": x for name, x in zip(NAMES, kept, strict=True)}


def contiguous(inputs: ScanInputs) -> ScanInputs:
    """Return the inputs as the kernels read them: a head's numbers side by side, all but the tokens contiguous."""
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (inputs.q, inputs.k, inputs.v))
    return replace(
        inputs,
        q=q,
        k=k,
        v=v,
        ln_weight=inputs.ln_weight.contiguous(),
        ln_bias=inputs.ln_bias.contiguous(),
        state=State(*(x.contiguous() for x in inputs.state.tensors())),
        index=None if inputs.index is None else inputs.index.contiguous(),
    )


def placed(**tensors: torch.Tensor) -> dict[str, Any]:
    """Return tensors [B, L, H, ...] with their strides, by the names of a kernel's arguments."""
    found: dict[str, Any] = {}
    for name, x in tensors.items():
        strides = zip(("batch", "token", "head"), x.stride(), strict=False)
        found |= {f"{name}_ptr": x} | {f"{name}_{axis}": stride for axis, stride in strides}
    return found
