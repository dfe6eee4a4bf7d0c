"""Give a shot LoRAs of its own, by core's hooks on its conditioning (comfy/hooks.py).

    files of the storyboard -> one hook for each file and strength -> on both prompts of the shot -> core patches the
    weights while it evaluates that shot's entries, and takes the patches off again

A segment or chunk between two shots follows a mix of their prompts, and of their LoRAs: each counts by its shot's
share. A file is read as core's own loader reads it, and the network's part of it is used: what it holds of a text
encoder is not. Which family a model is of is not known here.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError

import comfy.lora
import comfy.lora_convert
import comfy.utils
import folder_paths
from comfy.hooks import EnumHookType, Hook, HookGroup, HookKeyframe, HookKeyframeGroup, create_hook_lora

from ...engine.finite import not_finite
from ...engine.plan.timeline import Timeline
from ...engine.storyboard.carried import LoRA
from ...engine.storyboard.faults import StoryboardError
from ...engine.storyboard.rules import show
from .. import keys
from ..types import Entry, ModelPatcher

FOLDER, SUFFIXES = "loras", (".safetensors", ".sft")
HOOKS = "hooks"  # core's key of a conditioning entry


def find_lora(name: str) -> Path:
    """Return the path of a file below ComfyUI's loras folders. Raises StoryboardError where it is none that is read."""
    if not name.lower().endswith(SUFFIXES):
        raise StoryboardError(
            f"file is {show(name)}, and LoRAs are read from {SUFFIXES[0]} alone, which cannot run code; convert it"
        )
    path = folder_paths.get_full_path(FOLDER, name)
    if path is None:
        folders = " or ".join(folder_paths.get_folder_paths(FOLDER))
        raise StoryboardError(
            f"file is {show(name)}, no file in the {FOLDER} folder ({folders}); put it there or correct the name"
        )
    return Path(path)


def hooks_of_shots(timeline: Timeline) -> list[HookGroup | None]:
    """Return each shot's hooks; None for a shot whose LoRAs change nothing. Shots with the same LoRAs share theirs.

    Raises ValueError, naming the shot, for a file that is not there or damaged.
    """
    weights: dict[Path, Mapping] = {}
    hooks: dict[LoRA, Hook] = {}
    groups: dict[tuple[LoRA, ...], HookGroup | None] = {(): None}
    found = []
    for planned in timeline.shots:
        wanted = tuple(one for one in planned.shot.lora if one.strength)
        for number, one in enumerate(planned.shot.lora, start=1):
            if one.strength and one not in hooks:
                hooks[one] = _hook(one, weights, f"shot {planned.index + 1}, lora {number}")
        if wanted not in groups:
            groups[wanted] = _group([hooks[one] for one in wanted])
        found.append(groups[wanted])
    return found


def check_loras(model: ModelPatcher, entries: Sequence[Entry]) -> None:
    """Raise ValueError, naming the shot, where a LoRA of Longreel Encode's entries changes no weight of a model."""
    ours = {
        hook: (hook.hook_id, entry[keys.SHOT])
        for entry in reversed(entries)
        if keys.SHOT in entry and entry.get(HOOKS) is not None
        for hook in entry[HOOKS].get_type(EnumHookType.Weight)
        if hook.hook_id is not None
    }
    if not ours:
        return
    known = comfy.lora.model_lora_keys_unet(model.model, {})
    for hook, (file, shot) in ours.items():
        if not comfy.lora.load_lora(hook.weights, known, log_missing=False):
            raise ValueError(
                f"shot {shot + 1}: lora {file} has {len(hook.weights)} tensors and changes no weight of this model, "
                f"{type(model.model).__name__}; use a LoRA that was trained for it"
            )


def mixed_hooks(parts: Sequence[tuple[Entry, float]]) -> HookGroup | None:
    """Return the hooks of a mix of entries, each with its share (0..1), in which LoRAs count by the shares.

    Hooks of other kinds are those of the first entry. Made once for each mix: core keeps patched weights by the group.
    """
    groups = [entry.get(HOOKS) for entry, _ in parts]
    if all(group is groups[0] for group in groups):
        return groups[0]
    made = parts[0][0].setdefault(keys.MIXED_HOOKS, {})
    mix = tuple((id(group), share) for group, (_, share) in zip(groups, parts, strict=True))
    if mix not in made:
        made[mix] = _mixed(groups, [share for _, share in parts])
    return made[mix]


def _mixed(groups: Sequence[HookGroup | None], shares: Sequence[float]) -> HookGroup:
    counted: dict[Hook, float] = {}
    for group, share in zip(groups, shares, strict=True):
        for hook in group.get_type(EnumHookType.Weight) if group else ():
            counted[hook] = counted.get(hook, 0.0) + share
    others = [hook for hook in groups[0].hooks if hook.hook_type != EnumHookType.Weight] if groups[0] else []
    return _group([*others, *(_scaled(hook, share) for hook, share in counted.items())])


def _scaled(hook: Hook, share: float) -> Hook:
    if math.isclose(share, 1.0):
        return hook
    scaled, frames = hook.clone(), HookKeyframeGroup()
    for one in hook.hook_keyframe.keyframes or [HookKeyframe(1.0)]:
        frame = one.clone()
        frame.strength *= share
        frames.add(frame)
    scaled.hook_keyframe = frames
    return scaled


def _group(hooks: Sequence[Hook]) -> HookGroup:
    group = HookGroup()
    for hook in hooks:
        group.add(hook)
    return group


def _hook(lora: LoRA, weights: dict[Path, Mapping], place: str) -> Hook:
    """Return a hook that knows its file's name; weights: of the files that were read."""
    try:
        path = find_lora(lora.file)
        if path not in weights:
            weights[path] = _read(path)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
    hook = create_hook_lora(weights[path], strength_model=lora.strength, strength_clip=0.0).hooks[0]
    hook.hook_id = lora.file
    return hook


def _read(path: Path) -> Mapping:
    try:
        weights = comfy.utils.load_torch_file(str(path), safe_load=True)
    except (SafetensorError, ValueError) as error:
        raise ValueError(
            f"{path.name} has {path.stat().st_size} bytes that are no whole safetensors file; copy it again"
        ) from error
    if (wrong := not_finite(weights)) is not None:
        raise ValueError(f"{path.name}: {wrong}; the training went wrong, or the file is damaged: use another")
    return comfy.lora_convert.convert_lora(weights)
