"""A clean anchor in Kandinsky 5: the network is told which frames are given, and they have no time of their own.

It has learned image-to-video from frames that stand clean among the noisy ones, at the time of the step, and from a
channel that is 1 in them (comfy/model_base.py, Kandinsky5). An anchor's frames are clean already
(hosts/anchor/run.py); here the channel says so, wherever they stand.
"""

import torch

from ...engine.to_device import sent
from ..families import kandinsky
from ..families.sites import argument
from ..types import Executor

FAMILY = kandinsky
IN_SEGMENTS, FRAMES_ALIKE = True, False  # see run.FrameTimeAdapter


def refuse(network: torch.nn.Module) -> None:
    """Refuse no network: every Kandinsky 5 video model can."""


def recomputed_blocks(network: torch.nn.Module) -> list[torch.nn.Module]:
    """Return the blocks that keep their input alone for the gradients."""
    return kandinsky.blocks(network)


def evaluate(
    executor: Executor, keep_strengths: torch.Tensor, x: torch.Tensor, t: torch.Tensor, *args, **kwargs
) -> torch.Tensor:
    """keep_strengths [B, F]; x [B, C, F, H, W], the channels beside the latent among them; t [B]."""
    network = executor.class_obj
    if argument(type(network)._forward, (x, t, *args), kwargs, "time_dim_replace") is not None:
        raise ValueError(
            "the conditioning has a start picture (time_dim_replace), which takes the place of the first frames, "
            "anchored or not; remove the node that adds it and give the picture as an anchor"
        )
    channel = kandinsky.mask_of_clean_frames(network)
    x = x.clone()
    x[:, channel] = torch.maximum(x[:, channel], sent(keep_strengths, x)[:, :, None, None])
    return executor(x, t, *args, **kwargs)
