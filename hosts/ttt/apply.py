"""TTT layers on a MODEL of any family: they are attached to a clone, and are no part of its network.

Source: One-Minute Video Generation with Test-Time Training (arXiv 2504.05298, section 3). The layers live in a
ModelPatcher of their own that ComfyUI loads, casts and offloads beside the model, so they are in no state dict of the
model, no LoRA finds them, and no other clone sees them. While the network runs, each of its blocks is evaluated by its
family's file (hosts/ttt/<family>.py) with the block's TTT layer in its place.

Without a timeline (hosts/ttt/timeline.py) everything that the network is shown is one segment. Where files come from is
not known here (engine/ttt/files.py).
"""

import torch

import comfy.ops
from comfy.model_patcher import ModelPatcher

from ...engine.ttt.block import TTTBlock
from ...engine.ttt.files import LoadedTTT
from ...engine.ttt.layer import AS_TRAINED, GATED_DELTA, MLP, OWN, SLIDING_WINDOW, TTTConfig
from ...engine.ttt.weights import HEAD_WIDTH, PUBLISHED_BASE_RATE, PUBLISHED_CHUNK, check_weights
from .. import keys
from ..attention.beside import patcher_of
from ..families import block_count, family_of
from ..families.clone import clone
from ..training.fit import check_fit
from .forward import segments_of, watch
from .timeline import attach as attach_timeline

__all__ = ["apply", "attach_timeline"]
NAME = "Longreel Apply TTT"
NEW_HEAD_WIDTH = HEAD_WIDTH | {GATED_DELTA: 64, SLIDING_WINDOW: 64}
NEW_CHUNK = PUBLISHED_CHUNK | {GATED_DELTA: 64, SLIDING_WINDOW: 1}
NEW_BASE_RATE = PUBLISHED_BASE_RATE | {GATED_DELTA: 1.0, SLIDING_WINDOW: 1.0}


def apply(
    model: ModelPatcher,
    loaded: LoadedTTT | None,
    strength: float = 1.0,
    kind: str = MLP,
    blocks: frozenset[int] | None = None,
    heads: int | None = None,
    chunk: int | None = None,
    base_rate: float | None = None,
) -> ModelPatcher:
    """Return a clone of `model` with TTT layers.

    loaded None: new, neutral layers for training; they change nothing. kind, heads, chunk, base_rate: of new layers, as
    engine/ttt/layer.TTTConfig has them; None as published, heads of 64 channels (lact: 512). strength: 0..1, scales
    what the layers' gates let through (their tanh); 0 changes nothing, 1 is as trained. blocks: only these, counted
    from 0; None for all that there are.

    Raises ValueError for a model that has layers already, a file of another family or size, and numbers out of range.
    """
    if keys.TTT_LAYERS in model.model_options["transformer_options"]:
        raise ValueError("this model carries TTT layers already; wire the model from before that node")
    if not 0 <= strength <= 1:
        raise ValueError(f"a strength of {strength:g} is not 0 to 1; use 0 for no TTT, 1 for TTT as it was trained")
    segments_of(model)
    wanted = _wanted_blocks(model, blocks)
    if loaded is None:
        config, dtype = _new_config(model, kind, heads, chunk, base_rate), model.model.get_dtype_inference()
        return _carry(model, {number: _new_block(config, number, dtype) for number in sorted(wanted)})
    check_fit(model, "these TTT layers were", family=loaded.family, width=loaded.config.width, blocks=loaded.blocks)
    return _carry_loaded(model, loaded, _loaded_layers(loaded, wanted, strength))


def _wanted_blocks(model: ModelPatcher, blocks: frozenset[int] | None) -> frozenset[int]:
    """Return the blocks that are asked for. Raises ValueError for one that the network does not have."""
    count = block_count(model)
    wanted = frozenset(range(count)) if blocks is None else blocks
    if wanted and (min(wanted) < 0 or max(wanted) >= count):
        raise ValueError(
            f"block {min(wanted) if min(wanted) < 0 else max(wanted)} is asked for and this model has {count}, counted "
            f"from 0; use 0 to {count - 1}"
        )
    return wanted


