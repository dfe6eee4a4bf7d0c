"""Settings that let a run fit where it does not: each tried in the same arithmetic, the smallest change first.

A change is one of the settings that features have, by their fields: `keep` (engine/plan/needs.Keep) or its `place` and
`form`, `layers`, `frames` that a memory remembers; or the length of a segment, for all of them. Its words are the
inputs of the nodes. It is tried on the feature that keeps most, then on all that have it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from typing import Any

from ...engine.plan.card_memory import MemoryPlan
from ...engine.plan.needs import CARD, EIGHT_BIT, FULL, MAIN_MEMORY, AttentionSize, Keep

MOST = 3  # remedies that are named
SPARSER = (2, 4)  # of every so many frames one is kept
SHORTEST = 3  # latent frames of a window that is worth proposing: two of a segment and the one in front

PlanOf = Callable[[Sequence[Any], int], MemoryPlan]
"""(features, latent frames of a window) -> the plan."""


@dataclass(frozen=True)
class Remedy:
    """These settings fit: in the words of the nodes, as features, and as latent frames of a window."""

    words: str
    features: tuple[Any, ...]
    frames: int


def remedies_for(
    features: Sequence[Any], size: AttentionSize, plan_of: PlanOf, shorter: Callable[[int], str] | None
) -> list[Remedy]:
    """Return up to MOST settings, each of which alone lets the run fit.

    shorter(latent frames of a window): the setting that makes windows so long; None where no setting does.
    """
    found: list[Remedy] = []
    for words, changed, frames in _changes(features, size, plan_of, shorter):
        if plan_of(changed, frames).fits:
            found.append(Remedy(words, tuple(changed), frames))
        if len(found) == MOST:
            break
    return found


def _changes(
    features: Sequence[Any], size: AttentionSize, plan_of: PlanOf, shorter: Callable[[int], str] | None
) -> Iterator[tuple[str, list[Any], int]]:
    """Yield (words, features, frames of a window), from the smallest change to the largest."""
    for change in (_in_main_memory, _in_eight_bits, *(_sparser(count) for count in SPARSER), _in_both_ways):
        yield from _applied(change, features, size)
    for change in (_last_layers, _fewer_frames):
        yield from _searched(change, features, size, plan_of)
    longest = _longest(SHORTEST, size.frames - 1, lambda frames: plan_of(features, frames).fits)
    if longest and shorter is not None:
        yield shorter(longest), list(features), longest
    for feature in _largest_first(features, size):
        yield f"the model without {feature.name}", [one for one in features if one is not feature], size.frames


def _applied(change: Callable[[Any], tuple[str, Any] | None], features: Sequence[Any], size: AttentionSize):
    """Yield the change of the feature that keeps most, else of all features that have the setting."""
    able = [feature for feature in _largest_first(features, size) if change(feature)]
    for changed in [able[:1], able] if len(able) > 1 else [able] if able else []:
        words = change(changed[0])[0]
        names = " and ".join(feature.name for feature in changed)
        yield (
            f"{words} in {names}",
            [change(one)[1] if any(one is other for other in changed) else one for one in features],
            size.frames,
        )


def _searched(change: Callable[[Any, int], tuple[str, Any] | None], features, size: AttentionSize, plan_of: PlanOf):
    """Yield the change with the largest number that fits, as `_applied` does."""
    most = max(size.frames, *(block + 1 for _, block in size.sites))
    for number in range(most, 0, -1):
        found = _applied(partial(change, number=number), features, size)
        fitting = [one for one in found if plan_of(one[1], one[2]).fits]
        if fitting:
            yield fitting[0]
            return


def _largest_first(features: Sequence[Any], size: AttentionSize) -> list[Any]:
    keeping = [feature for feature in features if feature.need(size).kept]
    return sorted(keeping, key=lambda feature: -feature.need(size).kept)


def _longest(low: int, high: int, fits: Callable[[int], bool]) -> int | None:
    """Return the largest number from low to high that fits, or None; larger ones never fit where smaller do not."""
    if low > high or not fits(low):
        return None
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def keep_of(feature: Any) -> Keep | None:
    """Return how a feature keeps what it keeps; None where that is no setting of it."""
    return getattr(feature, "keep", None) if is_dataclass(feature) else None


def keeping(feature: Any, keep: Keep) -> Any:
    """Return the feature with another way to keep what it keeps, which is one setting of it or two."""
    if _has(feature, "keep"):
        return replace(feature, keep=keep)
    return replace(feature, place=keep.place, form=keep.form)


def _has(feature: Any, name: str) -> bool:
    return any(field.name == name for field in fields(feature))


def _in_main_memory(feature: Any) -> tuple[str, Any] | None:
    keep = keep_of(feature)
    if keep is None or keep.place != CARD:  # AUTO has tried it
        return None
    return f"kept_in {MAIN_MEMORY}", keeping(feature, replace(keep, place=MAIN_MEMORY))


def _in_eight_bits(feature: Any) -> tuple[str, Any] | None:
    keep = keep_of(feature)
    if keep is None or keep.form != FULL:
        return None
    return f"kept_as {EIGHT_BIT}", keeping(feature, replace(keep, form=EIGHT_BIT))


def _in_both_ways(feature: Any) -> tuple[str, Any] | None:
    if not _in_main_memory(feature) or not _in_eight_bits(feature):
        return None
    words, moved = _in_main_memory(feature)
    more, both = _in_eight_bits(moved)
    return f"{words} and {more}", both


def _sparser(every: int) -> Callable[[Any], tuple[str, Any] | None]:
    def change(feature: Any) -> tuple[str, Any] | None:
        keep = keep_of(feature)
        if keep is None or not _has(feature, "keep") or keep.every_frames >= every:
            return None
        return f"keep_every {every}", keeping(feature, replace(keep, every_frames=every))

    return change


def _last_layers(feature: Any, number: int) -> tuple[str, Any] | None:
    layers = getattr(feature, "layers", None)
    if not is_dataclass(feature) or not isinstance(layers, frozenset) or number >= len(layers):
        return None
    last = sorted(layers)[-number:]
    row = len(last) > 1 and last[-1] - last[0] == len(last) - 1
    words = f"{last[0]}-{last[-1]}" if row else ", ".join(str(block) for block in last)
    return f"layers {words}", replace(feature, layers=frozenset(last))


def _fewer_frames(feature: Any, number: int) -> tuple[str, Any] | None:
    frames = getattr(feature, "frames", None)
    if not is_dataclass(feature) or not isinstance(frames, int) or number >= frames:
        return None
    return f"frames {number}", replace(feature, frames=number)
