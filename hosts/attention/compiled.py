"""Keep what Longreel does out of the graphs of torch.compile, and the network in them.

Core's TorchCompileModel compiles a network's forward together with the wrappers that nodes put around it, and leaves
out the guards on transformer_options: what was compiled for one set of nodes is then run for every other one, and
wrappers that came later are never called. Here the wrappers run outside, and what lies behind them, the family's
`_forward`, is compiled with all guards, those on hooks included, and apart from what core compiled. Attention that a
feature works in breaks the graph (hosts/attention/patching.py), so each block is compiled in the pieces around it.

Nodes that compile blocks one by one need nothing of this: wrappers run outside those. Tried with the torch that the
tests run; without `isolate_recompiles` (before 2.13) guards alone tell core's graphs from these. How much faster a GPU
is then is not known here.
"""

import inspect
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
import torch._dynamo

import comfy.patcher_extension as extension
from comfy_api.torch_helpers.torch_compile import TORCH_COMPILE_KWARGS

from .. import keys
from ..types import Executor, ModelPatcher, Network

GUARDED = {"skip_nnmodule_hook_guards": False, "recompile_limit": 64}
"""Dynamo's settings meanwhile: a feature comes and goes by hooks, and lengths, batches and features are combined more
often than the 8 times after which a function is left uncompiled for good."""


def keep_outside(model: ModelPatcher) -> None:
    """Have the wrappers of this clone's network run outside of its graphs, once."""
    model.remove_wrappers_with_key(extension.WrappersMP.APPLY_MODEL, keys.COMPILED)
    model.add_wrapper_with_key(extension.WrappersMP.APPLY_MODEL, keys.COMPILED, outside_of_graphs)


def outside_of_graphs(executor: Executor, *args, **kwargs):
    """APPLY_MODEL: inside all other wrappers, where the network is the compiled one."""
    inside = [wrapper for wrapper in executor.wrappers[executor.idx + 1 :] if wrapper is not outside_of_graphs]
    if inside:
        chain = [*inside, outside_of_graphs]
        reordered = extension.WrapperExecutor.new_class_executor(executor.original, executor.class_obj, chain)
        return reordered.execute(*args, **kwargs)
    model = executor.class_obj
    compiled = model.diffusion_model
    settings = model.current_patcher.model_options.get(TORCH_COMPILE_KWARGS)
    if not isinstance(compiled, torch._dynamo.OptimizedModule) or settings is None:
        return executor(*args, **kwargs)
    model.diffusion_model = compiled._orig_mod
    try:
        with _compiled_forward(compiled._orig_mod, settings):
            return executor(*args, **kwargs)
    finally:
        model.diffusion_model = compiled


@contextmanager
def _compiled_forward(network: Network, settings: dict[str, Any]) -> Iterator[None]:
    """Have `network` run a compiled `_forward`."""
    options = settings.get("options") or {}
    forward = _compile(
        type(network)._forward,
        tuple(sorted(options.items())),
        settings["backend"],
        settings["mode"],
        settings["dynamic"],
    )
    network._forward = types.MethodType(forward, network)
    here = {name: value for name, value in GUARDED.items() if hasattr(torch._dynamo.config, name)}
    try:
        with torch._dynamo.config.patch(here):
            yield
    finally:
        del network._forward


@cache
def _compile(
    forward: Callable, options: tuple, backend: str | Callable, mode: str | None, dynamic: bool | None
) -> Callable:
    """Return `forward` compiled, one for all networks of a class: a second run finds what the first made."""
    apart = {"isolate_recompiles": True} if "isolate_recompiles" in inspect.signature(torch.compile).parameters else {}
    return torch.compile(forward, backend=backend, options=dict(options) or None, mode=mode, dynamic=dynamic, **apart)
