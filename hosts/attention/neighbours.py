"""Nodes that keep a feature from its work, known by what they leave on a MODEL, and named before anything is sampled.

Caches that leave out forwards: core's EasyCache, and packs with the keys of TeaCache and MagCache in
transformer_options (as their nodes for Wan, HunyuanVideo and LTXV put them). Core's SkipLayerGuidance nodes, which
evaluate the network once more without some blocks. A node that skips what a feature works in, and is not known here, is
found while the network runs (hosts/attention/patching.py).
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from ..families import family_of
from ..families.family import Family
from ..types import Guider, ModelOptions, Network
from .step_caches import skips_forwards

OTHER_CACHES = {"rel_l1_thresh": "TeaCache", "magcache_thresh": "MagCache"}  # by their keys in transformer_options
WITH_FUNCTIONS = ("sampler_post_cfg_function", "sampler_calc_cond_batch_function")  # model_options
SKIPS = {"double_layers": "double_block", "single_layers": "single_block", "layers": "double_block"}
"""What core's functions enclose, and how core names the blocks that they replace."""


class Skipped(NamedTuple):
    """These blocks are left out of some evaluations at noise levels from `low` to `high`."""

    blocks: frozenset[int]
    low: float
    high: float


def cache_of_forwards(options: dict) -> str | None:
    """Return the name of a cache that leaves out forwards of the network, by a MODEL's transformer_options."""
    if skips_forwards(options):
        return "EasyCache"
    return other_cache(options)


def other_cache(options: dict) -> str | None:
    """Return the name of another pack's cache, which remembers one step for all windows of a latent."""
    return next((name for key, name in OTHER_CACHES.items() if key in options), None)


def check(feature: Any, needs_every_evaluation: bool, guider: Guider) -> None:
    """Raise ValueError where a node on the MODEL of a guider keeps `feature` from its work, and say what to do.

    A feature says in which blocks it works as `blocks`, or else `layers`, and in which parts of the schedule as `spans`
    of percents, or else in all; and as `needs_one_device` why its prompts cannot be evaluated on several.
    """
    patcher, model_options = guider.model_patcher, guider.model_options
    family, model = family_of(patcher), patcher.model
    reason = getattr(feature, "needs_one_device", None)
    if reason and patcher.get_additional_models_with_key("multigpu"):
        raise ValueError(
            f"{feature.name} works on one device, because {reason}, and a node on this model (MultiGPU) spreads the "
            f"prompts over several; remove that node, or take the mask out"
        )
    cache = cache_of_forwards(model_options["transformer_options"])
    if cache and needs_every_evaluation:
        raise ValueError(
            f"{feature.name} works in every evaluation of the network, and {cache} on this model skips some; use "
            f"LazyCache, which skips whole steps, or remove that node"
        )
    blocks = frozenset(getattr(feature, "blocks", getattr(feature, "layers", ())))
    to_sigma = model.model_sampling.percent_to_sigma
    spans = [(to_sigma(start), to_sigma(end)) for start, end in getattr(feature, "spans", ((0.0, 1.0),))]
    for skipped in _skipped(model_options, family, model.diffusion_model):
        both = sorted(blocks & skipped.blocks)
        if both and any(low <= skipped.high and skipped.low <= high for high, low in spans):
            raise ValueError(
                f"{feature.name} works in block {both[0]}, and Skip Layer Guidance on this model leaves out "
                f"{len(both)} of the {len(blocks)} blocks that it works in; choose other layers in one of the two, "
                f"or remove that node"
            )


def say_lost_attention(network: Network, names: Sequence[str]) -> None:
    """Log that attentions which ask for a kernel of their own (int8, in ComfyUI 0.31 and newer) do without it.

    Core leaves it out as soon as any override is set, and does not hand it on.
    """
    asking = [
        module
        for module in network.modules()
        if type(module).__name__ == "ComfyAttention" and getattr(module, "function", None) is not None
    ]
    if asking:
        logging.warning(
            "Longreel: %d attention modules of this checkpoint ask for a kernel of their own, and run with ComfyUI's "
            "usual one while %s is at work",
            len(asking),
            " and ".join(names),
        )


def _skipped(model_options: ModelOptions, family: Family, network: Network) -> Iterator[Skipped]:
    numbers = family.replaceable_blocks(network)
    for function in _functions(model_options):
        held = _enclosed(function)
        names = {(kind, number) for name, kind in SKIPS.items() for number in held.get(name) or ()}
        blocks = frozenset(numbers[name] for name in names if name in numbers)
        if blocks and held.get("scale", 1):
            yield Skipped(blocks, float(held.get("sigma_end", 0)), float(held.get("sigma_start", float("inf"))))


def _functions(model_options: ModelOptions) -> Iterator[Callable]:
    for key in WITH_FUNCTIONS:
        found = model_options.get(key) or ()
        yield from found if isinstance(found, (list, tuple)) else (found,)


def _enclosed(function: Callable) -> dict[str, Any]:
    """Return what one of core's functions encloses, by name; nothing for functions of other nodes."""
    if not getattr(function, "__qualname__", "").startswith("SkipLayerGuidance"):
        return {}
    return dict(
        zip(function.__code__.co_freevars, (cell.cell_contents for cell in function.__closure__ or ()), strict=True)
    )
