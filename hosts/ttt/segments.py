"""One transformer block over a whole timeline: attention segment by segment, TTT over all of them, then the block's
rest.

Source: One-Minute Video Generation with Test-Time Training (arXiv 2504.05298, section 3), for networks whose blocks
this pack does not write anew. A block is evaluated twice for each segment, by the network's own code: once up to its
attention's output, where the evaluation is cut short; and, when TTT has read the outputs of all segments, once more
with that result in the attention's place. So LoRA, other nodes' patches and casts work inside as always, only one
segment's temporaries exist at a time, and what is held of the whole video is the hidden states and one more tensor like
them.

`Segments` is what a family (hosts/ttt/<family>.py) says of its network; hosts/ttt/apply.py puts it to work.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

import comfy.model_management

from ...engine.ttt.block import TTTBlock
from ...engine.ttt.local_attention import evaluate_segments
from ...engine.ttt.order import Layout, Range
from ..families.family import Family
from ..types import Network


class Segments:
    """One forward of one network. `layout` is what TTT reads. `text_lengths` are the text tokens of each segment in the
    network's context, whether or not they are joined to the video; `args`, `kwargs` are those of the network's
    `_forward`. Families override the rest."""

    family: Family
    joint = False  # whether text tokens are among those that attention returns, and TTT reads
    attention: tuple[str, ...]  # submodules of a block that are its self-attention, as far as it has them

    def __init__(self, network: Network, layout: Layout, text_lengths: tuple[int, ...], args: tuple, kwargs: dict):
        """Keep what one forward is about."""
        self.network, self.layout, self.text_lengths = network, layout, text_lengths
        self.args, self.kwargs = args, kwargs

    @staticmethod
    def refuse(network: Network, segments: int) -> None:
        """Raises ValueError, before sampling, where this network cannot be evaluated in so many segments."""

    @staticmethod
    def joined_text(network: Network, args: tuple, kwargs: dict) -> int:
        """Text tokens that the blocks get for the network's context (joint families)."""
        return 0

    @staticmethod
    def papers_numbers(network: Network) -> list[tuple[str, Any]]:
        """(place in the network, value) where the network that layers were published for has other numbers than
        core's."""
        return []

    def evaluate(self, block: torch.nn.Module, original: Callable, ttt: TTTBlock | None, *args, **kwargs):
        """What `original`, the block's forward, does with these arguments, for all segments."""
        raise NotImplementedError

    def around(self) -> list[tuple[torch.nn.Module, Callable]]:
        """Other modules of the network and what their forward is meanwhile."""
        return []

    def text_tokens_of(self, segment: int, before: int = 0) -> slice:
        """A segment's text among those of all, behind `before` other tokens."""
        start = before + sum(self.text_lengths[:segment])
        return slice(start, start + self.text_lengths[segment])

    def check_tokens(self, found: int, wanted: int) -> None:
        if found != wanted:
            raise ValueError(
                f"the network's blocks read {found} tokens and the timeline has {wanted}; reference pictures and "
                f"guides belong to no segment: remove the node that adds them"
            )

    def of_video(self, x: torch.Tensor, ranges: Sequence[Range]) -> torch.Tensor:
        """The tokens of these frames, of a video's [B, F * P, C] without its text."""
        return _joined(
            [x[:, first * self.layout.frame_tokens : last * self.layout.frame_tokens] for first, last in ranges]
        )

    def of_frames(self, modulation: torch.Tensor, ranges: Sequence[Range]) -> torch.Tensor:
        """The part of [B, 1 or frames or tokens, ...] that belongs to these frames."""
        count = modulation.shape[1]
        if count == 1:
            return modulation
        per_frame = count // self.layout.frames
        if per_frame * self.layout.frames != count:
            raise ValueError(
                f"the network's timesteps are {count} and its video has {self.layout.frames} frames; use "
                f"masks of whole frames"
            )
        return _joined([modulation[:, first * per_frame : last * per_frame] for first, last in ranges])


def _joined(parts: list[torch.Tensor]) -> torch.Tensor:
    """One part as it is, a view; several one behind the other."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def mix(
    attend: Callable[[int], torch.Tensor], layout: Layout, like: torch.Tensor, ttt: TTTBlock | None
) -> torch.Tensor:
    """attend(segment): its attention's output [B, text + lead + frames, C] -> what stands in its place for the whole
    video [B, layout.tokens, C], a new tensor. `like` [B, any, C] lends dtype and device."""
    attended = like.new_empty(like.shape[0], layout.tokens, like.shape[2])

    def unless_interrupted(segment: int) -> torch.Tensor:
        comfy.model_management.throw_exception_if_processing_interrupted()
        return attend(segment)

    evaluate_segments(unless_interrupted, layout, attended)
    if ttt is None:
        return attended
    return ttt(attended, layout, slab_tokens(layout, ttt), in_place=not torch.is_grad_enabled())


def slab_tokens(layout: Layout, ttt: TTTBlock) -> int:
    """About one segment, in whole chunks: TTT then needs no more memory at a time than attention does."""
    chunk = ttt.ttt.config.chunk
    longest = max(
        text_tokens + (stop - start) * layout.frame_tokens
        for text_tokens, (start, stop) in zip(layout.text_lengths, layout.windows, strict=True)
    )
    return -(-longest // chunk) * chunk


def room_for_result(mixed: torch.Tensor) -> torch.Tensor:
    """Where the block's result goes: into the place of what was mixed, unless gradients need that."""
    return torch.empty_like(mixed) if torch.is_grad_enabled() else mixed
