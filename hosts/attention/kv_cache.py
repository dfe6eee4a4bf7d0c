"""A cache of keys and values that some attention calls leave behind for others.

They are taken apart by prompt, and put together again for the prompts of the reader, because core puts prompts into
batches in whatever way fits the memory. A place and a form are chosen for each run (engine/plan/needs.py): on the card
as the network made them, owning no more memory than they show; on the card in 8 bits; or in main memory
(hosts/attention/main_memory.py), from where the next group of heads travels while one is attended to.

Readers go through the heads group by group, wherever the cache lies, so that copies, rotations and joins are as small
as a group, and so that every place gives the same result to the bit.
"""

from collections.abc import Callable, Hashable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace

import torch

from ...engine.attention.eight_bit import pack, unpack
from ...engine.attention.kv_share import KeysValues
from ...engine.plan.needs import CARD, FULL, Keep, heads_of_group
from ..families.sites import CROSS, Call
from .ledger import LEDGER
from .main_memory import HostTensor, MainMemory, Rows

Site = tuple[int, str]
"""(block, kind) of an attention."""
Entry = tuple[int, int]
"""(core's number of the prompt, place of the entry in its conditioning)."""
Stored = tuple[torch.Tensor | HostTensor, ...]
"""Keys and values of a group, or each of them packed with its scales."""

_SHOWN: ContextVar[slice | None] = ContextVar("heads that a feature within another one is shown", default=None)


@dataclass(frozen=True)
class Part:
    """This is what one prompt's entry left: its rows of a batch whose keys and values lie in `groups` of heads."""

    groups: tuple[Stored, ...]  # tensors [B, S, Hg, D], scales [B, S, Hg, 1]
    device: torch.device  # of the attention
    rows: slice
    mask: torch.Tensor | None
    text_tokens: int
    tokens: int


