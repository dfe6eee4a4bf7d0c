"""Several processes, each with its own copy of the model and its share of every batch, started by torchrun.

    torchrun --nproc-per-node 8 -m longreel.training.ttt config.toml

torch's DistributedDataParallel averages the gradients, in float32 whatever the parameters are stored as. Every process
holds the whole model and optimiser: nothing is sharded, so a model must fit one device. What is averaged is a mean over
the processes, so all have equal shares. A process alone needs none of this and starts no process group.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

PATIENCE = timedelta(days=7)  # one process may encode long clips while the others wait


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

    def agree(self, value: bool) -> bool:
        """Whether it is true in any process."""
        return self.mean(float(value)) > 0

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


class Learner(nn.Module):
    """`loss` as the forward of a module that holds the parameters, as DistributedDataParallel wants it."""

    def __init__(self, loss: Callable[..., torch.Tensor], parameters: Iterable[nn.Parameter]):
        super().__init__()
        self.loss, self.learned = loss, nn.ParameterList(parameters)

    def forward(self, *args) -> torch.Tensor:
        return self.loss(*args)


def averaging(loss: Callable[..., torch.Tensor], parameters: Iterable[nn.Parameter], world: World) -> Callable:
    """`loss` such that its backward leaves in every process the mean of all processes' gradients."""
    if world.size == 1:
        return loss
    # A layer may leave parameters out (gates of text in a network that reads none), hence the search for unused ones.
    parallel = DistributedDataParallel(Learner(loss, parameters), broadcast_buffers=False, find_unused_parameters=True)
    parallel.register_comm_hook(world.size, _mean_in_float32)
    return parallel


def _mean_in_float32(size: int, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    stored = bucket.buffer()
    total = stored.float() / size
    done = dist.all_reduce(total, async_op=True).get_future()
    return done.then(lambda future: stored.copy_(future.value()[0]))


def _device() -> torch.device:
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
