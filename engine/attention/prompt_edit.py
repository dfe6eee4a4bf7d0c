"""Edit prompts in the attention, where words of a prompt are made to count more or less.

Source: the editing mode of DiTCtrl (arXiv 2412.18597) and of its public code; re-weighting is Prompt-to-Prompt's
(arXiv 2208.01626). Between the words' text tokens and the video, in both directions, probabilities are multiplied after
the softmax and not renormalised; text among text and video among video stay as they are. `LOGITS` is the other usual
form: the softmax then shares what the words lose or gain among the rest.

Multiplied probabilities are the same as multiplied values, so the matrix of queries by keys never exists, and any
attention will do; only the form in the logits needs one that obeys a mask. Which tokens the words are, and which layers
and steps this happens in, is not known here.
"""

from typing import NamedTuple

import torch

from ..to_device import sent
from .kv_share import Attend, KeysValues

AFTER_SOFTMAX, LOGITS = "after softmax", "logits"  # where a word's weight comes in
FORMS = (AFTER_SOFTMAX, LOGITS)


def check_weight(weight: float, form: str) -> None:
    """Raise ValueError for a negative weight in the logits, where it has no logarithm."""
    if form == LOGITS and weight < 0:
        raise ValueError(
            f'weight {weight:g} has no logarithm, and form "{LOGITS}" adds one; use 0 or more, or form '
            f'"{AFTER_SOFTMAX}"'
        )


def word_factors(shares: torch.Tensor, weight: float) -> torch.Tensor:
    """Return [tokens], `weight` at the words and 1 elsewhere; shares [tokens] are 1 at the words, 0 elsewhere, and
    between them where prompts are mixed.
    """
    return 1 + shares * (weight - 1)


def reweight(
    attend: Attend,
    q: torch.Tensor,
    read: KeysValues,
    keys: torch.Tensor,
    queries: torch.Tensor,
    form: str = AFTER_SOFTMAX,
) -> torch.Tensor:
    """Return attention on `read` in which words count by their factors: q [B, H, S, D] -> [B, H, S, D].

    keys [B, text keys]: with what the video reads each text token; all of `read` is text where it has no text part of
    its own (cross attention). queries [B, text queries]: with what each text token in front of q reads the video; no
    columns in cross attention. Both are tensors of the host, which the words are picked from without a wait for the
    device. Factors below 0 are for AFTER_SOFTMAX alone.
    """
    apply = {AFTER_SOFTMAX: _after_softmax, LOGITS: _in_logits}[form]
    text = queries.shape[1]
    words = (queries != 1).any(dim=0)
    out = torch.empty_like(q)
    of_video = _Factors(keys, slice(0, keys.shape[1]))
    behind = slice(text, None)
    out[:, :, behind] = apply(attend, q[:, :, behind], read.k, read.v, _mask_of(read.mask, behind), of_video)
    if not words.all():
        others = sent((~words).nonzero()[:, 0], q, torch.int64)
        out[:, :, others] = attend(q[:, :, others], read.k, read.v, _mask_of(read.mask, others))
    for token in words.nonzero()[:, 0].tolist():
        of_word = _Factors(queries[:, token, None], slice(read.text_tokens, None))
        here = slice(token, token + 1)
        out[:, :, here] = apply(attend, q[:, :, here], read.k, read.v, _mask_of(read.mask, here), of_word)
    return out


class _Factors(NamedTuple):
    """Numbers [B, 1 or tokens] of the host for some of the keys; the others count once."""

    numbers: torch.Tensor
    keys: slice

    def on(self, like: torch.Tensor, tokens: int, others: float) -> torch.Tensor:
        """Return [B, tokens] on the device of `like` and in its dtype."""
        spread = torch.full((len(self.numbers), tokens), others, dtype=like.dtype, device=like.device)
        spread[:, self.keys] = sent(self.numbers, like)
        return spread


def _mask_of(mask: torch.Tensor | None, queries: slice | torch.Tensor) -> torch.Tensor | None:
    """Return the same object where the mask does not tell queries apart, so that the network's own attention
    takes it.
    """
    return mask if mask is None or mask.shape[-2] == 1 else mask[..., queries, :]


def _after_softmax(
    attend: Attend, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, factors: _Factors
) -> torch.Tensor:
    """Apply the factors to probabilities, the same for all of these queries."""
    return attend(q, k, v * factors.on(v, v.shape[2], 1.0)[:, None, :, None], mask)


def _in_logits(
    attend: Attend, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, factors: _Factors
) -> torch.Tensor:
    logs = factors._replace(numbers=factors.numbers.clamp(min=torch.finfo(torch.float32).tiny).log())
    bias = logs.on(q, k.shape[2], 0.0)[:, None, None]  # [B, 1, 1, Sk]
    return attend(q, k, v, bias if mask is None else mask + bias)
