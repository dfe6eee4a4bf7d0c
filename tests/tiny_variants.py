"""Small random-weight checkpoints of the networks that are built on Wan, each of core's own class at toy size.

What tells one from another (keys, channels) is as in the true files, so core's own detection names them through
UNETLoader; `base_class` is what it must find. Phantom and SkyReels V2 have the plain network's structure: what differs
is the conditioning (pictures behind the video), or the frame rate alone. HuMo's audio projection and Animate's face
encoder have one size in core, some tens of megabytes each, so every file is written when a test first asks for it.

    python -m tests.tiny_variants NAME ...     writes them (all without a name) and prints where they are
"""

import hashlib
import importlib
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
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

FOLDER = DEFAULT_FOLDER.parent / "tiny_variants"
SIZES = {"dim": 64, "ffn_dim": 128, "num_heads": 4, "num_layers": 4, "text_dim": 32, "out_dim": 16}


@dataclass(frozen=True)
class Variant:
    """One row: how people call it, the name of core's class of its MODEL, and what to build."""

    title: str
    base_class: str
    unet: Callable[[], Checkpoint]


def wan(network: str, seed: int, *, module: str = "model", config: dict | None = None, **sizes: Any) -> Checkpoint:
    """Return a network of comfy/ldm/wan and what its file says of it in the metadata."""
    made = getattr(importlib.import_module(f"comfy.ldm.wan.{module}"), network)
    built = made(**{**SIZES, **sizes}, **build_options())
    told = {"num_heads": SIZES["num_heads"], "text_dim": SIZES["text_dim"], **(config or {})}
    return Checkpoint(built, seed, {"transformer": told})


VARIANTS: dict[str, Variant] = {
    "vace": Variant(
        "Wan VACE", "WAN21_Vace", lambda: wan("VaceWanModel", 31, in_dim=16, vace_layers=2, vace_in_dim=96)
    ),
    "fun_control": Variant("Wan 2.1 Fun-Control", "WAN21", lambda: wan("WanModel", 32, model_type="i2v", in_dim=48)),
    "fun_control_22": Variant(
        "Wan 2.2 Fun-Control", "WAN21", lambda: wan("WanModel", 33, model_type="t2v", in_dim=52, in_dim_ref_conv=16)
    ),
    "camera": Variant(
        "Wan 2.1 Fun-Camera", "WAN21_Camera", lambda: wan("CameraWanModel", 34, model_type="camera", in_dim=32)
    ),
    "camera_22": Variant(
        "Wan 2.2 Fun-Camera", "WAN21_Camera", lambda: wan("CameraWanModel", 35, model_type="camera_2.2", in_dim=36)
    ),
    "humo": Variant("HuMo 17B", "WAN21_HuMo", lambda: wan("HumoWanModel", 36, in_dim=36)),
    "humo_17": Variant("HuMo 1.7B", "WAN21_HuMo", lambda: wan("HumoWanModel", 37, in_dim=16)),
    "s2v": Variant("Wan 2.2 S2V", "WAN22_S2V", lambda: wan("WanModel_S2V", 38, in_dim=16)),
    "animate": Variant(
        "Wan 2.2 Animate",
        "WAN22_Animate",
        lambda: wan("AnimateWanModel", 39, module="model_animate", in_dim=36, num_layers=5),
    ),
    "scail": Variant("SCAIL", "WAN21_SCAIL", lambda: wan("SCAILWanModel", 40, in_dim=20)),
    "scail2": Variant("SCAIL-2", "WAN21_SCAIL2", lambda: wan("SCAIL2WanModel", 41, in_dim=20)),
    "phantom": Variant("Phantom", "WAN21", lambda: wan("WanModel", 42, model_type="t2v", in_dim=16)),
    "skyreels_v2": Variant("SkyReels V2", "WAN21", lambda: wan("WanModel", 43, model_type="t2v", in_dim=16)),
    "flow_rvs": Variant(
        "FlowRVS",
        "WAN21_FlowRVS",
        lambda: wan("WanModel", 44, model_type="t2v", in_dim=16, config={"model_type": "flow_rvs"}),
    ),
}


@cache
def content_key() -> str:
    """Changes with this file, with what draws the weights, and with ComfyUI's version."""
    digest = hashlib.blake2s(digest_size=8)
    for path in (Path(__file__), Path(__file__).with_name("tiny_models.py"), find_comfyui() / "comfyui_version.py"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def write(name: str) -> Path:
    """Return the folder with a variant's file in diffusion_models/, written unless it is there; whole or not at all."""
    import_comfyui()
    from safetensors.torch import save_file

    folder = FOLDER / content_key()
    path = folder / "diffusion_models" / f"variant_{name}.safetensors"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        checkpoint = VARIANTS[name].unet()
        descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix="unfinished-")
        os.close(descriptor)
        save_file(draw_weights(checkpoint), unfinished, metadata={"config": json.dumps(checkpoint.config)})
        os.replace(unfinished, path)
    return folder


@cache
def load(name: str) -> LoadedTiny:
    """Load a variant with core's UNETLoader, and what goes with it; shared by all who ask, so patch a clone."""
    nodes = import_comfyui()
    register_with_comfyui(write(name))
    from tests.tiny_nodes.tiny_clip import make_tiny_clip

    register_with_comfyui(make_tiny_models()["wan21"].folder)
    model = nodes.UNETLoader().load_unet(f"variant_{name}.safetensors", "default")[0]
    vae = nodes.VAELoader().load_vae("tiny_wan21_vae.safetensors")[0]
    return LoadedTiny(model, make_tiny_clip("wan"), vae)


if __name__ == "__main__":
    for asked in sys.argv[1:] or VARIANTS:
        found = write(asked) / "diffusion_models" / f"variant_{asked}.safetensors"
        print(f"{asked:16s} {found.stat().st_size / 1e6:6.2f} MB  {found}")
