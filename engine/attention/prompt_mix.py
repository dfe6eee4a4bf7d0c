"""Mix prompts: the text embedding of a transition segment is a mix of its neighbours' embeddings.

Source: DiTCtrl (arXiv 2412.18597), whose transition segments move linearly from one prompt to the next. The mix is made
on the text encoder's output, before the network's own projection. Which segment gets which mix is latent_blend's
matter.
"""

from collections.abc import Sequence

import torch


def mix_texts(parts: Sequence[tuple[torch.Tensor, float]]) -> torch.Tensor:
    """Return the weighted sum of text tensors, whose shares add up to one.

    parts: (tensor, share); tensors are [B, tokens, width] embeddings, [B, width] pooled embeddings, [B, tokens] masks
    or [B] numbers.
    Shorter texts are filled with zeros up to the longest. A mask (bool or integer) is not averaged: a token that one of
    the texts has is there. A single part is passed on as it is.
    """
    total = sum(share for _, share in parts)
    if abs(total - 1) > 1e-6:
        raise ValueError(f"the shares of a mixed prompt add up to {total:.6g}, not 1; divide them by their sum")
    if len(parts) == 1:
        return parts[0][0]
    texts = _same_length([text for text, _ in parts])
    if not texts[0].is_floating_point():
        return torch.stack(texts).amax(dim=0)
    shares = (share * text.to(texts[0].device) for text, (_, share) in zip(texts, parts, strict=True))
    return sum(shares)  # type: ignore[return-value]  # its stub speaks of an empty sum, and there are two parts at least


def _same_length(texts: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return all texts with as many tokens (axis 1) as the longest has, with zeros at the end."""
    if texts[0].ndim < 2:
        return texts
    longest = max(text.shape[1] for text in texts)
    filled = []
    for text in texts:
        missing = text.new_zeros([text.shape[0], longest - text.shape[1], *text.shape[2:]])
        filled.append(torch.cat([text, missing], dim=1))
    return filled
