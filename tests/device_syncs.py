"""Count where a sampling makes the host wait for the device, on a machine that has no GPU.

A pretended device: to torch "cpu" and "cpu:0" are two devices, and tensors that claim to be on the second one are of a
class of their own here (`OnDevice`). While a sampler runs, every operation passes through `Device`, which computes it
on the CPU, keeps the claim, and writes down each time the host would wait: a number that is read (`float(x)`, `if x`,
`tolist`), a result whose size is not known beforehand (`nonzero`, an index of booleans), and a copy between host and
device that does not say `non_blocking`. Tensors that the host makes stay on the host, as on a GPU.

What core's loader would have on the device (weights) counts as being there. Whose wait it is says the innermost line of
Python that is not torch's: core's own are kept apart. It does not know how long a wait is.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from typing_extensions import Self

import comfy.samplers

ROOT = Path(__file__).resolve().parents[1]
CORE = Path(comfy.samplers.__file__).resolve().parents[1]
HOST, DEVICE = torch.device("cpu"), torch.device("cpu", 0)

READS = {"item", "_local_scalar_dense", "is_nonzero", "equal", "allclose", "bincount"}  # the host asks for numbers
SIZED_BY_CONTENT = {"nonzero", "nonzero_numpy", "argwhere", "masked_select", "unique", "_unique2", "unique_dim"}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
COPIES = {"to", "_to_copy"}


class OnDevice(torch.Tensor):
    """This is a tensor that claims to be on the device; `raw` holds its numbers."""

    @staticmethod
    def __new__(cls, raw: torch.Tensor) -> Self:
        return torch.Tensor._make_wrapper_subclass(
            cls, raw.shape, strides=raw.stride(), storage_offset=raw.storage_offset(), dtype=raw.dtype, device=DEVICE
        )

    def __init__(self, raw: torch.Tensor):
        self.raw = raw

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError(f"{func} on a tensor of the device, outside the sampler that it belongs to")


@dataclass(frozen=True)
class Wait:
    """One wait: in which run of a sampler, which of its evaluations (from 0; -1 before the first), where and why."""

    run: int
    evaluation: int
    place: str  # "hosts/windows/finite.py:17"
    why: str
    ours: bool


@dataclass
class Report:
    """What was seen. A run's first evaluation may bring what later ones use again."""

    waits: list[Wait] = field(default_factory=list)
    evaluations: list[int] = field(default_factory=list)  # of each run of a sampler

    def later(self, ours: bool = True) -> Counter:
        """Return how often each file waited in the evaluations after a run's first one, all together."""
        return Counter(
            wait.place.rpartition(":")[0] for wait in self.waits if wait.ours == ours and wait.evaluation > 0
        )

    @property
    def later_evaluations(self) -> int:
        """Return how many evaluations there were after the first one of their run."""
        return sum(max(0, count - 1) for count in self.evaluations)

    def per_evaluation(self, ours: bool = True) -> float:
        """Return how many waits there were in each evaluation after the first one of its run, on average."""
        return self.later(ours).total() / self.later_evaluations

    def told(self) -> str:
        """Return our waits line by line, for people."""
        lines = Counter((wait.place, wait.why) for wait in self.waits if wait.ours and wait.evaluation > 0)
        return "\n".join(f"{count:5d}  {place}  {why}" for (place, why), count in sorted(lines.items()))


class Device(TorchDispatchMode):
    """Compute what is asked of the pretended device and note each wait."""

    def __init__(self, report: Report, weights: set[int]):
        super().__init__()
        self.report, self.weights = report, weights

    def note(self, why: str) -> None:
        place, ours = _asker()
        run = len(self.report.evaluations) - 1
        self.report.waits.append(Wait(run, self.report.evaluations[run] - 1, place, why, ours))

    def is_weight(self, tensor: torch.Tensor) -> bool:
        """Tell whether core's loader has brought this tensor to the device."""
        return tensor.untyped_storage().data_ptr() in self.weights

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        leaves = tree_leaves((args, kwargs))
        on_device = any(isinstance(leaf, OnDevice) for leaf in leaves)
        asked = next((leaf for leaf in leaves if isinstance(leaf, torch.device)), None)
        if name in COPIES:
            return self._copied(func, args, kwargs, asked)
        if on_device:
            self._look(name, args, kwargs, leaves)
        pinned = kwargs.get("pin_memory", False)
        if pinned:
            kwargs = {**kwargs, "pin_memory": False}  # only a driver pins memory
        raw = {id(leaf.raw): leaf for leaf in leaves if isinstance(leaf, OnDevice)}
        out = func(*tree_map(_raw, args), **tree_map(_raw, kwargs))
        if asked == DEVICE or (on_device and asked is None and not _in_place_of_host(func, args)):
            out = tree_map(
                lambda part: (raw[id(part)] if id(part) in raw else OnDevice(part)) if _plain(part) else part, out
            )
        elif pinned:
            out.pinned = True
        return out

    def _copied(self, func, args, kwargs, asked):
        source = args[0]
        if len(args) > 1 and isinstance(args[1], torch.Tensor):
            there = isinstance(args[1], OnDevice)
        else:
            there = isinstance(source, OnDevice) if asked is None else asked == DEVICE
        here, raw = isinstance(source, OnDevice), _raw(source)
        waits = not _says(func, args, kwargs, "non_blocking")
        if here != there and waits and not (there and self.is_weight(source)):
            self.note("copy to the device" if there else "copy to the host")
        out = func(*tree_map(_raw, args), **tree_map(_raw, kwargs))
        if here != there and out is raw:
            out = raw.clone()
        if not there:
            return out
        return source if here and out is raw else OnDevice(out)

    def _look(self, name, args, kwargs, leaves) -> None:
        if name in READS:
            self.note("number read")
        elif name in SIZED_BY_CONTENT or (name == "where" and len(args) == 1):
            self.note("size from content")
        elif name in INDEXING:
            indices = [index for index in args[1] if index is not None]
            if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
                self.note("index of booleans")
            elif any(not isinstance(index, OnDevice) and index.ndim for index in indices):
                self.note("index from the host")
        elif name == "copy_" and isinstance(args[0], OnDevice) != isinstance(args[1], OnDevice):
            non_blocking = kwargs.get("non_blocking", args[2] if len(args) > 2 else False)
            to_device = isinstance(args[0], OnDevice)
            if to_device and (args[1].ndim == 0 or self.is_weight(args[1])):
                return  # a number that a kernel is given, or what is there already
            if not (non_blocking and (to_device or getattr(args[0], "pinned", False))):
                self.note("copy to the device" if to_device else "copy to the host")
        else:
            strangers = [leaf for leaf in leaves if _plain(leaf) and leaf.ndim and not self.is_weight(leaf)]
            if strangers and _asker()[1]:
                self.note("tensor of the host among those of the device")