class KVCache:
    """Keeps keys and values under labels (a segment, a context pass), by site.

    name: of the feature's node. keep: form, and each n-th token frame. place: CARD or MAIN_MEMORY.
    """

    def __init__(self, name: str, keep: Keep, place: str):
        self.name, self.keep, self.place = name, keep, place
        self.kept: dict[Hashable, dict[Site, dict[Entry, Part]]] = {}
        self.heads: dict[tuple[Hashable, Site], tuple[slice, ...]] = {}
        self.main_memory: dict[torch.device, MainMemory] = {}

    def put(self, label: Hashable, call: Call, read: KeysValues | None = None) -> None:
        """Keep a call's keys and values, or `read`, which was made of them, under a label."""
        read = KeysValues(call.k, call.v, call.mask, call.text_tokens) if read is None else read
        if call.kind != CROSS:
            read = every_frame(read, call.forward.grid[0], self.keep.every_frames)
        site = call.block, call.kind
        heads = self.heads.setdefault((label, site), groups_of_heads(read.k))
        k, v = read.k, read.v
        if self.place == CARD and self.keep.form == FULL:
            k, v = (LEDGER.note(_own(t), self.name, "keys and values") for t in (k, v))
        groups = tuple(self._stored(k[:, group], v[:, group]) for group in heads)
        size = read.k.shape[0] // len(call.rows)
        parts = self.kept.setdefault(label, {}).setdefault(site, {})
        for place, entry in enumerate(call.prompts):
            rows = slice(place * size, (place + 1) * size)
            mask = read.mask if read.mask is None or read.mask.shape[0] == 1 else read.mask[rows]
            self._let_go(parts.pop(entry, None), parts)
            parts[entry] = Part(groups, call.k.device, rows, mask, read.text_tokens, read.k.shape[2])

    def _stored(self, k: torch.Tensor, v: torch.Tensor) -> Stored:
        """Return a group [B, Hg, S, D] of keys and values where they are kept, token by token as networks have them."""
        pair = k.transpose(1, 2), v.transpose(1, 2)  # [B, S, Hg, D]
        tensors = pair if self.keep.form == FULL else (*pack(pair[0]), *pack(pair[1]))
        if self.place == CARD:
            return tuple(LEDGER.note(tensor, self.name, "keys and values") for tensor in tensors)
        if k.device not in self.main_memory:
            self.main_memory[k.device] = MainMemory(k.device, self.name)
        return tuple(self.main_memory[k.device].store(tensor) for tensor in tensors)

    def drop(self, label: Hashable, site: Site | None = None, entries: tuple[Entry, ...] | None = None) -> None:
        """Let go what is kept under a label: all of it, or of one site, or of some entries there."""
        sites = self.kept.get(label, {})
        for one in [site] if site is not None else list(sites):
            parts = sites.get(one, {})
            for entry in list(parts) if entries is None else entries:
                self._let_go(parts.pop(entry, None), parts)
            if not parts:
                sites.pop(one, None)
                self.heads.pop((label, one), None)
        if not sites:
            self.kept.pop(label, None)

    def _let_go(self, part: Part | None, others: dict[Entry, Part]) -> None:
        """Give back the buffers of a part that was taken out, once no other entry of its batch is kept."""
        if part is None or any(other.groups is part.groups for other in others.values()):
            return
        for host in (stored for group in part.groups for stored in group if isinstance(stored, HostTensor)):
            self.main_memory[part.device].let_go(host)

    def labels(self) -> list[Hashable]:
        """Return the labels under which something is kept."""
        return list(self.kept)

    def read(self, label: Hashable, call: Call) -> "Reading":
        """Return what was kept at the call's site, in the order of the call's batch.

        Raises ValueError for a prompt of which nothing was kept.
        """
        sites = self.kept.get(label, {})
        site = call.block, call.kind
        following = [*sites][[*sites].index(site) + 1 :] if site in sites else []
        parts = _wanted(sites.get(site, {}), call)
        ahead = following[0] if following else None
        after = None
        if ahead is not None and all(entry in sites[ahead] for entry in call.prompts):
            after = [sites[ahead][entry] for entry in call.prompts]
        return Reading(self, parts, self.heads[label, site], after, call)

    def group(self, parts: list[Part], number: int, ahead: list[Part] | None, ahead_number: int, call: Call):
        """Return (k, v) [B, Hg, S, D] of one group of heads for a batch of parts, on the card."""
        device, dtype = call.k.device, call.k.dtype
        runs = _runs(parts)
        if isinstance(runs[0][0].groups[number][0], HostTensor):
            next_runs = [] if ahead is None else _runs(ahead)
            fetched = iter(
                self.main_memory[device].fetch(_rows(runs, number), _rows(next_runs, ahead_number) if next_runs else ())
            )
            stored = [tuple(next(fetched) for _ in part.groups[number]) for part, _ in runs]
        else:
            stored = [tuple(tensor[rows] for tensor in part.groups[number]) for part, rows in runs]
        pairs = [self._unpacked(tensors, dtype) for tensors in stored]
        longest = max(part.tokens for part in parts)
        stretched = [
            tuple(_stretch(t, part, longest) for t in pair) for pair, (part, _) in zip(pairs, runs, strict=True)
        ]
        return tuple(
            (sides[0] if len(sides) == 1 else torch.cat(sides)).transpose(1, 2)
            for sides in zip(*stretched, strict=True)
        )

    def _unpacked(self, tensors: tuple[torch.Tensor, ...], dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        if self.keep.form == FULL:
            return tensors
        k, k_scale, v, v_scale = tensors
        return unpack(k, k_scale, dtype), unpack(v, v_scale, dtype)


class Reading:
    """Read what is kept for one call, group of heads by group of heads."""

    def __init__(
        self, cache: KVCache, parts: list[Part], heads: tuple[slice, ...], following: list[Part] | None, call: Call
    ):
        self.cache, self.parts, self.heads, self.following, self.call = cache, parts, heads, following, call
        self.text_tokens = max(part.text_tokens for part in parts)
        self.mask = _joined_mask(parts, call.k)

    def attend(self, attend: Callable[[torch.Tensor, KeysValues, KeysValues], torch.Tensor]) -> torch.Tensor:
        """Return [B, H, Sq, D], made by `attend(q, own, kept)` for each group of heads.

        A group is cut further where the call's own keys, which may stand beside those that are read, are more. Another
        feature that is asked within is shown these heads alone, and reads those of its own cache.
        """
        call, out = self.call, None
        own = KeysValues(call.k, call.v, call.mask, call.text_tokens)
        shown = _SHOWN.get() or slice(0, self.heads[-1].stop)
        most = groups_of_heads(call.k)[0].stop
        for heads, kept in self._groups(shown):
            for some in _cut(slice(max(heads.start, shown.start), min(heads.stop, shown.stop)), most):
                here, within = _seen_from(shown, some), _seen_from(heads, some)
                token = _SHOWN.set(some)
                try:
                    part = attend(call.q[:, here], _of_heads(own, here), _of_heads(kept, within))
                finally:
                    _SHOWN.reset(token)
                if some == shown:
                    return part
                out = torch.empty_like(call.q) if out is None else out
                out[:, here] = part
        return out

    def __iter__(self) -> Iterator[tuple[slice, KeysValues]]:
        """Yield all heads in groups, as `_groups` does."""
        yield from self._groups(slice(0, self.heads[-1].stop))

    def _groups(self, shown: slice) -> Iterator[tuple[slice, KeysValues]]:
        """Yield the groups that have some of the heads `shown`, with their keys and values [B, Hg, S, D], which may be
        read until the next are asked for.
        """
        for number, heads in enumerate(self.heads):
            if heads.stop <= shown.start or heads.start >= shown.stop:
                continue
            last = number + 1 == len(self.heads)
            ahead, ahead_number = (self.following, 0) if last else (self.parts, number + 1)
            k, v = self.cache.group(self.parts, number, ahead, ahead_number, self.call)
            yield heads, _of_heads(KeysValues(k, v, self.mask, self.text_tokens), heads, mask_alone=True)


def groups_of_heads(k: torch.Tensor) -> tuple[slice, ...]:
    """Return the groups of heads in which keys [B, H, S, D], and values like them, are kept and read."""
    heads = k.shape[1]
    size = heads_of_group(2 * k.nbytes // heads, heads)
    return tuple(slice(first, min(first + size, heads)) for first in range(0, heads, size))


def _seen_from(heads: slice, some: slice) -> slice:
    """Return where some heads stand among others, which begin at `heads.start`."""
    return slice(some.start - heads.start, some.stop - heads.start)


def _cut(heads: slice, most: int) -> Iterator[slice]:
    """Yield the parts of a group that have so many heads at most."""
    for first in range(heads.start, heads.stop, most):
        yield slice(first, min(first + most, heads.stop))


def every_frame(read: KeysValues, frames: int, every: int) -> KeysValues:
    """Return every n-th token frame of a video's keys and values, behind all of their text."""
    if every == 1:
        return read

    video_tokens = read.k.shape[2] - read.text_tokens
    if video_tokens % frames:
        raise ValueError(
            f"{video_tokens} video tokens are not {frames} equal frames: reference pictures in the sequence belong to "
            f"no frame; keep every frame"
        )

    def cut(t: torch.Tensor, axis: int) -> torch.Tensor:
        text, video = t.split([read.text_tokens, video_tokens], dim=axis)
        chosen = video.unflatten(axis, (frames, -1))[(slice(None),) * axis + (slice(None, None, every),)]
        return torch.cat([text, chosen.flatten(axis, axis + 1)], dim=axis)

    mask = None if read.mask is None else cut(read.mask, read.mask.ndim - 1)
    return replace(read, k=cut(read.k, 2), v=cut(read.v, 2), mask=mask)


def _wanted(parts: dict[Entry, Part], call: Call) -> list[Part]:
    missing = [entry for entry in call.prompts if entry not in parts]
    if missing:
        prompt, entry = missing[0]
        raise ValueError(
            f"conditioning entry {entry + 1} of prompt {prompt + 1} is to read another's keys and values, "
            f"and {sum(of == prompt for of, _ in parts)} entries of that prompt were evaluated; give both "
            f"equally many entries, active at the same steps"
        )
    return [parts[entry] for entry in call.prompts]


def _runs(parts: list[Part]) -> list[tuple[Part, slice]]:
    """Return the parts with the rows of each, where rows that follow each other in one batch are one run."""
    runs: list[tuple[Part, slice]] = []
    for part in parts:
        if runs and runs[-1][0].groups is part.groups and runs[-1][1].stop == part.rows.start:
            runs[-1] = part, slice(runs[-1][1].start, part.rows.stop)
        else:
            runs.append((part, part.rows))
    return runs


def _rows(runs: list[tuple[Part, slice]], number: int) -> list[Rows]:
    return [Rows(host, rows) for part, rows in runs for host in part.groups[number]]


def _stretch(t: torch.Tensor, part: Part, tokens: int) -> torch.Tensor:
    """Return [B, tokens, Hg, D]; the tokens that are added behind the text are never read."""
    gap = tokens - part.tokens
    if not gap:
        return t
    behind = part.text_tokens or part.tokens
    return torch.cat([t[:, :behind], t.new_zeros(t.shape[0], gap, *t.shape[2:]), t[:, behind:]], dim=1)


def _joined_mask(parts: list[Part], like: torch.Tensor) -> torch.Tensor | None:
    """Return the mask [1 or B, 1 or H, 1 or Sq, S] of all parts, which hides the tokens that some of them lack."""
    longest = max(part.tokens for part in parts)
    masks = [
        _stretched_mask(part, longest, like) if any(p.tokens < longest for p in parts) else part.mask for part in parts
    ]
    return masks[0] if all(mask is masks[0] for mask in masks) else torch.cat(masks)


def _stretched_mask(part: Part, tokens: int, like: torch.Tensor) -> torch.Tensor:
    behind, gap, rows = part.text_tokens or part.tokens, tokens - part.tokens, part.rows.stop - part.rows.start
    mask = like.new_zeros(1, 1, 1, part.tokens) if part.mask is None else part.mask
    hidden = mask.new_full((*mask.shape[:-1], gap), torch.finfo(mask.dtype).min)
    return torch.cat([mask[..., :behind], hidden, mask[..., behind:]], dim=-1).expand(rows, -1, -1, -1)


def _of_heads(read: KeysValues, heads: slice, mask_alone: bool = False) -> KeysValues:
    """Return the part of keys, values and mask that belongs to some heads."""
    mask = read.mask if read.mask is None or read.mask.shape[1] == 1 else read.mask[:, heads]
    if mask_alone:
        return replace(read, mask=mask)
    return replace(read, k=read.k[:, heads], v=read.v[:, heads], mask=mask)


def _own(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor that keeps no more memory alive than it shows."""
    return tensor.clone() if tensor.untyped_storage().nbytes() > tensor.nbytes else tensor
