"""Several processes, each with its own copy of the model and its share of every batch, started by torchrun.

    torchrun --nproc-per-node 8 -m longreel.training.ttt config.toml

torch.distributed adds the gradients up once for each step of the optimiser, in float32 whatever the parameters are
stored as. DistributedDataParallel would do so while they are computed, but it must meet every parameter exactly once in
the graph: blocks that are computed again on the way back hide theirs, and texts of different lengths are evaluated one
after the other. Every process holds the whole model and optimiser: nothing is sharded, so a model must fit one device.
What is averaged is a mean over the processes, so all have equal shares. A process alone needs none of this, and
starts no process group.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn

PATIENCE = timedelta(days=7)  # one process may encode long clips while the others wait
BUCKET_NUMBERS = 2**24  # of one message, 64 MiB


@dataclass(frozen=True)
class World:
    """rank: of this process, 0 to size - 1; rank 0 writes files and speaks."""

    rank: int = 0
    size: int = 1

    @property
    def speaks(self) -> bool:
        return self.rank == 0

    def share(self, batch: int) -> range:
        """The places of a batch that are this process's. Raises ValueError where shares would differ."""
        if batch % self.size:
            raise ValueError(f"a batch of {batch} videos cannot be shared evenly by {self.size} processes; use a "
                             f"multiple of {self.size}")
        own = batch // self.size
        return range(self.rank * own, (self.rank + 1) * own)

    def mean(self, value: float) -> float:
        """The mean of all processes' values, the same number in each."""
        if self.size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=_device())
        dist.all_reduce(total)
        return float(total) / self.size

    def mean_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Leaves in every process the mean of all processes' gradients. A parameter that no process used has none
        afterwards, one that some used counts as 0 in the others. All are float32, in one order everywhere."""
        parameters = list(parameters)
        if self.size == 1 or not parameters:
            return
        used = torch.tensor([float(parameter.grad is not None) for parameter in parameters], device=_device())
        dist.all_reduce(used)
        wanted = [parameter for parameter, count in zip(parameters, used.tolist()) if count]
        for bucket in _buckets(wanted):
            total = torch.cat([(parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)).flatten()
                               for parameter in bucket])
            dist.all_reduce(total)
            for parameter, part in zip(bucket, (total / self.size).split([one.numel() for one in bucket])):
                parameter.grad = part.view_as(parameter).clone()

    def agree(self, value: bool) -> bool:
        """Whether it is true in any process."""
        return self.mean(float(value)) > 0

    def check_same(self, text: str, what: str) -> None:
        """Raise ValueError where the processes have different texts."""
        if self.size == 1:
            return
        texts: list[str] = [""] * self.size
        dist.all_gather_object(texts, text)
        if len(set(texts)) > 1:
            raise ValueError(f"{self.size} processes have {len(set(texts))} different {what}; start all of them with "
                             f"the same files and seed")

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()


ALONE = World()


@contextmanager
def world_of_torchrun() -> Iterator[World]:
    """The processes that torchrun started, or this one alone. NCCL with a GPU for each process, else Gloo."""
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


def _buckets(parameters: Iterable[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Together as many as one message holds: small ones are many, and each message has its price."""
    bucket: list[nn.Parameter] = []
    for parameter in parameters:
        if bucket and sum(one.numel() for one in bucket) + parameter.numel() > BUCKET_NUMBERS:
            yield bucket
            bucket = []
        bucket.append(parameter)
    if bucket:
        yield bucket


def _device() -> torch.device:
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
