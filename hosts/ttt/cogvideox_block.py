"""One block of CogVideoX over a whole timeline: attention within each segment, TTT over all of them, then its MLP.

Source: One-Minute Video Generation with Test-Time Training (arXiv 2504.05298, section 3) and its public code, on core's
block (comfy/ldm/cogvideo/model.py), whose modules and numbers are used as they are. The TTT layers stand after the
attention's output projection and before its gate. Segments are evaluated one after another, so beside the hidden states
and the attention's output only one segment is held.

Two numbers of the paper's network are not core's, and are the business of whoever builds the network: a LayerNorm eps
of 1e-6 (core 1e-5) and rows and columns that count 0, 1, 2 (core 1.0 multiplies them by `spatial_interpolation_scale`).
"""

from collections.abc import Callable

import torch

from comfy.ldm.cogvideo.model import CogVideoXBlock, CogVideoXTransformer3DModel, apply_rotary_emb
from comfy.ldm.modules.attention import optimized_attention

from ...engine.ttt.block import TTTBlock
from ...engine.ttt.local_attention import evaluate_segments
from ...engine.ttt.order import Layout, own_frames

LAYER_NORM_EPS = 1e-6  # of the paper's network
Rotary = tuple[torch.Tensor, torch.Tensor]  # core's (cos, sin), each [video tokens, D]


def norms_of(network: CogVideoXTransformer3DModel) -> list[torch.nn.LayerNorm]:
    """The LayerNorms whose eps is LAYER_NORM_EPS in the paper's network; those of q and k are so in core's too."""
    in_blocks = [norm for block in network.blocks for norm in (block.norm1.norm, block.norm2.norm)]
    return [*in_blocks, network.norm_final, network.norm_out.norm]


def evaluate_block(
    block: CogVideoXBlock,
    ttt: TTTBlock,
    layout: Layout,
    hidden_states: torch.Tensor,
    encoder_hidden_states: torch.Tensor,
    temb: torch.Tensor,
    image_rotary_emb: Rotary | None = None,
    transformer_options: dict | None = None,
    slab_tokens: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What CogVideoXBlock.forward does, for the video [B, F * P, C] and the texts of all segments [B, n * T, C].

    slab_tokens: see TTTLayer.read.
    """
    video, text = hidden_states, encoder_hidden_states
    _, _, gate, text_gate = block.norm1(video[:, :0], text[:, :0], temb)
    mixed = mix_tokens(
        block,
        ttt,
        layout,
        video,
        text,
        image_rotary_emb,
        transformer_options,
        slab_tokens,
        lambda video, text: block.norm1(video, text, temb)[:2],
    )
    # The hidden states are the caller's; the result takes the place of what was mixed in.
    out = torch.empty_like(mixed) if torch.is_grad_enabled() else mixed
    border = layout.text_tokens
    for segment, frames in enumerate(own_frames(layout)):
        text_tokens, tokens = slice(*layout.text_of(segment)), slice(*layout.tokens_of(frames))
        seen = slice(tokens.start - border, tokens.stop - border)
        part_text = text[:, text_tokens] + text_gate * mixed[:, text_tokens]
        part_video = video[:, seen] + gate * mixed[:, tokens]
        out[:, text_tokens], out[:, tokens] = _mlp(block, part_video, part_text, temb)
    return out[:, border:], out[:, :border]


def mix_tokens(
    block: CogVideoXBlock,
    ttt: TTTBlock,
    layout: Layout,
    video: torch.Tensor,
    text: torch.Tensor,
    image_rotary_emb: Rotary | None,
    transformer_options: dict | None,
    slab_tokens: int | None,
    prepare: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
) -> torch.Tensor:
    """What the gate gets: attention within segments, then TTT -> [B, n * T + F * P, C], all texts first.

    prepare(video, text) brings a segment's hidden states to what attention takes.
    """

    def attend(segment: int) -> torch.Tensor:
        runs = [slice(*(frame * layout.frame_tokens for frame in frames)) for frames in layout.seen_by(segment)]
        seen = torch.cat([video[:, tokens] for tokens in runs], dim=1) if len(runs) > 1 else video[:, runs[0]]
        part_video, part_text = prepare(seen, text[:, slice(*layout.text_of(segment))])
        # Time begins anew in every segment.
        rotary = image_rotary_emb and tuple(table[: seen.shape[1]] for table in image_rotary_emb)
        return _attention(block, part_video, part_text, rotary, transformer_options or {})

    attended = video.new_empty(video.shape[0], layout.tokens, video.shape[2])
    evaluate_segments(attend, layout, attended)
    return ttt(attended, layout, slab_tokens, in_place=not torch.is_grad_enabled())


def _attention(
    block: CogVideoXBlock, video: torch.Tensor, text: torch.Tensor, rotary: Rotary | None, transformer_options: dict
) -> torch.Tensor:
    """One segment -> [B, T + S, C] after the output projection."""
    x = torch.cat([text, video], dim=1)
    heads = (block.num_heads, block.head_dim)
    q = block.norm_q(block.q(x).unflatten(-1, heads)).transpose(1, 2)  # [B, H, T + S, D]
    k = block.norm_k(block.k(x).unflatten(-1, heads)).transpose(1, 2)
    if rotary is not None:
        text_tokens = text.shape[1]
        q, k = (
            torch.cat([part[:, :, :text_tokens], apply_rotary_emb(part[:, :, text_tokens:], rotary)], dim=2)
            for part in (q, k)
        )
    q, k = (part.transpose(1, 2).flatten(2) for part in (q, k))
    out = optimized_attention(q, k, block.v(x), heads=block.num_heads, transformer_options=transformer_options)
    return block.attn_out(out)


def _mlp(
    block: CogVideoXBlock, video: torch.Tensor, text: torch.Tensor, temb: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(text, video) after the block's second half."""
    norm_video, norm_text, gate, text_gate = block.norm2(video, text, temb)
    x = torch.cat([norm_text, norm_video], dim=1)
    x = block.ff_out(torch.nn.functional.gelu(block.ff_proj(x), approximate="tanh"))
    text_tokens = text.shape[1]
    return text + text_gate * x[:, :text_tokens], video + gate * x[:, text_tokens:]
