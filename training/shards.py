"""Divide a student's weights between processes, by torch's own FSDP: each keeps a part of every one.

Source: PyTorch FSDP2, torch.distributed.fsdp.fully_shard. Each block of the network with its TTT layer is a unit
(engine/ttt/units.py), and what is left of the network is one more. A unit's weights, trained and frozen, are gathered
when it is evaluated and given up afterwards, forward and backward; its gradients are summed in float32 and scattered at
once, to the process that keeps the part. Masters, AdamW's moments and the average (training/optimise.py) are made like
the weights, and so are divided with them. FSDP knows weights as DTensors; one process alone has none, and nothing here
runs.

Weights that are frozen and that FSDP cannot cut, quantised ones and single numbers, stay whole in every process. All
processes must evaluate the student equally often, in the same order; which videos they show it is not known here.
"""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
import torch.distributed as dist
from torch import nn
from torch.autograd.function import once_differentiable
from torch.utils._pytree import tree_flatten, tree_unflatten

from ..engine.ttt.units import Unit
from .parallel import World

if TYPE_CHECKING:  # not in every torch that trains in one process
    from torch.distributed.tensor import DTensor

TAKEN = ("mesh", "reshard_after_forward", "ignored_params", "mp_policy", "shard_placement_fn")  # of fully_shard
CUT = (torch.float32, torch.bfloat16, torch.float16)  # dtypes of weights that can be divided


class Shards:
    """These are the weights that the processes divide. outermost: of a student's units. trained: by name, all that is
    ever trained, in the dtype that it is trained in. From now on both are divided; which parameters require gradients
    may change between steps.

    Raises ValueError where one that is trained cannot be divided, and where torch is too old.
    """

    def __init__(self, outermost: Unit, trained: Mapping[str, nn.Parameter], world: World):
        MixedPrecisionPolicy, fully_shard = _of_torch(world.size)
        for name, parameter in trained.items():
            if not _can_be_cut(parameter):
                raise ValueError(
                    f"{name} has shape {list(parameter.shape)} and dtype {parameter.dtype}, which "
                    f"{world.size} processes cannot divide; train another adapter, or with 1 process"
                )
        self.world, self.units = world, (*outermost.inner, outermost)
        mesh = dist.init_device_mesh(world.device.type, (world.size,))
        self._used: set[int] = set()
        elsewhere: set[nn.Parameter] = set()
        for unit in self.units:
            elsewhere |= {parameter for parameter in unit.parameters() if not _can_be_cut(parameter)}
            # Resharded after the forward even where it is the outermost: what is not gathered anew would be stale.
            fully_shard(
                unit,
                mesh=mesh,
                reshard_after_forward=True,
                ignored_params=elsewhere,
                mp_policy=MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False),
                shard_placement_fn=self._placement,
            )
            places = [
                (module, name)
                for module in unit.modules()
                for name, parameter in module.named_parameters(recurse=False)
                if parameter not in elsewhere
            ]
            unit.register_forward_pre_hook(self._noting(places), with_kwargs=True)  # within FSDP's own
            elsewhere |= set(unit.parameters())

    def begin(self) -> None:
        """Begin a step: nothing has been used."""
        self._used.clear()

    def unused(self, parameters: Mapping[str, nn.Parameter]) -> set[str]:
        """Return the names of those that no process has used since `begin`, the same in all. Where some process has
        used one, the others count as 0.
        """
        flags = torch.tensor(
            [float(id(parameter) in self._used) for parameter in parameters.values()], device=self.world.device
        )
        dist.all_reduce(flags)
        return {name for name, count in zip(parameters, flags.tolist(), strict=False) if not count}

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Keep all weights whole in every process meanwhile, to be read."""
        for unit in self.units:
            unit.unshard()
        try:
            yield
        finally:
            for unit in self.units:
                unit.reshard()

    def _placement(self, parameter: nn.Parameter):
        """Place the parts along the first dimension that all processes have equal shares of, if there is one."""
        from torch.distributed.tensor import Shard

        even = [place for place, size in enumerate(parameter.shape) if size % self.world.size == 0]
        return Shard(even[0] if even else 0)

    def _noting(self, places: list[tuple[nn.Module, str]]):
        """Return a hook before a unit's forward: when its backward pass is done, what was used is noted, and what was
        not gets a gradient of 0, for FSDP reduces those that are there, and all processes must reduce the same.
        """
        cut = [getattr(module, name) for module, name in places]

        def note() -> None:
            for (module, name), own in zip(places, cut, strict=False):
                parameter = getattr(module, name)  # whole at this moment
                if not parameter.requires_grad:
                    continue
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                else:
                    self._used.add(id(own))

        def before(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
            if not torch.is_grad_enabled():
                return None
            leaves, spec = tree_flatten((args, kwargs))
            wanted = [
                place for place, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor) and leaf.requires_grad
            ]
            for place, tensor in zip(
                wanted, _Afterwards.apply(note, *(leaves[place] for place in wanted)), strict=False
            ):
                leaves[place] = tensor
            return tree_unflatten(leaves, spec)

        return before


class _Afterwards(torch.autograd.Function):
    """Return the tensors as they are; `note` is called when the gradients of all of them have come."""

    @staticmethod
    def forward(ctx, note, *tensors: torch.Tensor):
        ctx.note = note
        return tensors

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients: torch.Tensor):
        ctx.note()
        return None, *gradients


def whole(value: torch.Tensor) -> torch.Tensor:
    """Return a divided tensor put together, in every process at once; any other as it is."""
    return value.full_tensor() if _is_cut(value) else value


@torch.no_grad()
def copy_into(target: torch.Tensor, value: torch.Tensor) -> None:
    """Copy `value` into `target`; where `target` is divided, a whole `value`, the same in every process, is cut like
    it.
    """
    if _is_cut(target) and not _is_cut(value):
        from torch.distributed.tensor import distribute_tensor

        value = distribute_tensor(value.to(target.device), target.device_mesh, target.placements, src_data_rank=None)
    target.copy_(value)


def local_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Return the bytes of these that this process keeps."""
    return sum(int((value.to_local() if _is_cut(value) else value).nbytes) for value in tensors)


def _is_cut(value: torch.Tensor) -> TypeGuard["DTensor"]:
    return hasattr(value, "full_tensor")  # a DTensor, which not every torch has


def _of_torch(processes: int) -> tuple[Any, Any]:
    """Return MixedPrecisionPolicy and fully_shard, which are not in every torch that trains in one process.

    Raises ValueError where they are missing, or take no `ignored_params`: torch 2.6 has the first of them without.
    """
    try:
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        takes = set(inspect.signature(fully_shard).parameters)
    except ImportError:
        takes = set()
    if missing := [name for name in TAKEN if name not in takes]:
        what = "fully_shard" if not takes else f"fully_shard with {missing[0]}"
        raise ValueError(
            f"torch {torch.__version__} has no {what}, with which {processes} processes divide "
            f"a model; update torch, or train with one process"
        )
    return MixedPrecisionPolicy, fully_shard


def _can_be_cut(parameter: nn.Parameter) -> bool:
    return _is_cut(parameter) or (
        type(parameter.data) is torch.Tensor
        and parameter.dtype in CUT
        and parameter.dim() > 0
        and parameter.is_contiguous()
    )
