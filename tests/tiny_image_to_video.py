"""Tiny image-to-video networks of true structure, in files that core's loaders recognise as the variant that they are.

What makes a variant is what core looks for in a file: channels of the entrance, the modules of a CLIP vision picture
(Wan 2.1), the embedding of two of them (FLF), `ofs` (CogVideoX 1.5). Wan's Fun-Inpaint files have the structure of Wan
2.1 or 2.2 image-to-video, its camera and control files a camera's adapter or more channels. HunyuanVideo I2V v2 ("token
replace") has that of text-to-video. As in tests/tiny_models.py, the weights know nothing about video.
"""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests import tiny_models
from tests.comfy_inprocess import import_comfyui
from tests.tiny_models import Checkpoint, LoadedTiny, build_options, draw_weights

VISION_WIDTH, VISION_TOKENS = 1280, 257  # of CLIP vision's pictures, whatever the network's size


class Variant(NamedTuple):
    """What to build, which tiny text encoder reads its prompts, and core's class of the loaded model."""

    build: Callable[[], Checkpoint]
    family: str
    core_class: str


def wan(model_type: str, channels: int, seed: int, **options: Any) -> Checkpoint:
    from comfy.ldm.wan.model import CameraWanModel, WanModel

    sizes = {"num_heads": 2, "text_dim": 32}
    module = (CameraWanModel if model_type.startswith("camera") else WanModel)(
        model_type=model_type,
        in_dim=channels,
        out_dim=16,
        dim=32,
        ffn_dim=64,
        num_layers=2,
        **sizes,
        **options,
        **build_options(),
    )
    return Checkpoint(module, seed, {"transformer": sizes})


def cogvideox(version: str, seed: int, **differences: Any) -> Checkpoint:
    return tiny_models.cogvideox(version, seed, in_channels=32, out_channels=16, num_layers=2, **differences)


def hunyuan_video(channels: int, seed: int) -> Checkpoint:
    return tiny_models.hunyuan_video(seed, in_channels=channels, depth=1, depth_single_blocks=1)


VARIANTS = {
    "wan21_i2v": Variant(lambda: wan("i2v", 36, 21), "wan", "WAN21"),
    "wan21_flf": Variant(lambda: wan("i2v", 36, 22, flf_pos_embed_token_number=2 * VISION_TOKENS), "wan", "WAN21"),
    "wan21_fun_inpaint": Variant(lambda: wan("i2v", 36, 23), "wan", "WAN21"),
    "wan22_i2v_high": Variant(lambda: wan("t2v", 36, 24), "wan", "WAN21"),
    "wan22_i2v_low": Variant(lambda: wan("t2v", 36, 25), "wan", "WAN21"),
    "wan21_camera": Variant(lambda: wan("camera", 32, 31), "wan", "WAN21_Camera"),
    "wan22_camera": Variant(lambda: wan("camera_2.2", 36, 32), "wan", "WAN21_Camera"),
    "wan21_fun_control": Variant(lambda: wan("i2v", 48, 33), "wan", "WAN21"),
    "wan22_fun_control": Variant(lambda: wan("t2v", 52, 34), "wan", "WAN21"),
    "cogvideox10_i2v": Variant(lambda: cogvideox("1.0", 26), "cogvideox", "CogVideoX"),
    "cogvideox15_i2v": Variant(lambda: cogvideox("1.5", 27, ofs_embed_dim=64), "cogvideox", "CogVideoX"),
    "hunyuan_i2v_concat": Variant(lambda: hunyuan_video(33, 28), "hunyuan_video", "HunyuanVideoI2V"),
    "hunyuan_skyreels_i2v": Variant(lambda: hunyuan_video(32, 29), "hunyuan_video", "HunyuanVideoSkyreelsI2V"),
    "hunyuan_i2v_replace": Variant(lambda: hunyuan_video(16, 30), "hunyuan_video", "HunyuanVideo"),
}


def load(name: str) -> LoadedTiny:
    """Write one variant and load it in this process with core's UNETLoader; its CLIP is the hashing one, its VAE the
    tiny Wan VAE, which has the channels and strides of all of them."""
    nodes = import_comfyui()
    from safetensors.torch import save_file

    from tests.tiny_nodes.tiny_clip import make_tiny_clip

    variant, vaes = VARIANTS[name], next(iter(tiny_models.make_tiny_models().values()))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "diffusion_models" / f"tiny_{name}.safetensors"
        os.mkdir(file.parent)
        checkpoint = variant.build()
        metadata = {"config": json.dumps(checkpoint.config)} if checkpoint.config else None
        save_file(draw_weights(checkpoint), file, metadata=metadata)
        model = _with_folders([Path(folder)], lambda: nodes.UNETLoader().load_unet(file.name, "default")[0])
    assert type(model.model).__name__ == variant.core_class, f"core takes {name} for a {type(model.model).__name__}"
    vae = _with_folders([vaes.folder], lambda: nodes.VAELoader().load_vae("tiny_wan21_vae.safetensors")[0])
    return LoadedTiny(model, make_tiny_clip(variant.family), vae)


def _with_folders(folders: list[Path], load_file: Callable[[], Any]) -> Any:
    """Have core find files in these folders meanwhile."""
    import folder_paths

    before = dict(folder_paths.folder_names_and_paths)
    try:
        for folder in folders:
            tiny_models.register_with_comfyui(folder)
        return load_file()
    finally:
        folder_paths.folder_names_and_paths.update(before)