def _loaded_layers(loaded: LoadedTTT, wanted: frozenset[int], strength: float) -> dict[int, TTTBlock]:
    layers = {number: _loaded_block(loaded, number, strength) for number in sorted(wanted & set(loaded.layers))}
    if not layers:
        raise ValueError(
            f"none of the {len(wanted)} blocks asked for is among the {len(loaded.layers)} that these TTT layers were "
            f"trained for, which begin with block {min(loaded.layers)}; ask for all, or for some of those"
        )
    return layers


def _carry(model: ModelPatcher, layers: dict[int, TTTBlock]) -> ModelPatcher:
    """Return a clone of `model` with these layers in a patcher of their own, which ComfyUI loads beside it."""
    model = clone(model)
    holder = torch.nn.ModuleDict({str(number): layer for number, layer in layers.items()})
    model.set_additional_models(keys.TTT_LAYERS, [patcher_of(holder, model, NAME)])
    options = model.model_options["transformer_options"] = dict(model.model_options["transformer_options"])
    options[keys.TTT_LAYERS] = layers
    watch(model)
    return model


def _carry_loaded(model: ModelPatcher, loaded: LoadedTTT, layers: dict[int, TTTBlock]) -> ModelPatcher:
    """Return a clone with the layers of a file, and what the network must be for them."""
    model = _carry(model, layers)
    model.model_options["transformer_options"][keys.TTT_TRAINED_SEGMENT] = loaded.segment_latent_frames
    if loaded.config.rates == AS_TRAINED:
        for path, value in segments_of(model).papers_numbers(model.model.diffusion_model):
            model.add_object_patch(f"diffusion_model.{path}", value)
    return model


def _new_config(
    model: ModelPatcher, kind: str, heads: int | None, chunk: int | None, base_rate: float | None
) -> TTTConfig:
    if kind not in NEW_CHUNK:
        raise ValueError(f"unknown kind of TTT layer {kind!r}; use {', '.join(PUBLISHED_CHUNK)}")
    width = family_of(model).width(model.model.diffusion_model)
    if heads is None:
        heads = width // NEW_HEAD_WIDTH[kind] if width % NEW_HEAD_WIDTH[kind] == 0 else 1
    return TTTConfig(
        kind,
        width,
        heads,
        NEW_CHUNK[kind] if chunk is None else chunk,
        NEW_BASE_RATE[kind] if base_rate is None else base_rate,
        rates=OWN,
    )


def _new_block(config: TTTConfig, number: int, dtype: torch.dtype) -> TTTBlock:
    """Gates shut; the rest as training starts, the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(number)
        drawn = TTTBlock(config).to(dtype)
    return _block(config, drawn.state_dict())


def _loaded_block(loaded: LoadedTTT, number: int, strength: float) -> TTTBlock:
    weights = dict(loaded.layers[number])
    try:
        check_weights(TTTBlock(loaded.config, device=torch.device("meta")), weights)
    except ValueError as error:
        raise ValueError(f"block {number}: {error}") from error
    if strength != 1:
        for name in ("forward_text", "forward_video", "backward_text", "backward_video"):
            opened = weights[name].double().tanh() * strength
            weights[name] = opened.atanh().to(weights[name].dtype)
    return _block(loaded.config, weights)


def _block(config: TTTConfig, weights: dict[str, torch.Tensor]) -> TTTBlock:
    """With ComfyUI's layers, which cast and offload; it holds the given tensors themselves."""
    block = TTTBlock(config, comfy.ops.manual_cast, device=torch.device("meta")).requires_grad_(False).eval()
    block.load_state_dict(weights, assign=True)
    return block
