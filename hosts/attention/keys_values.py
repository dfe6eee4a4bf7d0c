"""Keys and values that one attention call leaves behind for another: taken apart by prompt, put together again for the
prompts of the reader, because core puts them into batches in whatever way fits the memory.
"""

import torch

from ...engine.attention.kv_share import KeysValues
from ..families.sites import Call

Parts = dict[tuple[int, int], KeysValues]
"""(core's number of the prompt, place of the entry in its conditioning) -> that part of a batch."""


def by_entry(call: Call) -> Parts:
    """Return the call's keys and values by prompt and entry, owning no more memory than they show."""
    parts, size = {}, call.k.shape[0] // len(call.rows)
    k, v = _own(call.k), _own(call.v)
    for place, entry in enumerate(zip(call.rows, call.entries, strict=True)):
        rows = slice(place * size, (place + 1) * size)
        mask = call.mask if call.mask is None or call.mask.shape[0] == 1 else call.mask[rows]
        parts[entry] = KeysValues(k[rows], v[rows], mask, call.text_tokens)
    return parts


def for_reader(parts: Parts, call: Call) -> KeysValues:
    """Return what was kept, in the order of the reader's batch.

    Raises ValueError for a prompt of which nothing was kept.
    """
    wanted = list(zip(call.rows, call.entries, strict=True))
    missing = [entry for entry in wanted if entry not in parts]
    if missing:
        prompt, entry = missing[0]
        raise ValueError(
            f"conditioning entry {entry + 1} of prompt {prompt + 1} is to read another's keys and values, "
            f"and {sum(of == prompt for of, _ in parts)} entries of that prompt were evaluated; give both "
            f"equally many entries, active at the same steps"
        )
    chosen = [parts[entry] for entry in wanted]
    if len(chosen) == 1:
        return chosen[0]
    longest = max(part.k.shape[2] for part in chosen)
    if any(part.k.shape[2] < longest for part in chosen):  # evaluated apart, with texts of different length
        chosen = [_stretched(part, longest) for part in chosen]
    masks = [part.mask for part in chosen]
    mask = masks[0] if all(m is masks[0] for m in masks) else torch.cat(masks)
    return KeysValues(torch.cat([p.k for p in chosen]), torch.cat([p.v for p in chosen]), mask, chosen[0].text_tokens)


def _stretched(part: KeysValues, tokens: int) -> KeysValues:
    """Return a part with `tokens` keys; those that are added behind the text are never read."""
    rows, heads, known, width = part.k.shape
    behind, gap = part.text_tokens or known, tokens - known

    def stretch(t: torch.Tensor) -> torch.Tensor:
        return torch.cat([t[:, :, :behind], t.new_zeros(rows, heads, gap, width), t[:, :, behind:]], dim=2)

    mask = part.k.new_zeros(1, 1, 1, known) if part.mask is None else part.mask
    hidden = mask.new_full((*mask.shape[:-1], gap), torch.finfo(mask.dtype).min)
    mask = torch.cat([mask[..., :behind], hidden, mask[..., behind:]], dim=-1).expand(rows, -1, -1, -1)
    return KeysValues(stretch(part.k), stretch(part.v), mask, part.text_tokens + gap if part.text_tokens else 0)


def _own(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.clone() if tensor.untyped_storage().nbytes() > tensor.nbytes else tensor
