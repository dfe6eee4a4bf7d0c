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


def audio_vae(seed: int) -> Checkpoint:
    """Return the sound's VAE, as deep as the true one and with its kernels, so that it looks back and ahead as far."""
    from comfy.ldm.lightricks.vae.audio_vae import AudioVAE

    sizes = {
        "double_z": True,
        "mel_bins": 64,
        "z_channels": 8,
        "resolution": 256,
        "downsample_time": False,
        "in_channels": 2,
        "out_ch": 2,
        "ch": 4,
        "ch_mult": [1, 2, 4],
        "num_res_blocks": 2,
        "attn_resolutions": [],
        "dropout": 0.0,
        "mid_block_add_attention": False,
        "norm_type": "pixel",
        "causality_axis": "height",
    }
    stft = {"filter_length": 1024, "hop_length": 160}
    config = {
        "audio_vae": {
            "model": {"params": {"ddconfig": sizes, "sampling_rate": 16000}},
            "preprocessing": {"stft": stft},
        },
        "vocoder": {"upsample_initial_channel": 32},
    }
    return Checkpoint(AudioVAE({"config": config}), seed, config)


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
        state = {name.replace("autoencoder.", "audio_vae.", 1): w for name, w in draw_weights(checkpoint).items()}
        save_file(state, unfinished, metadata={"config": json.dumps(checkpoint.config)})
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


@cache
def load_audio_vae() -> Any:
    """Load the sound's VAE with core's Load LTXV Audio VAE, from a checkpoint with the names of the true one."""
    import_comfyui()
    import folder_paths
    from comfy_extras.nodes_lt_audio import LTXVAudioVAELoader

    folder = write("checkpoints", "tiny_ltx2_audio_vae", lambda: audio_vae(63))
    folder_paths.add_model_folder_path("checkpoints", str(folder / "checkpoints"), is_default=True)
    return LTXVAudioVAELoader.execute("tiny_ltx2_audio_vae.safetensors").args[0]


if __name__ == "__main__":
    for asked, made_of in NETWORKS.items():
        print(write("diffusion_models", f"tiny_{asked}", made_of) / "diffusion_models" / f"tiny_{asked}.safetensors")
