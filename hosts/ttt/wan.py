"""TTT in Wan 2.1 and 2.2: where it stands in a block, and what a segment is. Layout in comfy/ldm/wan/model.py.

Wan's self-attention sees video alone; text comes in by cross attention behind it. So
- TTT reads the video's tokens, frames row by row, and no text; its text gates do nothing. It stands behind the
  self-attention's output projection and before the block's gate, as in the paper.
- A segment's self-attention sees its frames, at the positions of a video that begins there. A frame that two segments
  share is given the mean of both. Everything behind TTT happens once for each frame: in cross attention it hears the
  prompt of the first segment that it belongs to.
- Tokens of a picture in front of the text (image-to-video) are read by every segment. A reference picture in the
  sequence, or in-context latents, belong to no segment and are refused.
- Timesteps per frame (masks on Wan 2.2 5B) go with their frames.

What is built on WanModel (VACE, Animate, S2V, ...) attends in further places, and is refused by name.
"""

import torch

from ...engine.ttt.block import TTTBlock
from ...engine.ttt.order import Range, own_frames
from ..families import wan
from ..families.modules import output_of, replaced
from .segments import Segments, mix, room_for_result


class WanSegments(Segments):
    """One forward of Wan with its blocks in segments."""

    family = wan
    attention = ("self_attn",)

    def evaluate(
        self,
        block: torch.nn.Module,
        original,
        ttt: TTTBlock | None,
        x: torch.Tensor,
        e,
        freqs,
        context,
        context_img_len=257,
        transformer_options=None,
    ):
        """See Segments: x [B, F * P, C], e [B, 1 or F, 6, C], freqs [1, F * P, 1, D / 2, 2, 2], context [B, pictures +
        texts, C]."""
        layout = self.layout
        self.check_tokens(x.shape[1], layout.tokens)
        pictures = context.shape[1] - sum(self.text_lengths)

        def call(segment: int, frames: tuple[Range, ...]) -> torch.Tensor:
            part = self.of_video(x, frames)
            text = context[:, self.text_tokens_of(segment, pictures)]
            if pictures:
                text = torch.cat([context[:, :pictures], text], dim=1)
            options = {
                **(transformer_options or {}),
                "grid_sizes": (part.shape[1] // layout.frame_tokens, layout.height, layout.width),
            }
            # Time begins anew in every segment.
            return original(
                part,
                e=self.of_frames(e, frames),
                freqs=freqs[:, : part.shape[1]],
                context=text,
                context_img_len=context_img_len,
                transformer_options=options,
            )

        def attend(segment: int) -> torch.Tensor:
            return output_of(block.self_attn, lambda: call(segment, layout.seen_by(segment)))

        mixed = mix(attend, layout, x, ttt)
        out = room_for_result(mixed)
        for segment, frames in enumerate(own_frames(layout)):
            tokens = slice(*layout.tokens_of(frames))
            with replaced(block.self_attn, lambda *args, result=mixed[:, tokens], **kwargs: result):
                out[:, tokens] = call(segment, (frames,))
        return out
