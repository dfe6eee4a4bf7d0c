"""TTT in HunyuanVideo: where it stands in a block, and what a segment is. Layout in comfy/ldm/hunyuan_video/model.py.

Text and video attend jointly, in double blocks (weights of their own for each) and in single blocks. So
- TTT reads text and video in turns, each segment's text before its frames. It stands behind the attention and before
  its output projection, in both kinds: a single block projects attention and MLP in one, so there is no place behind
  it.
- A segment's attention sees its own text, under its mask, and its frames at the positions of a video that begins there.
  A frame that two segments share is given the mean of both.
- The text refiner reads one segment's text at a time. The pooled text (CLIP) moves each segment's modulation to its own
  prompt; a frame that two segments share follows the first, behind attention and in the last layer.
- A reference picture, CLIP vision tokens, quoted text (byt5) and a guiding frame belong to no segment: the first is
  refused, the others for more than one segment.

Core's blocks compute queries, keys and values, and single blocks the MLP's first half, again for the second evaluation.
"""

from functools import cached_property

import torch

from comfy.ldm.flux.layers import DoubleStreamBlock

from ...engine.ttt.block import TTTBlock
from ...engine.ttt.order import Range, own_frames
from ..families import hunyuan_video
from ..families.modules import Reached, until_reached
from ..families.sites import argument
from ..types import Network
from .segments import Segments, mix, room_for_result

OVERRIDE = "optimized_attention_override"  # core's name of its slot
BEFORE, BEHIND = "attn1_patch", "attn1_output_patch"  # core's lists of patches before and behind attention
OF_NO_SEGMENT = {"txt_byt5": "quoted text", "clip_fea": "a picture's tokens", "guiding_frame_index": "a guiding frame"}


