"""A shot's strength multiplies its guidance: positive <- negative + strength (positive - negative).

Guidance is linear in both predictions, so this is the same as multiplying cfg for the frames of that shot.
"""

import torch

from ...engine.plan.timeline import Timeline
from ...engine.to_device import sent
from .conditioning import NEGATIVE, POSITIVE, role_of

Mix = tuple[tuple[int, float], ...]  # (shot from 0, its share 0..1)
Conds = list[list[dict] | None]  # core's conditioning lists, by its numbers of the prompts


def strength_of(mix: Mix, timeline: Timeline) -> float:
    """Return the strength of a mix of shots, 1 where it changes nothing."""
    return sum(timeline.shots[shot].shot.strength * share for shot, share in mix)


def scale_guidance(conds: Conds, outs: list[torch.Tensor], mix: Mix, timeline: Timeline) -> None:
    """Scale, in place, the predictions `outs` for `conds` of a window that is all of one mix.

    Raises ValueError where one of the two prompts is not evaluated.
    """
    strength = strength_of(mix, timeline)
    if strength == 1.0:
        return
    roles = [role_of(cond) for cond in conds]
    _check_roles(roles, tuple(shot for shot, _ in mix), timeline)
    negative = outs[roles.index(NEGATIVE)]
    for out, role in zip(outs, roles, strict=True):
        if role == POSITIVE:
            out[:] = negative + strength * (out - negative)


def scale_guidance_of_frames(
    conds: Conds, outs: list[torch.Tensor], strengths: torch.Tensor, timeline: Timeline
) -> None:
    """Scale, in place, the predictions `outs` [B, C, F, H, W] for `conds` of a whole timeline; strengths [F].

    Raises ValueError where one of the two prompts is not evaluated.
    """
    if (strengths == 1).all():
        return
    roles = [role_of(cond) for cond in conds]
    _check_roles(roles, range(len(timeline.shots)), timeline)
    positive, negative = (outs[roles.index(role)] for role in (POSITIVE, NEGATIVE))
    of_frames = sent(strengths, positive)[:, None, None]  # [F, 1, 1]
    changed = sent(strengths != 1, positive, torch.bool)[:, None, None]
    scaled = negative + of_frames * (positive - negative)
    positive[:] = torch.where(changed, scaled, positive)


def _check_roles(roles: list[str | None], shots: tuple[int, ...] | range, timeline: Timeline) -> None:
    evaluated = sum(role in roles for role in (POSITIVE, NEGATIVE))
    if evaluated == 2:
        return
    shot = next(shot for shot in shots if timeline.shots[shot].shot.strength != 1)
    raise ValueError(
        f"shot {shot + 1}: strength {timeline.shots[shot].shot.strength:g} scales the guidance against the negative "
        f"prompt, but the sampler evaluates {evaluated} of the 2 prompts of Longreel Encode; use cfg above 1 with both "
        f"wired, or strength 1"
    )
