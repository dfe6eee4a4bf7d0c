"""A clean anchor in Wan 2.1 and Wan 2.2 14B: the network takes a time for every latent frame.

Its time embedding accepts [B, F] and modulates the tokens of each frame by its own (comfy/ldm/wan/model.py), though
ComfyUI asks for that in Wan 2.2 5B alone. What is built on it (VACE, Animate, S2V, ...) reshapes times in other ways
and is refused; so are pictures among the tokens, over which times would be spread as if they were frames.
"""

import torch

from ...engine.to_device import sent
from ..families import wan
from ..families.sites import argument
from ..types import Executor, Network

FAMILY = wan
IN_SEGMENTS, FRAMES_ALIKE = True, False  # see run.FrameTimeAdapter
AMONG_TOKENS = ("time_dim_concat", "reference_latent", "context_latents")


def refuse(network: torch.nn.Module) -> None:
    """Raise ValueError for a network that takes one time for all frames."""
    if type(network) is not wan.NETWORK:
        raise ValueError(
            f"{type(network).__name__} takes one time for all frames, and a clean anchor needs a time of its own; use "
            f"mode inpaint, or the plain text- or image-to-video model"
        )


def recomputed_blocks(network: torch.nn.Module) -> list[torch.nn.Module]:
    """Return the blocks that keep their input alone for the gradients."""
    return list(network.blocks)


def evaluate(
    executor: Executor, keep_strengths: torch.Tensor, x: torch.Tensor, t: torch.Tensor, *args, **kwargs
) -> torch.Tensor:
    """keep_strengths [B, F]; x [B, C, F, H, W]; t [B], or [B, F] where known frames of a rollout have times already."""
    network = executor.class_obj
    given = [name for name in AMONG_TOKENS if _given(network, name, (x, t, *args), kwargs)]
    if given:
        raise ValueError(
            f"the conditioning has {given[0]}, tokens beside the video's {x.shape[2]} latent frames, "
            f"which have no time of their own; remove the node that adds it, or use mode inpaint"
        )
    times = t if t.ndim > 1 else t[:, None].expand(-1, x.shape[2])
    return executor(x, times * (1.0 - sent(keep_strengths, x)), *args, **kwargs)


def _given(network: Network, name: str, args: tuple, kwargs: dict) -> bool:
    if name == "reference_latent":
        return network.ref_conv is not None and kwargs.get(name) is not None
    if name == "time_dim_concat":
        return argument(type(network)._forward, args, kwargs, name) is not None
    return kwargs.get(name) is not None
