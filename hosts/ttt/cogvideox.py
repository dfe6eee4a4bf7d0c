"""TTT in CogVideoX 1.0 (5B) and 1.5: the paper's own integration. The block is hosts/ttt/cogvideox_block.py.

Text and video attend jointly. So
- TTT reads text and video in turns, each segment's text before its frames, behind the attention's output projection and
  before the block's gates.
- A segment's attention sees its own text and its frames, at the positions of a video that begins there. A frame that
  two segments share is given the mean of both.
- CogVideoX 1.5 reads two latent frames as one token frame. A segment has every token frame that holds a frame of it, so
  segments that border inside one share it.
- A network without rotary positions adds positions in time to the tokens before the first block, where they cannot
  begin anew in a segment: it is refused for more than one segment.

The public code's network differs from core's in two numbers, its LayerNorm eps and how rows and columns are counted.
Weights that it trained are told by their learning rates (engine/ttt/layer.AS_TRAINED); `papers_numbers` are then
patched into the clone that carries them, and core undoes that where another clone is used.
"""

from collections.abc import Iterator
from typing import Any

import torch

from ...engine.ttt.block import TTTBlock
from ..families import cogvideox
from ..families.sites import argument
from ..types import Network
from .cogvideox_block import LAYER_NORM_EPS, evaluate_block, norms_of
from .segments import Segments, slab_tokens


class CogVideoXSegments(Segments):
    """One forward of CogVideoX with its blocks in segments."""

    family = cogvideox
    joint = True
    attention = ("q", "k", "v", "attn_out", "norm_q", "norm_k")

    @staticmethod
    def refuse(network: Network, segments: int) -> None:
        if segments > 1 and not network.use_rotary_positional_embeddings:
            raise ValueError(
                f"this CogVideoX has no rotary positions, and time cannot begin anew in each of {segments} "
                f"segments; use a CogVideoX 5B, or 1 segment"
            )

    @staticmethod
    def joined_text(network: Network, args: tuple, kwargs: dict) -> int:
        return argument(type(network)._forward, args, kwargs, "context").shape[1]

    @staticmethod
    def papers_numbers(network: Network) -> list[tuple[str, Any]]:
        """Those of `papers_numbers` below."""
        return list(papers_numbers(network))

    def evaluate(self, block: torch.nn.Module, original, ttt: TTTBlock | None, *args, **kwargs):
        if getattr(original, "__func__", None) is not type(block).forward:
            raise ValueError(
                "another node has patched CogVideoX's blocks, whose order of steps TTT changes; remove that node, or "
                "Longreel's TTT nodes"
            )
        slab = None if ttt is None else slab_tokens(self.layout, ttt)
        return evaluate_block(block, ttt or _as_it_is, self.layout, *args, **kwargs, slab_tokens=slab)


def _as_it_is(x: torch.Tensor, *args, **kwargs) -> torch.Tensor:
    return x


def papers_numbers(network: Network) -> Iterator[tuple[str, Any]]:
    """(path in the network, value) of what core's CogVideoX must be told to be the public code's."""
    norms = set(norms_of(network))
    for name, module in network.named_modules():
        if module in norms:
            yield f"{name}.eps", LAYER_NORM_EPS
    yield "spatial_interpolation_scale", 1.0
