"""Share keys and values: in chosen layers and steps a segment's queries read the keys and values of another segment, so
that what that segment shows is painted again here.

Source: DiTCtrl (arXiv 2412.18597, sections 3.2 and 3.3) and its public code. There the source is the segment before,
and all of it, text included, is read in place of the segment's own; which source, how much of it, and whether instead
or beside are choices here. `plan_sources` and `frames_apart` are ints only; the rest is one attention call. Which
network this is, and when a step or layer is active, is not known here.

Sequences are [B, H, S, D] with `text_tokens` text tokens in front of the video's (none where text has a cross attention
of its own).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from ..plan.timeline import Timeline

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]
"""(q [B, H, Sq, D], k and v [B, H, Sk, D], additive mask or None, broadcast to [B, H, Sq, Sk]) -> [B, H, Sq, D]."""

PREVIOUS, FIRST, CHOSEN = "previous", "first", "chosen"  # whose keys and values
REPLACE, EXTEND = "replace", "extend"  # read them instead of its own, or beside them
ALIGNED, BEFORE, TRUE = "aligned", "before", "true"  # where in time the source stands


@dataclass(frozen=True)
class KeysValues:
    """This is what queries read: k, v [B, H, S, D], keys already rotated; `mask` [1 or B, 1 or H, 1 or Sq, S] is added
    to the logits; the first `text_tokens` of S are text, the others video.
    """

    k: torch.Tensor
    v: torch.Tensor
    mask: torch.Tensor | None = None
    text_tokens: int = 0


@dataclass(frozen=True)
class Focus:
    """This says where the chosen words are: `source` [N, video keys] and `target` [N, video queries], True in the
    foreground. Rows of the batch are N videos for each prompt of the guidance: row r belongs to video r % N. DiTCtrl
    finds both by the positive prompt and uses them for the negative one too.
    """

    source: torch.Tensor
    target: torch.Tensor

    @cached_property
    def sides(self) -> list[list[tuple[torch.Tensor, torch.Tensor]]]:
        """Return for each video the places of (queries, keys) in the foreground, and of those in the background.

        They are found once for all groups of heads, and in one wait for the device: how many there are is read for all
        of them together.
        """
        masks = self.target, self.source
        counts = torch.stack([mask.sum(dim=1) for mask in masks]).tolist()
        queries, keys = (_by_side(mask, of_videos) for mask, of_videos in zip(masks, counts, strict=True))
        return [list(zip(*of_video, strict=True)) for of_video in zip(queries, keys, strict=True)]


def plan_sources(
    timeline: Timeline, source: str, chosen_shot: int = 1, shots: Sequence[int] = (), across_cuts: bool = True
) -> list[int | None]:
    """Return for each segment the number of the segment whose keys and values it reads, or None.

    source: PREVIOUS, the segment before; FIRST, the first segment of shot 1; CHOSEN, that of `chosen_shot` (from 1).
    shots: the shots (from 1) that read, all after the source where empty; a transition between two shots belongs to the
    later one. Without `across_cuts` a segment reads within its take alone. A source always comes before its readers,
    because segments are evaluated in order.

    Raises ValueError for a shot that does not exist, a source that comes later, and where nothing would be shared.
    """
    count = len(timeline.shots)
    for name, shot in [("source_shot", chosen_shot)] * (source == CHOSEN) + [("shots", s) for s in shots]:
        if not 1 <= shot <= count:
            raise ValueError(f"{name} {shot} is not in a timeline of {count} shots; use 1 to {count}")
    first = {PREVIOUS: None, FIRST: 1, CHOSEN: chosen_shot}[source]
    for shot in shots:
        if first is not None and shot <= first and (shot < first or source == CHOSEN):
            raise ValueError(
                f"shot {shot} would read from shot {first}, which does not come before it; use shots "
                f"{first + 1} to {count}, or an earlier source shot"
                if first < count
                else f"shot {shot} would read from shot {first}, the last one; use an earlier source shot"
            )
    segments = timeline.segments
    sources: list[int | None] = []
    for number, segment in enumerate(segments):
        at = number - 1 if first is None else _first_segment_of(timeline, first)
        reader = segment.mix[-1][0] + 1
        reads = 0 <= at < number and (not shots or reader in shots)
        reads = reads and (across_cuts or segments[at].take == segment.take)
        sources.append(at if reads else None)
    if not any(at is not None for at in sources):
        raise ValueError(
            f"none of the {len(segments)} segments has a source to read from ({count} shots, source "
            f"{source}{f' {chosen_shot}' if source == CHOSEN else ''}); use more shots, shorter segments, an "
            f"earlier source shot, or allow sharing across cuts"
        )
    return sources


def frames_apart(placement: str, source_start: int, source_frames: int, reader_start: int) -> int:
    """Return by how many latent frames the source's keys are moved in time before a reader sees them.

    ALIGNED: not at all, both stand at the same positions (DiTCtrl). BEFORE: as if the source ended where the reader
    begins. TRUE: by how far they really stand apart.
    """
    return {ALIGNED: 0, BEFORE: -source_frames, TRUE: source_start - reader_start}[placement]


def _first_segment_of(timeline: Timeline, shot: int) -> int:
    return next(number for number, segment in enumerate(timeline.segments) if segment.mix == ((shot - 1, 1.0),))


def attend_shared(
    attend: Attend,
    q: torch.Tensor,
    own: KeysValues,
    source: KeysValues,
    join: str = REPLACE,
    strength: float = 1.0,
    share_text: bool = True,
    focus: Focus | None = None,
) -> torch.Tensor:
    """Return attention that reads the source's keys and values: q [B, H, S, D] -> [B, H, S, D].

    join: REPLACE, instead of its own; EXTEND, beside its own. share_text: the source's text is read too; without it a
    replaced text part stays the segment's own. strength: 1 is all of that, below 1 it is mixed with attention on its
    own. focus: foreground queries read the source's foreground, background queries its background.
    """
    always, chosen = _reading(own, source, join, share_text)
    if focus is None:
        read = _together([always, chosen])
        shared = attend(q, read.k, read.v, read.mask)
    else:
        shared = _attend_in_focus(attend, q, own.text_tokens, always, chosen, focus)
    if strength == 1.0:
        return shared
    return torch.lerp(attend(q, own.k, own.v, own.mask), shared, strength)


def _reading(own: KeysValues, source: KeysValues, join: str, share_text: bool) -> tuple[KeysValues, KeysValues]:
    """Return (what every query reads, the source's video)."""
    text = _part(source if share_text else own, slice(None, source.text_tokens if share_text else own.text_tokens))
    if join == EXTEND:
        text = _together([own, text]) if share_text else own
    return text, _part(source, slice(source.text_tokens, None))


def _part(whole: KeysValues, tokens: slice | torch.Tensor) -> KeysValues:
    mask = None if whole.mask is None else whole.mask[..., tokens]
    return KeysValues(whole.k[:, :, tokens], whole.v[:, :, tokens], mask)


def _together(parts: Sequence[KeysValues]) -> KeysValues:
    parts = [part for part in parts if part.k.shape[2]]
    if len(parts) == 1:
        return parts[0]
    mask = None
    if any(part.mask is not None for part in parts):
        masks = [part.mask if part.mask is not None else part.k.new_zeros(1, 1, 1, part.k.shape[2]) for part in parts]
        shape = torch.broadcast_shapes(*(m.shape[:-1] for m in masks))
        mask = torch.cat([m.expand(*shape, -1) for m in masks], dim=-1)
    return KeysValues(_joined([part.k for part in parts]), _joined([part.v for part in parts]), mask)


def _joined(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return [B, H, S, D] of all parts, in memory token by token where the first part is: attention then needs no copy
    of it.
    """
    if parts[0].stride(1) > parts[0].stride(2):  # head by head
        return torch.cat(list(parts), dim=2)
    return torch.cat([part.transpose(1, 2) for part in parts], dim=1).transpose(1, 2)


def _attend_in_focus(
    attend: Attend, q: torch.Tensor, q_text: int, always: KeysValues, chosen: KeysValues, focus: Focus
) -> torch.Tensor:
    """Attend to foreground with foreground and to background with background (DiTCtrl, section 3.3). There both sides
    are evaluated for all queries, under masks, and picked from afterwards; here each query is evaluated once, on the
    keys that it may see, so nothing is computed twice and no mask is needed. Text queries see everything. Where nothing
    is left to see, a query sees all of the source.
    """
    videos, tokens = focus.target.shape
    if q_text + tokens != q.shape[2]:
        raise ValueError(
            f"{q.shape[2] - q_text} video tokens, but the picture has {tokens}: reference pictures in the "
            f"sequence have no place in a focus mask; use mask off, or a model without them"
        )
    out = torch.empty_like(q)
    for n in range(videos):
        rows = slice(n, None, videos)
        mine, theirs = _rows(always, rows), _rows(chosen, rows)
        if q_text:
            text = torch.arange(q_text, device=q.device)
            out[rows, :, :q_text] = _attend_some(attend, q[rows], text, _together([mine, theirs]))
        for queries, keys in focus.sides[n]:
            if len(queries):
                seen = theirs if not len(keys) and not mine.k.shape[2] else _part(theirs, keys)
                here = q_text + queries
                out[rows, :, here] = _attend_some(attend, q[rows], here, _together([mine, seen]))
    return out


def _by_side(mask: torch.Tensor, counts: Sequence[int]) -> list[tuple[torch.Tensor, ...]]:
    """Return for each row of mask [N, tokens] the rising places that are True, `counts` of them, and the others."""
    order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)
    return [places.split([count, len(places) - count]) for places, count in zip(order, counts, strict=True)]


def _attend_some(attend: Attend, q: torch.Tensor, queries: torch.Tensor, read: KeysValues) -> torch.Tensor:
    mask = read.mask
    if mask is not None and mask.shape[-2] != 1:  # else it is one for all queries
        mask = mask[..., queries, :]
    return attend(q[:, :, queries], read.k, read.v, mask)


def _rows(whole: KeysValues, rows: slice) -> KeysValues:
    mask = whole.mask if whole.mask is None or whole.mask.shape[0] == 1 else whole.mask[rows]
    return KeysValues(whole.k[rows], whole.v[rows], mask)
