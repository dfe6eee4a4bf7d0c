"""Plan what a run will cost, before it starts: tokens, memory and time of every stage, from one step that is really
made.

The step is one forward and backward pass of the first micro-batch of the next stage, and changes nothing. The other
stages are estimated from it, in proportion to videos and tokens: attention is local to a segment and TTT is linear, so
both grow with the video. Memory is a peak: the allocator's on a GPU, and on a CPU, where there is no such number, that
of the bytes of all tensors that operations return. Time for encoding, checkpoints and validation is not known here.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from .live_bytes import LiveBytes
from .stages import Stage


@dataclass(frozen=True)
class Measured:
    """This is what a forward and backward pass of a micro-batch took: seconds, and bytes that were needed beyond those
    of the weights.
    """

    seconds: float
    bytes: int


NOTHING_MEASURED = Measured(0.0, 0)  # of a run that is at its end


@dataclass(frozen=True)
class PlannedStage:
    """This is a stage as planned. steps: that are left. videos: parts of clips that it trains on. latent_frames,
    tokens: of one video. parameters: that it trains.
    """

    stage: Stage
    steps: int
    videos: int
    latent_frames: int
    tokens: int
    parameters: int


@dataclass(frozen=True)
class Plan:
    """This is the plan of a run. stages: those that are left, none of a run at its end. measured: of the first of them,
    zeros at the end. done: steps that the run has made. micro_batch, processes: how a batch is shown. state_bytes: of
    weights, averages and moments, as a checkpoint holds them.
    """

    stages: tuple[PlannedStage, ...]
    measured: Measured
    micro_batch: int
    processes: int
    state_bytes: int
    device: str
    done: int = 0

    def seconds_of_step(self, number: int) -> float:
        """Return the seconds of a step of stage `number`, counted from 0: measured for the first, estimated for the
        others.
        """
        videos = self.stages[number].stage.batch / self.processes
        return self.measured.seconds / self._at_once(0) * videos * self._share(number)

    def bytes_of_step(self, number: int) -> int:
        return round(self.measured.bytes / self._at_once(0) * self._at_once(number) * self._share(number))

    def _at_once(self, number: int) -> int:
        """Return the videos that a process shows the model at once."""
        return min(self.micro_batch, self.stages[number].stage.batch // self.processes)

    def _share(self, number: int) -> float:
        return self.stages[number].tokens / self.stages[0].tokens

    @property
    def seconds(self) -> float:
        """Return the seconds of all steps that are left."""
        return sum(planned.steps * self.seconds_of_step(number) for number, planned in enumerate(self.stages))

    def text(self) -> str:
        """Return a table for people."""
        if not self.stages:
            return f"all {self.done:,} steps are made"
        head = (
            "stage",
            "segments",
            "latent frames",
            "tokens",
            "videos",
            "batch",
            "steps left",
            "trained",
            "peak memory",
            "time per step",
            "all steps",
        )
        rows = [head]
        for number, planned in enumerate(self.stages):
            stage, about = planned.stage, "" if number == 0 else "~"
            rows.append(
                (
                    stage.name,
                    str(stage.segments),
                    str(planned.latent_frames),
                    f"{planned.tokens:,}",
                    str(planned.videos),
                    str(stage.batch),
                    f"{planned.steps:,}",
                    f"{planned.parameters / 1e6:,.2f} M",
                    f"{about}{_bytes(self.bytes_of_step(number))}",
                    f"{about}{_time(self.seconds_of_step(number))}",
                    f"{about}{_time(planned.steps * self.seconds_of_step(number))}",
                )
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=False)) for row in rows]
        lines.append(
            f"measured on one step of stage {self.stages[0].stage.name} on {self.device}, micro-batch "
            f"{self.micro_batch}, processes {self.processes}; ~ is estimated from it"
        )
        parts = f"; each of {self.processes} processes keeps its part" if self.processes > 1 else ""
        lines.append(
            f"weights, averages and moments: {_bytes(self.state_bytes)}, as much for each checkpoint on disk{parts}"
        )
        if self.done:
            lines.append(f"goes on after {self.done:,} steps")
        return "\n".join(lines)


def measure(step: Callable[[], None], device: torch.device) -> Measured:
    """Measure a step. step: one forward and backward pass; made twice, for the first compiles and tunes kernels, and
    the second is timed.
    """
    if device.type != "cuda":
        with LiveBytes() as memory:
            step()
        began = time.perf_counter()
        step()
        return Measured(time.perf_counter() - began, memory.peak)
    step()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before, began = torch.cuda.memory_allocated(device), time.perf_counter()
    step()
    torch.cuda.synchronize(device)
    return Measured(time.perf_counter() - began, torch.cuda.max_memory_allocated(device) - before)


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} GiB"


def _time(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
