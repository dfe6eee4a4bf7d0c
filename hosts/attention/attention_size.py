"""What one evaluation of a MODEL's network shows to its attention, in ints, before anything is sampled.

The network says its heads and patches (hosts/families), the guider its prompts, and the context handler in charge how
many latent frames the network sees at once. Text that is not known yet has the family's usual length. A picture's
tokens, which image-to-video networks read beside the text, are none of the features' business and are not counted.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ...engine.plan.needs import AttentionSize
from .. import keys
from ..families.family import Family
from ..families.sites import FRAME_AXIS, token_grid
from ..types import ContextHandler, Entry, Guider, Network

PAIR = {"positive", "negative"}  # the prompts of classifier-free guidance, as core's guiders name them
ONE_WITHOUT_GUIDANCE = "disable_cfg1_optimization"  # core's option: evaluate both prompts at cfg 1 all the same


def attention_size(
    family: Family, network: Network, window: Sequence[int], *, rows: int, text_tokens: int, itemsize: int
) -> AttentionSize:
    """Return the size of an evaluation of a latent window [B, C, F, H, W], of which every row of `rows` sees F, H, W.

    The network may lie on the meta device. itemsize: bytes of a number of its keys.
    """
    patches, heads = family.patch_size(network), family.heads(network)
    _, tall, wide = token_grid(window[FRAME_AXIS:], patches)
    return AttentionSize(
        rows=rows,
        heads=heads,
        head_width=family.width(network) // heads,
        itemsize=itemsize,
        frames=window[FRAME_AXIS],
        patch_frames=patches[0],
        tokens_of_frame=tall * wide,
        text_tokens=text_tokens,
        sites=tuple((site.kind, site.block) for site in family.sites(network)),
    )


def window_of(noise_shape: Sequence[int], handler: ContextHandler | None) -> tuple[int, ...]:
    """Return the shape [B, C, F, H, W] of the longest window that the network sees in a run of this noise.

    A handler of ours says so itself, as `window_frames`: in a rollout the longest chunk may be yet to come.
    """
    frames = getattr(handler, "window_frames", None)
    if frames is None:
        frames = min(noise_shape[FRAME_AXIS], getattr(handler, "context_length", noise_shape[FRAME_AXIS]))
    return (*noise_shape[:FRAME_AXIS], frames, *noise_shape[FRAME_AXIS + 1 :])


def prompts_of(guider: Guider) -> tuple[str, ...]:
    """Return the names of the prompts that the guider has evaluated: one where guidance is off."""
    names = tuple(name for name, entries in guider.conds.items() if entries is not None)
    off = math.isclose(guider.cfg, 1.0) and not guider.model_options.get(ONE_WITHOUT_GUIDANCE, False)
    return ("positive",) if off and set(names) == PAIR else names


def entries_at_once(entries: Sequence[Entry]) -> int:
    """Return how many entries of a prompt the network sees at one place: all, or those of one shot and the common."""
    shots = Counter(entry[keys.SHOT] for entry in entries if keys.SHOT in entry)
    common = sum(keys.SHOT not in entry for entry in entries)
    return common + max(shots.values(), default=0)


def text_tokens_of(conds: Mapping[str, Sequence[Entry]], family: Family) -> int:
    """Return the tokens of the longest text, [1, tokens, width] of each entry, or the family's usual number."""
    texts: list[Any] = [entry.get("cross_attn") for entries in conds.values() for entry in entries]
    lengths = [text.shape[1] for text in texts if isinstance(text, torch.Tensor) and text.ndim > 1]
    return max(lengths, default=family.TEXT_TOKENS)
