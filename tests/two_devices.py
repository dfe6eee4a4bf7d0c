"""Core's clones of a MODEL for several GPUs, on "devices" that are all one CPU: `cpu`, `cpu:0`, `cpu:1`, ...

Core tells devices apart by their names alone, so its threads, its clones and what stands in which are real. A tensor
that lies on the wrong device goes unnoticed by torch on such devices; `Places` notices it.
"""

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

import comfy.model_management
import comfy.multigpu
from comfy.model_patcher import ModelPatcher

from longreel.hosts.windows.latent_blend import TimelineHandler


def on_devices(model: ModelPatcher, count: int = 2, speeds: dict[int | None, float] | None = None) -> ModelPatcher:
    """Return the model as core's MultiGPU node makes it for `count` devices; speeds: relative, by a device's index."""
    found = [torch.device("cpu"), *(torch.device("cpu", index) for index in range(count - 1))]
    options = comfy.multigpu.GPUOptionsGroup()
    for index, speed in (speeds or {}).items():
        options.add(comfy.multigpu.GPUOptions(index, speed))
    with mock.patch.object(comfy.model_management, "get_all_torch_devices", lambda exclude_current=False: found):
        return comfy.multigpu.create_multigpu_deepclones(model, count, options, reuse_loaded=False)


class Places:
    """Follows which device each tensor of core's threads would lie on: what the sampler shows is on HOME, what is sent
    to a device with a number is there, and so is what is made of it.

    mixed: (function, devices) where one operation got tensors of several, other than single numbers, which torch takes
    from anywhere. marked: how many tensors had a known device. A tensor that is sent where another one lies has no
    known device, since torch calls all of these `cpu`.
    """

    HOME = "home"

    def __init__(self):
        self.mixed: list[tuple[str, list[str]]] = []
        self.marked = 0
        self._of: dict[int, tuple[weakref.ref, str]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Follow, in core's threads, what a timeline's handler is given meanwhile."""
        submit, execute, places = comfy.multigpu.MultiGPUThreadPool.submit, TimelineHandler.execute, self

        def watched(pool, device, work, *args, **kwargs):
            def run(*args, **kwargs):
                with _Follow(places):
                    return work(*args, **kwargs)

            submit(pool, device, run, *args, **kwargs)

        def at_home(handler, calc_cond_batch, model, conds, x_in, timestep, model_options):
            shown = [x_in, timestep, model_options["transformer_options"]["sample_sigmas"]]
            for entry in (entry for entries in conds if entries for entry in entries):
                shown += [cond.cond for cond in entry["model_conds"].values()]
            tree_map_only(torch.Tensor, lambda tensor: places.mark(tensor, self.HOME), shown)
            return execute(handler, calc_cond_batch, model, conds, x_in, timestep, model_options)

        with (
            mock.patch.object(comfy.multigpu.MultiGPUThreadPool, "submit", watched),
            mock.patch.object(TimelineHandler, "execute", at_home),
        ):
            yield

    def of(self, tensor: torch.Tensor) -> str | None:
        """Return where a tensor lies, as far as that is known."""
        with self._lock:
            held, place = self._of.get(id(tensor), (None, None))
        return place if held is not None and held() is tensor else None

    def mark(self, tensor: torch.Tensor, place: str) -> None:
        """Note where a tensor lies."""
        with self._lock:
            self._of[id(tensor)] = weakref.ref(tensor), place
            self.marked += 1


class _Follow(TorchFunctionMode):
    def __init__(self, places: Places):
        super().__init__()
        self.places = places

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        target = next((value for value in tree_leaves((args[1:], kwargs)) if isinstance(value, torch.device)), None)
        if function is torch.Tensor.to and target is not None:
            moved = result.view_as(result) if result is args[0] else result  # on one CPU nothing is copied
            if target.index is not None:
                self.places.mark(moved, str(target))
            return moved
        given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor) and value.ndim]
        found = sorted({place for value in given if (place := self.places.of(value)) is not None})
        if len(found) > 1:
            self.places.mixed.append((getattr(function, "__name__", str(function)), found))
        if found:
            tree_map_only(torch.Tensor, lambda made: self.places.mark(made, found[0]), result)
        return result
