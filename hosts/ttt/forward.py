"""One forward of a network whose blocks are evaluated in segments, with the TTT layers of its clone in their places.

Families say how (hosts/ttt/<family>.py); which segments there are comes along with the conditioning
(hosts/ttt/timeline.py) or else everything that the network is shown is one; layers come with transformer_options
(hosts/ttt/apply.py). Nothing of the network stays changed behind a forward, interrupted or not. While gradients are
recorded, blocks may be recomputed in the backward pass (hosts/training/gradients.py).
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import torch
from torch.utils._pytree import tree_map_only

import comfy.patcher_extension as extension

from ...engine.ttt.order import Layout, Range
from ...engine.ttt.units import Unit
from .. import keys
from ..attention.compiled import keep_outside
from ..families import family_of, plain_family_of
from ..families.family import Family
from ..families.modules import replaced
from ..families.sites import argument, token_grid
from ..training.gradients import OPTIONS, recomputed
from ..types import Executor, ModelPatcher, Network
from .cogvideox import CogVideoXSegments
from .hunyuan_video import HunyuanVideoSegments
from .ltxv import LTXVSegments
from .segments import Segments
from .wan import WanSegments

SEGMENTS = {  # by the family's name
    segments.family.NAME: segments for segments in (WanSegments, CogVideoXSegments, HunyuanVideoSegments, LTXVSegments)
}


@dataclass(frozen=True)
class SegmentInfo:
    """Where segments lie in what the network is shown; comes along with conditioning whose texts are those of all
    segments.

    windows: [start, stop) of each segment in latent frames. text_lengths: the text tokens of each segment.
    lead_frames: the latent frames that its attention looks at in front of its window. take_starts: the first latent
    frame of the take that each segment belongs to, where there are leads.
    """

    windows: tuple[Range, ...]
    text_lengths: tuple[int, ...]
    lead_frames: int = 0
    take_starts: tuple[int, ...] = ()


def segments_of(model: ModelPatcher) -> type[Segments]:
    """Return how this model's network is evaluated in segments. Raises ValueError, naming the network, where it is
    unknown."""
    family, network = family_of(model), model.model.diffusion_model
    if plain_family_of(network) is None:
        raise ValueError(
            f"{type(network).__name__} is built on {family.NAME} but attends in further places, where TTT has no "
            f"layers; use the plain text- or image-to-video model"
        )
    if family.NAME not in SEGMENTS:
        raise ValueError(f"TTT layers have no place in {family.NAME} yet; they work in {', '.join(SEGMENTS)}")
    return SEGMENTS[family.NAME]


def watch(model: ModelPatcher) -> None:
    """Have `evaluate` stand around the network of this clone, once."""
    model.remove_wrappers_with_key(extension.WrappersMP.DIFFUSION_MODEL, keys.TTT_LAYERS)
    model.add_wrapper_with_key(extension.WrappersMP.DIFFUSION_MODEL, keys.TTT_LAYERS, evaluate)
    keep_outside(model)


def token_windows(windows: tuple[Range, ...], patch_frames: int) -> tuple[Range, ...]:
    """Latent frames -> token frames: all that hold some of a segment's. Where one holds latent frames of two segments,
    they share it, unless they would begin with the same one."""
    found: list[Range] = []
    for start, stop in windows:
        earliest = found[-1][0] + 1 if found else 0
        found.append((max(start // patch_frames, earliest), -(-stop // patch_frames)))
    return tuple(found)


def token_leads(
    lead_frames: int, take_starts: tuple[int, ...], windows: tuple[Range, ...], patch_frames: int
) -> tuple[tuple[int, ...], ...]:
    """Return the token frames that lead each of `windows` (in token frames): as many in front of it as hold
    `lead_frames` latent frames, but none of an earlier take. Where a take begins, its own first one leads, so that
    nothing crosses the cut; in front of the video there is none."""
    found, count = [], -(-lead_frames // patch_frames)
    for take_start, (start, _) in zip(take_starts, windows, strict=True):
        first = max(start - count, take_start // patch_frames)
        at_cut = count and start and first == start
        found.append((start,) if at_cut else tuple(range(first, start)))
    return tuple(found)


def evaluate(executor: Executor, *args, **kwargs):
    """DIFFUSION_MODEL: for one forward, the blocks' forwards are the family's."""
    network = executor.class_obj
    info = kwargs.pop(keys.TTT_SEGMENT_INFO, None)
    options = argument(type(network)._forward, args, kwargs, "transformer_options")
    layers, units = options.get(keys.TTT_LAYERS, {}), options.get(keys.TTT_UNITS, {})
    segments = _describe(SEGMENTS[plain_family_of(network).NAME], network, info, args, kwargs)
    with ExitStack() as meanwhile:
        for number, block in enumerate(segments.family.blocks(network)):
            if info is not None or number in layers:
                forward = partial(segments.evaluate, block, block.forward, layers.get(number))
                if options.get(keys.TTT_RECOMPUTE) or segments.family.OVERWRITES_INPUTS:
                    forward = recomputed(forward, segments.family.OVERWRITES_INPUTS)
                if number in units:
                    forward = _called(units[number], forward)
                meanwhile.enter_context(replaced(block, torch.compiler.disable(forward)))
        for module, forward in segments.around():
            meanwhile.enter_context(replaced(module, forward))
        return executor(*args, **kwargs)


def _called(unit: Unit, forward: Callable) -> Callable:
    """`forward` of a block by a call of its unit, which is given its tensors alone: what core writes into its options
    must not go into a copy."""

    def call(*args, **kwargs):
        options = {OPTIONS: kwargs.pop(OPTIONS)} if OPTIONS in kwargs else {}

        def evaluate(*args, **kwargs):
            found = forward(*args, **kwargs, **options)
            if not torch.is_grad_enabled():
                return found
            # A unit returns new tensors; CogVideoX's blocks return two parts of one.
            return tree_map_only(torch.Tensor, lambda part: part.clone() if part._is_view() else part, found)

        return unit(evaluate, *args, **kwargs)

    return call


def _describe(kind: type[Segments], network: Network, info: SegmentInfo | None, args: tuple, kwargs: dict) -> Segments:
    patches = kind.family.patch_size(network)
    frames, height, width = token_grid(args[0].shape[2:], patches)
    text = kind.joined_text(network, args, kwargs)
    if info is None:
        context = argument(type(network)._forward, args, kwargs, "context").shape[1]
        return kind(network, Layout((text,), ((0, frames),), height, width), (context,), args, kwargs)
    text_lengths = info.text_lengths
    if len(text_lengths) == 1 and kind.joint:
        text_lengths = (text,)  # with whatever the family adds to it
    windows = token_windows(info.windows, patches[0])
    joined = text_lengths if kind.joint else (0,) * len(text_lengths)
    leads = token_leads(info.lead_frames, info.take_starts, windows, patches[0]) if info.lead_frames else ()
    return kind(network, Layout(joined, windows, height, width, leads), info.text_lengths, args, kwargs)


def kept_bytes(model: ModelPatcher, shape: tuple[int, ...], windows: tuple[Range, ...]) -> int:
    """What a forward of one prompt keeps of the whole latent [B, C, F, H, W]: the hidden states, what attention put
    out, and the slab that TTT reads."""
    has_layers = keys.TTT_LAYERS in model.model_options["transformer_options"]
    itemsize = model.model.get_dtype_inference().itemsize
    return bytes_of_forward(family_of(model), model.model.diffusion_model, shape, windows, itemsize, has_layers)


def bytes_of_forward(
    family: Family, network: Network, shape: tuple[int, ...], windows: tuple[Range, ...], itemsize: int,
    has_layers: bool,
) -> int:  # fmt: skip
    """Return `kept_bytes` of a network that computes in numbers of `itemsize` bytes; the slab is twelve tensors like
    the longest window, in float32, where it has TTT layers."""
    patches = family.patch_size(network)
    frames, rows, columns = token_grid(shape[2:], patches)
    per_frame = shape[0] * rows * columns * family.width(network)
    longest = max(stop - start for start, stop in token_windows(windows, patches[0]))
    return per_frame * (2 * frames * itemsize + (12 * longest * 4 if has_layers else 0))
