"""A clean anchor in HunyuanVideo: every latent frame is modulated by its own time, in all blocks and the last layer.

Core's blocks can modulate stretches of tokens by rows of their own; core uses it for a first frame alone (its
`guiding_frame_index`), and in its single blocks, where text stands in front, for the wrong tokens. Here each block is
told the stretches as they lie in its own sequence, for frames anywhere. Text keeps the step's time.
"""

import math
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import torch

from comfy.ldm.flux.layers import timestep_embedding

from ..families import hunyuan_video
from ..families.hunyuan_video import patch_size
from ..families.modules import replaced
from ..families.sites import argument, token_grid
from ..types import Executor, Network

FAMILY = hunyuan_video
IN_SEGMENTS, FRAMES_ALIKE = False, True  # see run.FrameTimeAdapter
AMONG_TOKENS = ("ref_latent", "guiding_frame_index")
Stretch = tuple[int, int | None, int]  # tokens [start, stop) and their row of times


def refuse(network: torch.nn.Module) -> None:
    """Raise ValueError for a network whose time is more than the step's."""
    if network.time_r_in is not None:
        raise ValueError(
            "this HunyuanVideo reads the begin and the end of each step (mean flow), and a clean frame has only one "
            "time; use mode inpaint"
        )


def recomputed_blocks(network: torch.nn.Module) -> list[torch.nn.Module]:
    """Return the blocks that keep their input alone for the gradients."""
    return [*network.double_blocks, *network.single_blocks]


def evaluate(
    executor: Executor, keep_strengths: torch.Tensor, x: torch.Tensor, t: torch.Tensor, *args, **kwargs
) -> torch.Tensor:
    """keep_strengths [B, F], the same in all rows; x [B, C, F, H, W]; t [B]."""
    network = executor.class_obj
    given = [name for name in AMONG_TOKENS if argument(type(network)._forward, (x, t, *args), kwargs, name) is not None]
    if given:
        raise ValueError(
            f"the conditioning has a {given[0]}, which shows a known frame in another way than the anchor; remove the "
            f"node that adds it, or use mode inpaint"
        )
    held = keep_strengths[0].tolist()
    levels = sorted(set(held) - {0.0})
    frame_tokens = math.prod(token_grid(x.shape[2:], patch_size(network))[1:])
    stretches = _stretches([levels.index(level) + 1 if level else 0 for level in held], frame_tokens)
    moved = torch.stack([_embedded(network, t * (1.0 - level), x) for level in levels], dim=1)  # [B, levels, C]
    moved = moved - _embedded(network, t, x)[:, None]

    def rows(vec: torch.Tensor) -> torch.Tensor:
        """[B, C] -> [B, 1 + levels, C]"""
        return torch.cat([vec[:, None], vec[:, None] + moved], dim=1)

    with ExitStack() as meanwhile:
        for block in network.double_blocks:
            meanwhile.enter_context(
                replaced(
                    block, torch.compiler.disable(partial(_double, block.forward, rows, stretches), recursive=False)
                )
            )
        for block in network.single_blocks:
            meanwhile.enter_context(
                replaced(
                    block, torch.compiler.disable(partial(_single, block.forward, rows, stretches), recursive=False)
                )
            )
        last = network.final_layer
        meanwhile.enter_context(
            replaced(last, torch.compiler.disable(partial(_last, last.forward, rows, stretches), recursive=False))
        )
        return executor(x, t, *args, **kwargs)


def _embedded(network: Network, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """[B] -> [B, C], as the network's own forward does it."""
    return network.time_in(timestep_embedding(t, 256, time_factor=1.0).to(x.dtype))


def _stretches(row_of_frame: list[int], frame_tokens: int) -> list[Stretch]:
    """Neighbouring frames of one row are one stretch."""
    found: list[Stretch] = []
    for frame, row in enumerate(row_of_frame):
        start, stop = frame * frame_tokens, (frame + 1) * frame_tokens
        if found and found[-1][2] == row:
            found[-1] = (found[-1][0], stop, row)
        else:
            found.append((start, stop, row))
    return found


def _double(original: Callable, rows: Callable, stretches: list[Stretch], vec: torch.Tensor, **kwargs):
    told = {"modulation_dims_img": stretches, "modulation_dims_txt": [(0, None, 0)]}
    return original(vec=rows(vec), **{**kwargs, **told})


def _single(
    original: Callable,
    rows: Callable,
    stretches: list[Stretch],
    x: torch.Tensor,
    vec: torch.Tensor,
    transformer_options,
    **kwargs,
):
    text = transformer_options["img_slice"][0]
    behind_text = [(start + text, stop + text, row) for start, stop, row in stretches]
    told = {"modulation_dims": [(0, text, 0), *behind_text], "transformer_options": transformer_options}
    return original(x, vec=rows(vec), **{**kwargs, **told})


def _last(
    original: Callable,
    rows: Callable,
    stretches: list[Stretch],
    x: torch.Tensor,
    vec: torch.Tensor,
    modulation_dims=None,
):
    return original(x, rows(vec), stretches)
