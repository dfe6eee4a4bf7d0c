"""Edit prompts in the attention, where words of a prompt are made to count more or less.

Source: the editing mode of DiTCtrl (arXiv 2412.18597) and of its public code; re-weighting is Prompt-to-Prompt's
(arXiv 2208.01626). Between the words' text tokens and the video, in both directions, probabilities are multiplied after
the softmax and not renormalised; text among text and video among video stay as they are. `LOGITS` is the other usual
form: the softmax then shares what the words lose or gain among the rest.

Multiplied probabilities are the same as multiplied values, so the matrix of queries by keys never exists, and any
attention will do; only the form in the logits needs one that obeys a mask. Which tokens the words are, and which layers
and steps this happens in, is not known here.
"""

import torch

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
    columns in cross attention. Factors below 0 are for AFTER_SOFTMAX alone.
    """
    apply = {AFTER_SOFTMAX: _after_softmax, LOGITS: _in_logits}[form]
    text = queries.shape[1]
    of_video = torch.ones(q.shape[0], read.k.shape[2])
    of_video[:, : keys.shape[1]] = keys
    words = (queries != 1).any(dim=0)
    out = torch.empty_like(q)
    out[:, :, text:] = apply(attend, q[:, :, text:], read.k, read.v, _mask_of(read.mask, slice(text, None)), of_video)
    if not words.all():
        others = (~words).nonzero()[:, 0]
        out[:, :, others] = attend(q[:, :, others], read.k, read.v, _mask_of(read.mask, others))
    for token in words.nonzero()[:, 0].tolist():
        of_word = torch.ones_like(of_video)
        of_word[:, read.text_tokens :] = queries[:, token, None]
        here = slice(token, token + 1)
        out[:, :, here] = apply(attend, q[:, :, here], read.k, read.v, _mask_of(read.mask, here), of_word)
    return out


def _mask_of(mask: torch.Tensor | None, queries: slice | torch.Tensor) -> torch.Tensor | None:
    """Return the same object where the mask does not tell queries apart, so that the network's own attention
    takes it.
    """
    return mask if mask is None or mask.shape[-2] == 1 else mask[..., queries, :]


def _after_softmax(
    attend: Attend, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, factor: torch.Tensor
) -> torch.Tensor:
    """Apply the factors to probabilities: `factor` [B, Sk] is the same for all of these queries."""
    return attend(q, k, v * factor[:, None, :, None].to(v), mask)


def _in_logits(
    attend: Attend, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, factor: torch.Tensor
) -> torch.Tensor:
    bias = factor.clamp(min=torch.finfo(torch.float32).tiny).log()[:, None, None].to(q)  # [B, 1, 1, Sk]
    return attend(q, k, v, bias if mask is None else mask + bias)
