"""What the training command trains: a model of any family, by the names of its files in ComfyUI's models folder.

    [model]
    unet = "wan2.1_t2v_1.3B_bf16.safetensors"    # in models/diffusion_models
    clip = ["umt5_xxl_fp16.safetensors"]         # in models/text_encoders, one or two
    clip_type = "wan"                            # as Load CLIP names it
    vae = "wan_2.1_vae.safetensors"              # in models/vae
    kind = "mlp"                                 # of new layers; or layers = "a file in models/ttt" to go on from
    sample = ["a cat sleeps", "the cat wakes"]   # a story to watch while it learns, a prompt for each segment

They are loaded by core's own nodes, so what loads in the graph loads here. Data, stages and files are training/config's
matter; in the graph Longreel Train TTT takes what is wired.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import folder_paths
import nodes

from ...engine.settings import check_settings
from ...engine.ttt.files import load_ttt
from ...engine.ttt.layer import MLP
from ..families import block_count
from ..training.encoder import TTTEncoder
from . import apply as ttt
from .samples import StorySampler
from .student import PUBLISHED_START_GATE, TTTStudent

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
LAYERS_FOLDER = "ttt"  # below ComfyUI's models


@dataclass(frozen=True)
class Settings:
    """unet, clip, clip_type, vae: see above. layers: a file in models/ttt to go on from, or its path; empty for new
    ones. kind, heads, chunk, base_rate: of new layers, see engine/ttt/layer.TTTConfig; 0 as published. blocks: those
    that get layers, from 0; none for all. start_gate: what shut gates open to. dtype: in which the network computes.
    text_tokens: length that prompts are filled up to in the cache; 0 for that of the empty prompt. sample: prompts of a
    story that is shown at every validation, none for no pictures; of sample_width, sample_height pixels (multiples of
    the family's), sample_segment_latent_frames in each segment, 2 or more, in sample_steps with guidance sample_cfg.
    lead_frames: latent frames in front of each segment that its attention looks at too; 0 as published."""

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
    sample: list = ()
    sample_width: int = 832
    sample_height: int = 480
    sample_segment_latent_frames: int = 13
    sample_steps: int = 20
    sample_cfg: float = 5.0
    lead_frames: int = 0


def build(settings: Mapping[str, Any]) -> tuple[TTTStudent, TTTEncoder, StorySampler | None]:
    """training/student.Builder.

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
    model = ttt.apply(
        model,
        loaded,
        kind=chosen.kind,
        blocks=blocks,
        heads=chosen.heads or None,
        chunk=chosen.chunk or None,
        base_rate=chosen.base_rate or None,
    )
    encoder = TTTEncoder(model, clip, vae, chosen.text_tokens or None)
    student = TTTStudent(model, DTYPES[chosen.dtype], chosen.start_gate, chosen.lead_frames)
    return student, encoder, _sampler(chosen, student, encoder) if chosen.sample else None


def _sampler(chosen: Settings, student: TTTStudent, encoder: TTTEncoder) -> StorySampler:
    facts, count, length = student.facts, len(chosen.sample), chosen.sample_segment_latent_frames
    facts.check_size(chosen.sample_width, chosen.sample_height)
    if length < 2 or chosen.sample_steps < 1:
        raise ValueError(
            f"model.sample_segment_latent_frames is {length} and model.sample_steps "
            f"{chosen.sample_steps}; use 2 and 1, or more"
        )
    step = length - 1  # neighbours share a frame
    windows = tuple((step * number, step * number + length) for number in range(count))
    shape = (
        facts.latent_channels,
        count * step + 1,
        chosen.sample_height // facts.spatial_stride,
        chosen.sample_width // facts.spatial_stride,
    )

    def heard(prompts: list[str]) -> dict[str, torch.Tensor]:
        texts = [encoder.encode_text(prompt) for prompt in prompts]
        return {name: torch.stack([text[name] for text in texts]) for name in texts[0]}

    return StorySampler(
        student,
        encoder.vae,
        [heard(chosen.sample)],
        heard([""] * count),
        shape,
        windows,
        chosen.sample_steps,
        chosen.sample_cfg,
    )


def _settings(given: Mapping[str, Any]) -> Settings:
    check_settings(Settings, given, "model")
    missing = [name for name in ("unet", "clip", "clip_type", "vae") if not given.get(name)]
    if missing:
        raise ValueError(
            f"{len(missing)} of 4 names are missing in [model], first {missing[0]}; name the file as the "
            f"loader in the graph does"
        )
    chosen = Settings(**given)
    if len(chosen.clip) > 2:
        raise ValueError(
            f"model.clip names {len(chosen.clip)} files and ComfyUI's loaders take 1 or 2; name the "
            f"text encoders of this family"
        )
    if chosen.lead_frames < 0:
        raise ValueError(f"model.lead_frames is {chosen.lead_frames}; use 0 as published, or 1 and more")
    if chosen.dtype not in DTYPES:
        raise ValueError(f"model.dtype {chosen.dtype!r} is not known; use {' or '.join(DTYPES)}")
    if chosen.layers and (chosen.heads or chosen.chunk or chosen.base_rate):
        raise ValueError(
            f"model.layers names a file, which says itself how its layers are built, but heads, chunk, base_rate are "
            f"{chosen.heads}, {chosen.chunk}, {chosen.base_rate:g}; leave them out"
        )
    return chosen


def _layers_path(name: str) -> Path:
    """Raises FileNotFoundError where neither models/ttt nor the path holds it."""
    for path in (Path(folder_paths.models_dir) / LAYERS_FOLDER / name, Path(name)):
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"there is no {name} in {Path(folder_paths.models_dir) / LAYERS_FOLDER}, nor at this path; name a file that "
        f"Longreel Save TTT or the training command wrote"
    )
