"""Go back through groups of chunks in plain torch as one CUDA graph, for what no kernel goes back through.

A group of 16 chunks launches some thousand small operations, which take the GPU less time than the host needs to ask
for them. Recorded once for each size of a group, and replayed with other numbers, the host asks for one. A graph holds
its group's memory for as long as it lives. It has never run on a GPU: it is tried at first use as kernels are
(first_use.py), and off unless LONGREEL_TTT_GRAPH is 1.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import torch

from .differentiable import by_reference
from .inputs import ScanInputs
from .state import State

MOST = 2  # recorded sizes: a whole group and the last one
Tensors = tuple[torch.Tensor, ...]


class Recording(Protocol):
    """This is work that was done once and is done again by `replay`, in the same memory."""

    def record(self, work: Callable[[], Tensors]) -> Tensors:
        """Do `work` and return its results, whose memory `replay` fills."""

    def replay(self) -> None:
        """Do it again."""


class CudaGraph:
    """This is a CUDA graph of the current device."""

    def record(self, work: Callable[[], Tensors]) -> Tensors:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # what is made at first use (handles, workspaces) cannot be recorded
            work()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        # Other threads, of ComfyUI or of the loader of clips, may go on with what they do.
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            return work()

    def replay(self) -> None:
        self.graph.replay()


class Graphed:
    """This is differentiable.by_reference, recorded for the sizes that come. recording: what makes a new one."""

    def __init__(self, recording: Callable[[], Recording] = CudaGraph):
        self.recording = recording
        self.recorded: dict[tuple, tuple[Recording, Tensors, Tensors]] = {}  # with what is read, and what is filled

    def __call__(self, inputs: ScanInputs, above: torch.Tensor, above_state: Tensors) -> Tensors:
        """Go back through a group, as differentiable.Back says."""
        state = inputs.state.tensors()
        norm = inputs.ln_weight, inputs.ln_bias
        given = (inputs.q, inputs.k, inputs.v, inputs.eta, *norm, *state, above, *above_state)
        key = inputs.chunk, inputs.eps, *((x.shape, x.dtype, x.device) for x in given)
        if key not in self.recorded:
            while len(self.recorded) >= MOST:
                del self.recorded[next(iter(self.recorded))]
            self.recorded[key] = self._record(inputs, given)
        graph, read, filled = self.recorded[key]
        for place, x in zip(read, given, strict=True):
            place.copy_(x)
        graph.replay()
        return tuple(x.clone() for x in filled)

    def _record(self, inputs: ScanInputs, given: Tensors) -> tuple[Recording, Tensors, Tensors]:
        read = tuple(x.detach().clone(memory_format=torch.contiguous_format) for x in given)
        q, k, v, eta, weight, bias, *rest = read
        size = len(inputs.state.tensors())
        plan = replace(
            inputs, q=q, k=k, v=v, eta=eta, ln_weight=weight, ln_bias=bias, state=State(*rest[:size]), index=None
        )
        graph = self.recording()
        return graph, read, graph.record(lambda: by_reference(plan, rest[size], tuple(rest[size + 1 :])))
