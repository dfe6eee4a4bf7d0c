"""Focus maps written out in full, for tests to compare with: softmax of all queries and keys, S x S."""

from collections.abc import Iterable

import torch

from longreel.engine.plan.timeline import Segment, Timeline
from longreel.hosts.families.sites import Call

POSITIVE = 0  # core's number of the positive prompt


def probabilities(call: Call, prompt: int) -> torch.Tensor:
    """[H, Sq, Sk] of the first video of a prompt."""
    row = call.rows.index(prompt) * (call.q.shape[0] // len(call.rows))
    logits = call.q[row] @ call.k[row].mT * call.q.shape[-1] ** -0.5
    if call.mask is not None:
        logits = logits + call.mask[row if call.mask.shape[0] > 1 else 0]
    return logits.softmax(dim=-1)


def text_weights(timeline: Timeline, segment: Segment, word: str) -> torch.Tensor:
    """[tokens]: the share of each shot's prompt at the word's place in it; the tiny tokenizer has a token per word."""
    weights = torch.zeros(16)
    for shot, share in segment.mix:
        weights[timeline.shots[shot].shot.prompt.split().index(word)] += share
    return weights


def explicit_map(calls: Iterable[Call], weights: torch.Tensor) -> torch.Tensor:
    """[video tokens]: how much the weighted text tokens are read, mean over heads and calls."""
    found = [probabilities(call, POSITIVE)[:, call.text_tokens :, : len(weights)] @ weights for call in calls]
    return torch.stack([heads.mean(dim=0) for heads in found]).mean(dim=0)


def normalised(found: torch.Tensor, frames: int) -> torch.Tensor:
    """[video tokens] -> [frames, tokens of a frame], 0..1 within each."""
    maps = []
    for frame in found.reshape(frames, -1):
        maps.append((frame - frame.min()) / (frame.max() - frame.min() + 1e-6))
    return torch.stack(maps)
