"""A clean anchor in CogVideoX: every token frame is modulated by its own time, the text by the step's.

The network takes one time embedding for a video. Here it is given one for each token frame and one more, of the step,
for the text; and for one forward its norms, the only places that read them, hand each token its own. A token frame of
CogVideoX 1.5 is two latent frames: its time is that of the less firmly held one.
"""

from contextlib import ExitStack
from functools import partial

import torch

from ...engine.to_device import sent
from ..families import cogvideox
from ..families.cogvideox import patch_size
from ..families.modules import replaced
from ..types import Executor

FAMILY = cogvideox
IN_SEGMENTS, FRAMES_ALIKE = False, False  # see run.FrameTimeAdapter


def refuse(network: torch.nn.Module) -> None:
    """Refuse no network: every CogVideoX can."""


def recomputed_blocks(network: torch.nn.Module) -> list[torch.nn.Module]:
    """Return none: what is inside the blocks is replaced for as long as a forward lasts."""
    return []


def evaluate(
    executor: Executor,
    keep_strengths: torch.Tensor,
    x: torch.Tensor,
    t: torch.Tensor,
    context: torch.Tensor,
    ofs=None,
    *args,
    **kwargs,
) -> torch.Tensor:
    """keep_strengths [B, F]; x [B, C, F, H, W]; t [B]; ofs [B] of an image-to-video 1.5, or None."""
    network = executor.class_obj
    rows = _of_tokens(sent(keep_strengths, x), patch_size(network)[0])  # [B, token frames]
    rows = torch.nn.functional.pad(rows, (0, 1))  # and the text
    times = (t[:, None] * (1.0 - rows)).flatten()
    if ofs is not None:
        ofs = ofs.expand(x.shape[0]).repeat_interleave(rows.shape[1])
    with ExitStack() as meanwhile:
        for block in network.blocks:
            for norm in (block.norm1, block.norm2):
                meanwhile.enter_context(
                    replaced(norm, torch.compiler.disable(partial(_block_norm, norm, rows.shape[1])))
                )
        last = network.norm_out
        meanwhile.enter_context(replaced(last, torch.compiler.disable(partial(_last_norm, last, rows.shape[1]))))
        return executor(x, times, context, ofs, *args, **kwargs)


def _of_tokens(keep_strengths: torch.Tensor, patch_frames: int) -> torch.Tensor:
    """[B, F] -> [B, token frames]; core fills up an odd end with frames that nothing holds."""
    missing = -keep_strengths.shape[1] % patch_frames
    return torch.nn.functional.pad(keep_strengths, (0, missing)).unflatten(1, (-1, patch_frames)).amin(dim=2)


def _block_norm(norm, rows: int, hidden_states, encoder_hidden_states, temb):
    """As the norm's own forward, with temb [B * rows, D]: hidden_states [B, F * P, C], encoder_hidden_states
    [B, T, C]."""
    parts = norm.linear(norm.silu(temb)).unflatten(0, (-1, rows)).chunk(6, dim=-1)  # 6 of [B, rows, C]
    shift, scale, gate = (_per_token(part[:, :-1], hidden_states) for part in parts[:3])
    text_shift, text_scale, text_gate = (part[:, -1:] for part in parts[3:])
    video = norm.norm(hidden_states) * (1 + scale) + shift
    return video, norm.norm(encoder_hidden_states) * (1 + text_scale) + text_shift, gate, text_gate


def _last_norm(norm, rows: int, x: torch.Tensor, temb):
    parts = norm.linear(norm.silu(temb)).unflatten(0, (-1, rows)).chunk(2, dim=-1)
    shift, scale = (_per_token(part[:, :-1], x) for part in parts)
    return norm.norm(x) * (1 + scale) + shift


def _per_token(part: torch.Tensor, video: torch.Tensor) -> torch.Tensor:
    """[B, F, C] -> [B, F * P, C]"""
    return part.repeat_interleave(video.shape[1] // part.shape[1], dim=1)
