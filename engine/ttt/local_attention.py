"""Attend within each segment of a long video; frames that two segments share get the mean of both.

Source: One-Minute Video Generation with Test-Time Training (arXiv 2504.05298, section 3.1) and its public code: a
segment attends to its own text and to 13 latent frames, of which it shares one with each neighbour; positions in time
begin anew in every segment. So the cost grows with the video and not with its square, and what crosses segments is left
to the TTT layers. Tokens stand joined as in engine/ttt/order.py; the network around is not known here.

Beyond the paper, a segment may look at frames in front of its own (`Layout.leads`): they lend it keys and values, and
what the segment says of them is dropped.
"""

from collections.abc import Callable

import torch

from ..attention.kv_share import Attend
from .order import Layout

TimeShift = Callable[[torch.Tensor, int], torch.Tensor]
"""(rotated video queries or keys [B, H, S, D], latent frames) -> the same, standing so many frames later."""


def evaluate_segments(
    evaluate: Callable[[int], torch.Tensor], layout: Layout, out: torch.Tensor, dim: int = 1
) -> torch.Tensor:
    """Fill `out`, whose axis `dim` holds the layout's joined tokens, segment by segment, and return it.

    evaluate(segment) is that segment's text, the frames of its lead and its own, along `dim`, as `segment_of` cuts them
    out; one segment's result is held at a time. Tokens that one segment alone writes are copied as they are.
    """
    seen = [0] * layout.frames  # how many segments have written each frame
    for segment, (start, stop) in enumerate(layout.windows):
        frames = [len(layout.leads[segment]), stop - start]
        lengths = [layout.text_lengths[segment], *(count * layout.frame_tokens for count in frames)]
        text, _, video = evaluate(segment).split(lengths, dim)
        _part(out, layout.text_of(segment), dim).copy_(text)
        shared = layout.windows[segment - 1][1] - start if segment else 0
        overlap, rest = video.split([shared * layout.frame_tokens, (stop - start - shared) * layout.frame_tokens], dim)
        _part(out, layout.tokens_of((start, start + shared)), dim).add_(overlap)
        _part(out, layout.tokens_of((start + shared, stop)), dim).copy_(rest)
        seen[start:stop] = [count + 1 for count in seen[start:stop]]
    for frame, count in enumerate(seen):
        if count > 1:
            _part(out, layout.tokens_of((frame, frame + 1)), dim).div_(count)
    return out


def segment_of(x: torch.Tensor, layout: Layout, segment: int, dim: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a segment's (text, video with its lead) of joined tokens; views where these frames follow each other."""
    seen = [_part(x, layout.tokens_of(frames), dim) for frames in layout.seen_by(segment)]
    return _part(x, layout.text_of(segment), dim), seen[0] if len(seen) == 1 else torch.cat(seen, dim)


def attend_locally(
    attend: Attend,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    layout: Layout,
    time_shift: TimeShift | None = None,
) -> torch.Tensor:
    """Attend within each segment: q, k, v [B, H, L, D] of all texts and then all frames -> [B, H, L, D].

    time_shift: moves keys and queries that were rotated by their place in the whole video to their place in the
    segment; None where positions are not rotary; a lead must then border on its window. Between video tokens alone that
    changes nothing, but text has no position in time. This is the paper's own layout as one call, for a network that
    hands out queries and keys when they are rotated already; the families of hosts/ttt rotate each segment anew and use
    `evaluate_segments` alone.
    """

    def evaluate(segment: int) -> torch.Tensor:
        start = layout.seen_by(segment)[0][0]

        def joined(x: torch.Tensor, rotary: bool) -> torch.Tensor:
            text, video = segment_of(x, layout, segment, dim=2)
            if rotary and time_shift is not None and start:
                video = time_shift(video, -start)
            return torch.cat([text, video], dim=2)

        return attend(joined(q, True), joined(k, True), joined(v, False), None)

    return evaluate_segments(evaluate, layout, torch.empty_like(q), dim=2)


def _part(x: torch.Tensor, tokens: tuple[int, int], dim: int) -> torch.Tensor:
    return x.narrow(dim, tokens[0], tokens[1] - tokens[0])
