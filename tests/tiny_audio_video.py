"""Small random-weight checkpoints of LTX-2 and LTX-2.3, which make a video and its sound together, and of their VAEs.

Each network is ComfyUI's own class at toy size; sizes travel in the file's metadata, as in the true files. The video's
VAE is the tiny LTXV one. Files are written when a test first asks for them.

    python -m tests.tiny_audio_video     writes them and prints where they are
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from tests.comfy_inprocess import find_comfyui, import_comfyui
from tests.tiny_models import (
    DEFAULT_FOLDER,
    Checkpoint,
    LoadedTiny,
    build_options,
    draw_weights,
    make_tiny_models,
    register_with_comfyui,
)

FOLDER = DEFAULT_FOLDER.parent / "tiny_audio_video"


def network(seed: int, **differences: Any) -> Checkpoint:
    """Return LTX-2's network; differences: what tells LTX-2.3."""
    from comfy.ldm.lightricks.av_model import LTXAVModel

    sizes = {
        "num_attention_heads": 2,
        "attention_head_dim": 32,
        "cross_attention_dim": 64,
        "audio_num_attention_heads": 2,
        "audio_attention_head_dim": 16,
        "audio_cross_attention_dim": 32,
        "caption_channels": 32,
        "connector_num_attention_heads": 1,
        "connector_attention_head_dim": 32,
        "connector_num_layers": 1,
        "positional_embedding_max_pos": [20, 2048, 2048],
        "audio_positional_embedding_max_pos": [20],
        "causal_temporal_positioning": True,
        "use_middle_indices_grid": True,
        "rope_type": "split",
        "av_ca_timestep_scale_multiplier": 1000.0,
        **differences,
    }
    return Checkpoint(LTXAVModel(num_layers=2, **sizes, **build_options()), seed, {"transformer": sizes})


NETWORKS: dict[str, Callable[[], Checkpoint]] = {
    "ltx2": lambda: network(61),
    "ltx23": lambda: network(62, cross_attention_adaln=True, apply_gated_attention=True),
}


@cache
def content_key() -> str:
    """Changes with this file, with what draws the weights, and with ComfyUI's version."""
    digest = hashlib.blake2s(digest_size=8)
    for path in (Path(__file__), Path(__file__).with_name("tiny_models.py"), find_comfyui() / "comfyui_version.py"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def write(kind: str, name: str, build: Callable[[], Checkpoint]) -> Path:
    """Return the folder with a file in `kind`/, written unless it is there; whole or not at all."""
    import_comfyui()
    from safetensors.torch import save_file

    folder = FOLDER / content_key()
    path = folder / kind / f"{name}.safetensors"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        checkpoint = build()
        descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix="unfinished-")
        os.close(descriptor)
        save_file(draw_weights(checkpoint), unfinished, metadata={"config": json.dumps(checkpoint.config)})
        os.replace(unfinished, path)
    return folder


@cache
def load(name: str = "ltx2") -> LoadedTiny:
    """Load one of NETWORKS with core's UNETLoader, and what goes with it; shared by all who ask, so patch a clone."""
    nodes = import_comfyui()
    register_with_comfyui(write("diffusion_models", f"tiny_{name}", NETWORKS[name]))
    from tests.tiny_nodes.tiny_clip import make_tiny_clip

    register_with_comfyui(make_tiny_models()["ltxv"].folder)
    model = nodes.UNETLoader().load_unet(f"tiny_{name}.safetensors", "default")[0]
    vae = nodes.VAELoader().load_vae("tiny_ltxv_vae.safetensors")[0]
    return LoadedTiny(model, make_tiny_clip("ltxav"), vae)


if __name__ == "__main__":
    for asked, made_of in NETWORKS.items():
        print(write("diffusion_models", f"tiny_{asked}", made_of) / "diffusion_models" / f"tiny_{asked}.safetensors")