class Calls(TorchFunctionMode):
    """Note what goes past the dispatcher: lists and arrays that become tensors, and tensors that become lists."""

    def __init__(self, device: Device):
        super().__init__()
        self.device = device

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") == DEVICE:
            made = func(*args, **{**kwargs, "device": HOST})
            if isinstance(made, OnDevice):
                return made
            self.device.note("copy to the device")
            return OnDevice(made)
        own = args[0] if args and isinstance(args[0], OnDevice) else None
        if own is not None and func is torch.Tensor.new_tensor:
            self.device.note("copy to the device")
            return OnDevice(func(own.raw, *args[1:], **kwargs))
        if own is not None and func in (torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.__array__):
            self.device.note("number read")
            return func(own.raw, *args[1:], **kwargs)
        if own is not None and func in (torch.Tensor.untyped_storage, torch.Tensor.data_ptr):
            return func(own.raw)
        return func(*args, **kwargs)


def _plain(value: object) -> bool:
    return isinstance(value, torch.Tensor) and not isinstance(value, OnDevice)


def _raw(value: object) -> object:
    if isinstance(value, torch.device):
        return HOST
    return value.raw if isinstance(value, OnDevice) else value


def _in_place_of_host(func, args) -> bool:
    """Tell whether a tensor of the host is written, as in a copy of a tensor of the device to it."""
    return func._schema.name.endswith("_") and bool(args) and _plain(args[0])


def _says(func, args, kwargs, name: str) -> bool:
    """Return an argument of an operation, given by place or by name."""
    places = [argument.name for argument in func._schema.arguments]
    place = places.index(name) if name in places else len(args)
    return bool(kwargs.get(name, args[place] if place < len(args) else False))


def _asker() -> tuple[str, bool]:
    """Return the innermost line that is not torch's, and whether it is the pack's."""
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path != Path(__file__) and "site-packages" not in path.parts and path.is_absolute():
            for root, ours in ((CORE, False), (ROOT, True)):
                if path.is_relative_to(root):
                    place = path.relative_to(root).as_posix()
                    return f"{place}:{frame.f_lineno}", ours and not place.startswith("tests/")
        frame = frame.f_back
    return "?", False


def _weights(guider: comfy.samplers.CFGGuider) -> set[int]:
    """Return the addresses of all that core's loader has brought to the device."""
    patcher = guider.model_patcher
    modules = [patcher.model, *(extra.model for extra in patcher.get_nested_additional_models())]
    return {
        tensor.untyped_storage().data_ptr()
        for module in modules
        for tensor in (*module.parameters(), *module.buffers())
    }


@contextmanager
def watching() -> Iterator[Report]:
    """Watch every sampler that runs meanwhile; results are as without."""
    report = Report()
    inner_sample, outer_predict = (comfy.samplers.CFGGuider.inner_sample, comfy.samplers.CFGGuider.outer_predict_noise)

    def sample(guider, noise, latent_image, device, sampler, sigmas, denoise_mask, *args, **kwargs):
        report.evaluations.append(0)
        noise, latent_image, sigmas = (OnDevice(part) for part in (noise, latent_image, sigmas))
        denoise_mask = denoise_mask if denoise_mask is None else OnDevice(denoise_mask)
        mode = Device(report, _weights(guider))
        with Calls(mode), mode:
            out = inner_sample(guider, noise, latent_image, DEVICE, sampler, sigmas, denoise_mask, *args, **kwargs)
        return _raw(out)

    def predict(guider, *args, **kwargs):
        report.evaluations[-1] += 1
        return outer_predict(guider, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comfy.samplers.CFGGuider, "inner_sample", sample)
        patch.setattr(comfy.samplers.CFGGuider, "outer_predict_noise", predict)
        yield report
