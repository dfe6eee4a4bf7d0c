"""Prompts that know their shot. Each conditioning entry of Longreel Encode carries two keys, which travel through
core's nodes and processing; from them a segment picks, and between shots mixes, what it listens to."""

import torch

import node_helpers

from ..engine.prompt_mix import mix_texts
from ..engine.timeline import Timeline

SHOT, ROLE = "longreel_shot", "longreel_role"
POSITIVE, NEGATIVE = "positive", "negative"


def encode_timeline(clip, timeline: Timeline) -> tuple[list, list]:
    """One positive and one negative CONDITIONING entry per shot; equal texts are encoded once. Raises ValueError for
    the None that core's checkpoint loader gives where there is no text encoder."""
    if clip is None:
        raise ValueError("0 text encoders came with this checkpoint and 1 is needed; load it with Load CLIP")
    encoded: dict[str, list] = {}

    def entries(text: str, shot: int, role: str) -> list:
        if text not in encoded:
            encoded[text] = clip.encode_from_tokens_scheduled(clip.tokenize(text))
        return node_helpers.conditioning_set_values(encoded[text], {SHOT: shot, ROLE: role})

    positive, negative = [], []
    for planned in timeline.shots:
        positive += entries(timeline.storyboard.prompt_of(planned.shot), planned.index, POSITIVE)
        negative += entries(timeline.storyboard.negative_of(planned.shot), planned.index, NEGATIVE)
    return positive, negative


def role_of(conds: list[dict] | None) -> str | None:
    """The role that the entries of one cond list carry, or None when they did not come from Longreel Encode."""
    return next((cond[ROLE] for cond in conds or () if ROLE in cond), None)


def entries_for(conds: list[dict], mix: tuple[tuple[int, float], ...]) -> list[dict]:
    """What a segment listens to: entries without a shot as they are, those of the mix's shots interpolated."""
    common = [cond for cond in conds if SHOT not in cond]
    parts = [([cond for cond in conds if cond.get(SHOT) == shot], share) for shot, share in mix]
    missing = [shot for (entries, _), (shot, _) in zip(parts, mix) if not entries]
    if len(missing) == len(parts) and common:
        return common
    if missing:
        raise ValueError(f"no prompt for shot {missing[0] + 1} in a conditioning of {len(conds)} entries; wire the "
                         f"output of Longreel Encode made from the same timeline")
    counts = {len(entries) for entries, _ in parts}
    if len(counts) > 1:
        raise ValueError(f"neighbouring shots have {sorted(counts)} conditioning entries and cannot be mixed; give each "
                         f"shot equally many, or use 0 transition prompts")
    mixed = [_mix_entry([(entries[i], share) for entries, share in parts]) for i in range(counts.pop())]
    return common + mixed


def _mix_entry(parts: list[tuple[dict, float]]) -> dict:
    first = parts[0][0]
    if len(parts) == 1:
        return first
    model_conds = dict(first["model_conds"])
    for key, value in model_conds.items():
        tensors = [(entry["model_conds"][key].cond, share) for entry, share in parts if key in entry["model_conds"]]
        if len(tensors) == len(parts) and all(isinstance(t, torch.Tensor) for t, _ in tensors):
            model_conds[key] = value._copy_with(mix_texts(tensors))
    return {**first, "model_conds": model_conds}


def number_of(conds: list[list[dict] | None], role: str) -> int | None:
    """Core's number of the prompt whose entries carry this role, or None."""
    return next((number for number, entries in enumerate(conds) if role_of(entries) == role), None)
