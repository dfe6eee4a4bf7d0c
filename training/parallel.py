"""Divide every batch between several processes, which torchrun starts.

    torchrun --nproc-per-node 8 -m longreel.training.ttt config.toml

What they agree on and what they wait for is here; how they divide the model is in training/shards.py. A video is never
divided, so one must fit a device. What is averaged is a mean over the processes, so all have equal shares. A process
alone needs none of this, and starts no process group.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

PATIENCE = timedelta(days=7)  # one process may encode long clips while the others wait


@dataclass(frozen=True)
class World:
    """This is one process among all. rank: of this process, 0 to size - 1; rank 0 writes files and speaks."""

    rank: int = 0
    size: int = 1

    @property
    def speaks(self) -> bool:
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """Return where what the processes exchange is held."""
        return torch.device("cuda" if self.size > 1 and dist.get_backend() == "nccl" else "cpu")

    def share(self, batch: int) -> range:
        """Return the places of a batch that are this process's. Raises ValueError where shares would differ."""
        if batch % self.size:
            raise ValueError(
                f"a batch of {batch} videos cannot be shared evenly by {self.size} processes; use a "
                f"multiple of {self.size}"
            )
        own = batch // self.size
        return range(self.rank * own, (self.rank + 1) * own)

    def mean(self, value: float) -> float:
        """Return the mean of all processes' values, the same number in each."""
        if self.size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return float(total) / self.size

    def agree(self, value: bool) -> bool:
        """Tell whether it is true in any process."""
        return self.mean(float(value)) > 0

    def check_same(self, text: str, what: str) -> None:
        """Raise ValueError where the processes have different texts."""
        if self.size == 1:
            return
        texts: list[str] = [""] * self.size
        dist.all_gather_object(texts, text)
        if len(set(texts)) > 1:
            raise ValueError(
                f"{self.size} processes have {len(set(texts))} different {what}; start all of them with "
                f"the same files and seed"
            )

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            dist.barrier()


ALONE = World()


@contextmanager
def world_of_torchrun() -> Iterator[World]:
    """Return the processes that torchrun started, or this one alone. NCCL with a GPU for each process, else Gloo."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    try:
        yield World(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()
