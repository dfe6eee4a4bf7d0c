"""TTT in LTX-Video: where it stands in a block, and what a segment is. Layout in comfy/ldm/lightricks/model.py.

As in Wan, self-attention sees video alone and text comes in by cross attention behind it. So
- TTT reads the video's tokens, frames row by row, and no text; its text gates do nothing. It stands behind the
  self-attention's output projection and before the block's gate, as in the paper.
- A segment's self-attention sees its frames, at the seconds of a video that begins there. A frame that two segments
  share is given the mean of both; behind TTT it hears the prompt, under that prompt's mask, of the first segment that
  it belongs to.
- Guide and keyframe tokens at the end of the sequence belong to no segment and are refused.
- Timesteps per token (masks) go with their frames.
"""

import torch

from ...engine.ttt.block import TTTBlock
from ...engine.ttt.order import Range, own_frames
from ..families import ltxv
from ..families.modules import output_of, replaced
from .segments import Segments, mix, room_for_result


class LTXVSegments(Segments):
    """One forward of LTX-Video with its blocks in segments."""

    family = ltxv
    attention = ("attn1",)

    def evaluate(
        self,
        block: torch.nn.Module,
        original,
        ttt: TTTBlock | None,
        x: torch.Tensor,
        context=None,
        attention_mask=None,
        timestep: torch.Tensor | None = None,
        pe=None,
        transformer_options=None,
        self_attention_mask=None,
        prompt_timestep=None,
    ):
        """See Segments: x [B, F * P, C], which core's block overwrites; context [B, texts, C]; attention_mask [B, 1, 1,
        texts] or None; timestep [B, 1 or F * P, 6 C]; pe (matrices [1, F * P, H, D / 2, 2, 2], how they pair
        channels)."""
        layout = self.layout
        self.check_tokens(x.shape[1], layout.tokens)

        def call(segment: int, frames: tuple[Range, ...]) -> torch.Tensor:
            part = self.of_video(x, frames)
            text_tokens = self.text_tokens_of(segment)
            # Time begins anew in every segment.
            return original(
                part,
                context=context[:, text_tokens],
                attention_mask=attention_mask if attention_mask is None else attention_mask[..., text_tokens],
                timestep=self.of_frames(timestep, frames),
                pe=(pe[0][:, : part.shape[1]], *pe[1:]),
                transformer_options=transformer_options or {},
                self_attention_mask=self_attention_mask,
                prompt_timestep=prompt_timestep,
            )

        def attend(segment: int) -> torch.Tensor:
            return output_of(block.attn1, lambda: call(segment, layout.seen_by(segment)))

        mixed = mix(attend, layout, x, ttt)
        out = room_for_result(mixed)
        for segment, frames in enumerate(own_frames(layout)):
            tokens = slice(*layout.tokens_of(frames))
            with replaced(block.attn1, lambda *args, result=mixed[:, tokens], **kwargs: result):
                out[:, tokens] = call(segment, (frames,))
        return out
