"""Time and weigh work on the device that is measured: the GPU where there is one, else the CPU."""

import resource
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


def device() -> torch.device:
    """Where measured tensors live."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def require_gpu(rehearse: bool) -> None:
    """Raise RuntimeError where sizes are true and there is no GPU, which would take hours and all memory."""
    if not rehearse and not torch.cuda.is_available():
        raise RuntimeError("torch sees no GPU; use --rehearse to run everything at toy size on the CPU")


def finish() -> None:
    """Wait until the GPU has done what it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(work: Callable[[], object]) -> float:
    """Seconds of one piece of work, the GPU's included."""
    finish()
    started = time.perf_counter()
    work()
    finish()
    return time.perf_counter() - started


def milliseconds(work: Callable[[], object], rounds: int) -> float:
    """Median of `rounds`, after one to warm up, the GPU's work included."""
    work()
    return 1e3 * statistics.median(seconds(work) for _ in range(rounds))


@contextmanager
def peak() -> Iterator[dict[str, int]]:
    """Fill a dict with the block's peak bytes: of the allocator on a GPU, of the whole process on a CPU."""
    found: dict[str, int] = {}
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    yield found
    if torch.cuda.is_available():
        finish()
        found["bytes before"] = before
        found["peak bytes"] = torch.cuda.max_memory_allocated()
    else:
        found["process peak bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