class HunyuanVideoSegments(Segments):
    """One forward of HunyuanVideo with its blocks in segments."""

    family = hunyuan_video
    joint = True
    attention = ("img_attn", "txt_attn", "linear1", "linear2", "norm")

    def __init__(self, network: Network, layout, text_lengths, args, kwargs):
        super().__init__(network, layout, text_lengths, args, kwargs)
        given = [what for name, what in OF_NO_SEGMENT.items() if self._given(name) is not None]
        if given and layout.segments > 1:
            raise ValueError(
                f"{given[0]} in the conditioning cannot be divided between {layout.segments} segments; use one "
                f"segment, or remove the node that adds it"
            )
        if self._given("ref_latent") is not None:
            raise ValueError(
                "a reference latent in the conditioning belongs to no segment; remove the node that adds it"
            )

    def _given(self, name: str):
        return argument(type(self.network)._forward, self.args, self.kwargs, name)

    @staticmethod
    def joined_text(network: Network, args: tuple, kwargs: dict) -> int:
        context, picture, quoted = (
            argument(type(network)._forward, args, kwargs, name) for name in ("context", "clip_fea", "txt_byt5")
        )
        tokens = context.shape[1] + (0 if picture is None else picture.shape[1])
        return tokens + (quoted.shape[1] if quoted is not None and network.byt5_in is not None else 0)

    def around(self):
        if self.layout.segments == 1:
            return []
        changed = [(self.network.txt_in, self._refine(self.network.txt_in.forward))]
        if self.network.vector_in is not None:
            changed.append((self.network.final_layer, self._finish(self.network.final_layer.forward)))
        return changed

    def _refine(self, original):
        def refine(x: torch.Tensor, timesteps, mask, transformer_options=None):
            texts = [self.text_tokens_of(segment) for segment in range(self.layout.segments)]
            return torch.cat(
                [
                    original(
                        x[:, text_tokens],
                        timesteps,
                        mask if mask is None else mask[:, text_tokens],
                        transformer_options=transformer_options or {},
                    )
                    for text_tokens in texts
                ],
                dim=1,
            )

        return refine

    def _finish(self, original):
        def finish(x: torch.Tensor, vec: torch.Tensor, modulation_dims=None):
            border, parts = self.layout.text_tokens, []
            for segment, frames in enumerate(own_frames(self.layout)):
                start, stop = self.layout.tokens_of(frames)
                seen = x[:, start - border : stop - border]
                parts.append(original(seen, self._modulation(vec, segment), modulation_dims))
            return torch.cat(parts, dim=1)

        return finish

    def _pool(self) -> list[torch.Tensor]:
        """[B, C] of each segment's pooled text."""
        parts = self._given("y").chunk(self.layout.segments, dim=1)
        return [self.network.vector_in(part) for part in parts]

    _pooled = cached_property(_pool)

    def _modulation(self, vec: torch.Tensor, segment: int) -> torch.Tensor:
        """Core adds the first segment's pooled text, whose width it knows, to the timestep's vector [B, C]."""
        if segment == 0 or self.network.vector_in is None:
            return vec
        # What was kept while a block ran without gradients would lend none to the block that is recomputed.
        pooled = self._pool() if torch.is_grad_enabled() else self._pooled
        return vec + (pooled[segment] - pooled[0])

    def evaluate(self, block: torch.nn.Module, original, ttt: TTTBlock | None, *args, **kwargs):
        evaluate = self._double if isinstance(block, DoubleStreamBlock) else self._single
        return evaluate(original, ttt, *args, **kwargs)

    def _double(
        self,
        original,
        ttt,
        img: torch.Tensor,
        txt: torch.Tensor,
        vec: torch.Tensor,
        pe,
        attn_mask=None,
        modulation_dims_img=None,
        modulation_dims_txt=None,
        transformer_options=None,
    ):
        """Evaluate a double block: img [B, F * P, C], txt [B, texts, C], which core's block overwrites; vec [B, C]; pe
        [B, 1, all, D / 2, 2, 2]; attn_mask [1, 1, all] or None."""
        layout, border = self.layout, self.layout.text_tokens
        self.check_tokens(txt.shape[1] + img.shape[1], layout.tokens)

        def call(segment: int, frames: tuple[Range, ...], options: dict) -> tuple[torch.Tensor, torch.Tensor]:
            part = self.of_video(img, frames)
            return original(
                img=part,
                txt=txt[:, slice(*layout.text_of(segment))],
                vec=self._modulation(vec, segment),
                pe=self._positions(pe, segment, part.shape[1]),
                attn_mask=self._mask(attn_mask, segment, part.shape[1]),
                modulation_dims_img=modulation_dims_img,
                modulation_dims_txt=modulation_dims_txt,
                transformer_options=options,
            )

        def attend(segment: int) -> torch.Tensor:
            return until_reached(lambda: call(segment, layout.seen_by(segment), _cut_short(transformer_options or {})))

        mixed = mix(attend, layout, img, ttt)
        out = room_for_result(mixed)
        for segment, frames in enumerate(own_frames(layout)):
            text_tokens, tokens = (slice(*part) for part in (layout.text_of(segment), layout.tokens_of(frames)))
            given = torch.cat([mixed[:, text_tokens], mixed[:, tokens]], dim=1)
            out[:, tokens], out[:, text_tokens] = call(
                segment, (frames,), _with_attention(transformer_options or {}, given)
            )
        return out[:, border:], out[:, :border]

    def _single(
        self,
        original,
        ttt,
        x: torch.Tensor,
        vec: torch.Tensor,
        pe,
        attn_mask=None,
        modulation_dims=None,
        transformer_options=None,
    ):
        """Evaluate a single block: x [B, texts + F * P, C]; the rest as in a double block."""
        layout = self.layout
        self.check_tokens(x.shape[1], layout.tokens)

        def call(segment: int, frames: tuple[Range, ...], options: dict) -> torch.Tensor:
            text_tokens = slice(*layout.text_of(segment))
            part = self.of_video(x[:, layout.text_tokens :], frames)
            count = part.shape[1]
            joined = torch.cat([x[:, text_tokens], part], dim=1)
            options = {**options, "img_slice": [text_tokens.stop - text_tokens.start, joined.shape[1]]}
            return original(
                joined,
                vec=self._modulation(vec, segment),
                pe=self._positions(pe, segment, count),
                attn_mask=self._mask(attn_mask, segment, count),
                modulation_dims=modulation_dims,
                transformer_options=options,
            )

        def attend(segment: int) -> torch.Tensor:
            return until_reached(lambda: call(segment, layout.seen_by(segment), _cut_short(transformer_options or {})))

        mixed = mix(attend, layout, x, ttt)
        out = room_for_result(mixed)
        for segment, frames in enumerate(own_frames(layout)):
            text_tokens, tokens = (slice(*part) for part in (layout.text_of(segment), layout.tokens_of(frames)))
            given = torch.cat([mixed[:, text_tokens], mixed[:, tokens]], dim=1)
            result = call(segment, (frames,), _with_attention(transformer_options or {}, given))
            out[:, text_tokens], out[:, tokens] = result.split(
                [text_tokens.stop - text_tokens.start, tokens.stop - tokens.start], dim=1
            )
        return out

    def _positions(self, pe: torch.Tensor, segment: int, count: int) -> torch.Tensor:
        """Text has none; time begins anew in every segment."""
        border = self.layout.text_tokens
        return torch.cat([pe[:, :, slice(*self.layout.text_of(segment))], pe[:, :, border : border + count]], dim=2)

    def _mask(self, mask: torch.Tensor | None, segment: int, count: int) -> torch.Tensor | None:
        """Of the text alone; the video's part is 0 everywhere."""
        if mask is None:
            return None
        border = self.layout.text_tokens
        return torch.cat([mask[..., slice(*self.layout.text_of(segment))], mask[..., border : border + count]], dim=-1)


def _cut_short(options: dict) -> dict:
    """Other nodes' patches of attention have their turn, then the output is taken."""

    def reached(attention, extra_options):
        raise Reached(attention)

    patches = options.get("patches", {})
    return {**options, "patches": {**patches, BEHIND: [*patches.get(BEHIND, []), reached]}}


def _with_attention(options: dict, given: torch.Tensor) -> dict:
    """Attention was computed, and patched by other nodes, before: `given` [B, S, C] is its result now."""
    patches = {name: patch for name, patch in options.get("patches", {}).items() if name not in (BEFORE, BEHIND)}
    return {**options, "patches": patches, OVERRIDE: lambda *args, **kwargs: given}
