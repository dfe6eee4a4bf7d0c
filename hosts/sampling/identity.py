"""Say what a MODEL, a SAMPLER, a CONDITIONING or a feature is, in plain values that have a content hash
(engine/runs/content_hash.py), so that a run on disk knows whether a chunk would be made the same way again.

Weights are known by 4096 numbers of each tensor, evenly spread: another checkpoint, a LoRA or another quantisation
differs in them, and 28 GB need not be read. Objects of other packages are known by the names of their classes and what
they hold, functions by their names and what they enclose. A class of Longreel whose fields were renamed says in
STORED_NAMES, {name now: name once}, what they were called, so that runs on disk stay what they are; one that was given
fields since says in NOT_STORED, {name: values}, with which of them its results are the same. Two functions of
one name that enclose the same but were edited between two starts of ComfyUI look alike.
"""

import types
import uuid
from collections.abc import Mapping

import torch

import comfy.context_windows
import comfy.hooks

from ..types import ModelPatcher

SAMPLE = 4096  # numbers of each large tensor
PLAIN = (type(None), bool, int, float, str, bytes)
AT_FIRST = {"_step": 0}  # of core's context windows: what sampling leaves in them, beside the model
SKIPPED = (uuid.UUID, torch.device, torch.Generator, types.ModuleType, type)  # of this process, or said by a name


def of_model(model: ModelPatcher) -> dict:
    """Identify a ModelPatcher: weights as they were loaded, patches (LoRA), object patches and options without
    Longreel's own.
    """
    weights = {}
    for name, weight in _state_of(model).items():
        kept = model.backup.get(name)  # the original, where a patch is worked into the weight at the moment
        weights[name] = plain(weight if kept is None else kept.weight)
    options = {key: value for key, value in model.model_options.items() if key != "context_handler"}
    return {
        "class": type(model.model).__name__,
        "weights": weights,
        "patches": plain(model.patches),
        "objects": plain(model.object_patches),
        "sampling": plain(model.get_model_object("model_sampling")),
        "options": plain(options),
        "handler": plain(model.model_options.get("context_handler")),
    }


def _state_of(model: ModelPatcher) -> dict[str, torch.Tensor]:
    """Return the state of the model with the objects in it that patches replace at the moment (a noise schedule)."""
    state = dict(model.model.state_dict())
    for place, original in model.object_patches_backup.items():
        state = {name: value for name, value in state.items() if not f"{name}.".startswith(f"{place}.")}
        if isinstance(original, torch.nn.Module):
            state.update(original.state_dict(prefix=f"{place}."))
        elif isinstance(original, torch.Tensor):
            state[place] = original
    return state


def plain(value: object) -> object:
    """Return `value` in lists, dicts, strings, numbers and tensors."""
    return _plain(value, ())


def _plain(value: object, above: tuple[int, ...]) -> object:
    if isinstance(value, torch.Tensor):
        return _sampled(value)
    if type(value) in PLAIN:
        return value
    if isinstance(value, SKIPPED):
        return getattr(value, "__qualname__", type(value).__name__)
    if id(value) in above:  # an object that holds itself
        return "again"
    above = (*above, id(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item, above) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = [_plain(item, above) for item in value]
        return sorted(items, key=str) if isinstance(value, (set, frozenset)) else items
    if isinstance(value, torch.nn.Module):
        return [
            type(value).__name__,
            {name: _sampled(weight) for name, weight in value.state_dict().items()},
            {name: item for name, item in vars(value).items() if type(item) in PLAIN},
        ]
    if isinstance(value, types.MethodType):
        return [value.__qualname__, _plain(value.__self__, above)]
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return [value.__qualname__, _plain(cells, above), _plain(value.__defaults__, above)]
    if isinstance(value, comfy.hooks.HookKeyframeGroup):
        value = _unused(value)
    if hasattr(value, "model_state_dict"):  # a ModelPatcher within options
        return _plain(value.model, above)
    names, not_stored = (getattr(type(value), which, {}) for which in ("STORED_NAMES", "NOT_STORED"))
    fields = {
        names.get(name, name): item
        for name, item in getattr(value, "__dict__", {}).items()
        if name not in not_stored or item not in not_stored[name]
    }
    if isinstance(value, comfy.context_windows.IndexListContextHandler):
        fields = {name: item for name, item in {**fields, **AT_FIRST}.items() if name != "_model"}
    return [type(value).__name__, _plain(fields, above)]


def _sampled(tensor: torch.Tensor) -> list:
    """Return dtype, shape and numbers of a tensor, at most SAMPLE of them."""
    flat = tensor.detach().reshape(-1)
    step = max(1, flat.numel() // SAMPLE)
    return [str(tensor.dtype), list(tensor.shape), flat[::step].cpu()]


def _unused(group: comfy.hooks.HookKeyframeGroup) -> comfy.hooks.HookKeyframeGroup:
    """Return keyframes as the user set them: sampling leaves behind in them how far it has come."""
    fresh = comfy.hooks.HookKeyframeGroup()
    for one in group.keyframes:
        fresh.add(comfy.hooks.HookKeyframe(one.strength, one.start_percent, one.guarantee_steps))
    return fresh
