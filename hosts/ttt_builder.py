"""What the training command trains: a model of any family, by the names of its files in ComfyUI's models folder.

    [model]
    unet = "wan2.1_t2v_1.3B_bf16.safetensors"    # in models/diffusion_models
    clip = ["umt5_xxl_fp16.safetensors"]         # in models/text_encoders, one or two
    clip_type = "wan"                            # as Load CLIP names it
    vae = "wan_2.1_vae.safetensors"              # in models/vae
    kind = "mlp"                                 # of new layers; or layers = "a file in models/ttt" to go on from

They are loaded by core's own nodes, so what loads in the graph loads here. Data, stages and files are training/config's
matter; in the graph Longreel Train TTT takes what is wired.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import folder_paths
import nodes
import torch

from ..engine.storyboard import nearest
from ..engine.ttt_files import load_ttt
from ..engine.ttt_layer import MLP
from . import block_count, ttt
from .ttt_encoder import TTTEncoder
from .ttt_training import PUBLISHED_START_GATE, TTTStudent

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
LAYERS_FOLDER = "ttt"  # below ComfyUI's models


@dataclass(frozen=True)
class Settings:
    """unet, clip, clip_type, vae: see above. layers: a file in models/ttt to go on from, or its path; empty for new
    ones. kind, heads, chunk, base_rate: of new layers, see engine/ttt_layer.TTTConfig; 0 as published. blocks: those
    that get layers, from 0; none for all. start_gate: what shut gates open to. dtype: in which the network computes.
    text_tokens: length that prompts are filled up to in the cache; 0 for that of the empty prompt."""

    unet: str
    clip: list
    clip_type: str
    vae: str
    layers: str = ""
    kind: str = MLP
    heads: int = 0
    chunk: int = 0
    base_rate: float = 0.0
    blocks: list = ()
    start_gate: float = PUBLISHED_START_GATE
    dtype: str = "bfloat16"
    text_tokens: int = 0


def build(settings: Mapping[str, Any]) -> tuple[TTTStudent, TTTEncoder, None]:
    """training/student.Builder; it makes no samples.

    Raises ValueError, naming the key, for settings that are none, FileNotFoundError for files that are not there.
    """
    chosen = _settings(settings)
    model = nodes.UNETLoader().load_unet(chosen.unet, "default")[0]
    if len(chosen.clip) == 1:
        clip = nodes.CLIPLoader().load_clip(chosen.clip[0], chosen.clip_type)[0]
    else:
        clip = nodes.DualCLIPLoader().load_clip(*chosen.clip, chosen.clip_type)[0]
    vae = nodes.VAELoader().load_vae(chosen.vae)[0]
    loaded = load_ttt(_layers_path(chosen.layers)) if chosen.layers else None
    blocks = frozenset(chosen.blocks) if chosen.blocks else frozenset(range(block_count(model)))
    model = ttt.apply(model, loaded, kind=chosen.kind, blocks=blocks, heads=chosen.heads or None,
                      chunk=chosen.chunk or None, base_rate=chosen.base_rate or None)
    encoder = TTTEncoder(model, clip, vae, chosen.text_tokens or None)
    return TTTStudent(model, DTYPES[chosen.dtype], chosen.start_gate), encoder, None


def _settings(given: Mapping[str, Any]) -> Settings:
    kinds = {one.name: one.type for one in fields(Settings)}
    for name, value in given.items():
        if name not in kinds:
            raise ValueError(f'model.{name} is none of {len(kinds)} known keys; did you mean '
                             f'"{nearest(name, tuple(kinds))}"?')
        wanted = (int, float) if kinds[name] is float else kinds[name]
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise ValueError(f"model.{name} is {value!r}, and 1 {kinds[name].__name__} is needed; correct it")
    missing = [name for name in ("unet", "clip", "clip_type", "vae") if not given.get(name)]
    if missing:
        raise ValueError(f"{len(missing)} of 4 names are missing in [model], first {missing[0]}; name the file as the "
                         f"loader in the graph does")
    chosen = Settings(**given)
    if len(chosen.clip) > 2:
        raise ValueError(f"model.clip names {len(chosen.clip)} files and ComfyUI's loaders take 1 or 2; name the "
                         f"text encoders of this family")
    if chosen.dtype not in DTYPES:
        raise ValueError(f"model.dtype {chosen.dtype!r} is none of {len(DTYPES)}; use {' or '.join(DTYPES)}")
    if chosen.layers and (chosen.heads or chosen.chunk or chosen.base_rate):
        raise ValueError(f"model.layers names 1 file, which says itself how its layers are built, and heads, chunk, "
                         f"base_rate are {chosen.heads}, {chosen.chunk}, {chosen.base_rate:g}; leave them out")
    return chosen


def _layers_path(name: str) -> Path:
    """Raises FileNotFoundError where neither models/ttt nor the path holds it."""
    for path in (Path(folder_paths.models_dir) / LAYERS_FOLDER / name, Path(name)):
        if path.is_file():
            return path
    raise FileNotFoundError(f"0 files {name} in {Path(folder_paths.models_dir) / LAYERS_FOLDER}, and none of this "
                            f"path; name a file that Longreel Save TTT or the training command wrote")
