"""Small random-weight checkpoints of every supported model family, in files that core's loaders accept as they are.

Each network is ComfyUI's own class at toy size, filled from a seeded normal distribution and saved as safetensors.
Where ComfyUI reads sizes from the file's metadata (Wan, LTXV) the sizes travel there; elsewhere from the shapes.
HunyuanVideo's, HunyuanVideo 1.5's and CogVideoX's own VAEs and the 48-channel Wan VAE have one fixed, large size in
ComfyUI, so the tiny Wan VAE and TAEHVs of 32 and 48 channels stand in for them: same channels and strides. The weights
know nothing about video: what these models show is that shapes, hooks and samplers fit together, never quality.

    python -m tests.tiny_models FOLDER     (from the pack's root) writes the files and prints where they are
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tests.comfy_inprocess import find_comfyui, import_comfyui

DEFAULT_FOLDER = Path(__file__).resolve().parent / "artifacts" / "tiny_models"
MODEL_KINDS = ("diffusion_models", "vae")


class LoadedTiny(NamedTuple):
    """What core's loaders made of one tiny model: a ModelPatcher, a comfy.sd.CLIP, a comfy.sd.VAE."""

    model: Any
    clip: Any
    vae: Any


@dataclass(frozen=True)
class TinyModel:
    """One tiny checkpoint and the facts that a test needs. Strides are pixels (or pixel frames) per latent cell."""

    name: str
    family: str
    unet_file: str
    vae_file: str
    latent_channels: int
    spatial_stride: int
    temporal_stride: int
    text_dim: int
    folder: Path

    @property
    def unet_path(self) -> Path:
        return self.folder / "diffusion_models" / self.unet_file

    @property
    def vae_path(self) -> Path:
        return self.folder / "vae" / self.vae_file

    def pixel_frames(self, latent_frames: int) -> int:
        """Frames of the decoded video: the first latent frame holds one, every other one `temporal_stride`."""
        return (latent_frames - 1) * self.temporal_stride + 1

    def latent_shape(self, latent_frames: int, width: int = 64, height: int = 64) -> tuple[int, int, int, int, int]:
        """[1, C, F, H, W] of a video of `width` x `height` pixels."""
        return (1, self.latent_channels, latent_frames, height // self.spatial_stride, width // self.spatial_stride)

    def prompt_nodes(self) -> dict[str, dict[str, Any]]:
        """Loaders of a prompt in ComfyUI's API format: nodes "model", "clip" and "vae", each with one output."""
        return {
            "model": {"class_type": "UNETLoader", "inputs": {"unet_name": self.unet_file, "weight_dtype": "default"}},
            "clip": {"class_type": "TinyClip", "inputs": {"family": self.family}},
            "vae": {"class_type": "VAELoader", "inputs": {"vae_name": self.vae_file}},
        }

    def load(self) -> LoadedTiny:
        """Load in this process with core's UNETLoader and VAELoader; the CLIP is the hashing one of tiny_nodes."""
        nodes = import_comfyui()
        register_with_comfyui(self.folder)
        from tests.tiny_nodes.tiny_clip import make_tiny_clip

        model = nodes.UNETLoader().load_unet(self.unet_file, "default")[0]
        vae = nodes.VAELoader().load_vae(self.vae_file)[0]
        return LoadedTiny(model, make_tiny_clip(self.family), vae)


@dataclass(frozen=True)
class Entry:
    """One row of the table below: what to build and what is then true of it."""

    family: str
    unet: Callable[[], "Checkpoint"]
    vae: str
    latent_channels: int
    spatial_stride: int
    temporal_stride: int
    text_dim: int = 32


class Checkpoint(NamedTuple):
    """A module whose weights are to be drawn, the seed, ComfyUI's metadata, and keys that real files do not have."""

    module: Any
    seed: int
    config: dict | None = None
    absent: tuple[str, ...] = ()


def build_options() -> dict[str, Any]:
    import torch

    import comfy.ops

    return {"device": "cpu", "dtype": torch.float32, "operations": comfy.ops.disable_weight_init}


def wan(channels: int, seed: int) -> Checkpoint:
    from comfy.ldm.wan.model import WanModel

    heads, text_dim = 4, 32
    module = WanModel(
        model_type="t2v",
        in_dim=channels,
        out_dim=channels,
        dim=64,
        ffn_dim=128,
        num_heads=heads,
        num_layers=4,
        text_dim=text_dim,
        **build_options(),
    )
    return Checkpoint(module, seed, {"transformer": {"num_heads": heads, "text_dim": text_dim}})


def cogvideox(version: str, seed: int, **differences: Any) -> Checkpoint:
    from comfy.ldm.cogvideo.model import CogVideoXTransformer3DModel

    # The linear patch over two latent frames is what tells 1.5 from 1.0.
    of_version = {"1.0": {}, "1.5": {"patch_size_t": 2, "sample_height": 96, "sample_width": 170, "sample_frames": 81}}
    sizes = {
        "num_attention_heads": 1,
        "attention_head_dim": 64,
        "num_layers": 3,
        "time_embed_dim": 64,
        "text_embed_dim": 32,
        "in_channels": 16,
        "use_rotary_positional_embeddings": True,
    }
    module = CogVideoXTransformer3DModel(**{**sizes, **of_version[version], **differences}, **build_options())
    return Checkpoint(module, seed, absent=("pos_embedding",))


def hunyuan_video(seed: int, **differences: Any) -> Checkpoint:
    from comfy.ldm.hunyuan_video.model import HunyuanVideo

    # A head is 128 wide (axes 16 + 56 + 56) whatever the model, so one head is the smallest there is.
    sizes = {
        "in_channels": 16,
        "out_channels": 16,
        "vec_in_dim": 768,
        "context_in_dim": 32,
        "hidden_size": 128,
        "mlp_ratio": 4.0,
        "num_heads": 1,
        "depth": 2,
        "depth_single_blocks": 2,
        "axes_dim": [16, 56, 56],
        "theta": 256,
        "patch_size": [1, 2, 2],
        "qkv_bias": True,
        "guidance_embed": True,
        "byt5": False,
        "meanflow": False,
        "use_cond_type_embedding": False,
        "vision_in_dim": None,
        "meanflow_sum": False,
    }
    return Checkpoint(HunyuanVideo(**{**sizes, **differences}, **build_options()), seed)


def hunyuan_video15(seed: int, **differences: Any) -> Checkpoint:
    """Of text and of a picture alike: the same network. Its reading of quoted text has one fixed, large size."""
    sizes = {"in_channels": 65, "out_channels": 32, "vec_in_dim": None, "patch_size": [1, 1, 1], "depth": 3}
    parts = {"guidance_embed": False, "byt5": True, "use_cond_type_embedding": True, "vision_in_dim": 1152}
    return hunyuan_video(seed, **{"depth_single_blocks": 0, **sizes, **parts, **differences})


def kandinsky5(seed: int) -> Checkpoint:
    from comfy.ldm.kandinsky5.model import Kandinsky5

    # Core takes the heads of a width that it does not know for those of the lite model, 64 wide, and text for Qwen's.
    module = Kandinsky5(
        in_text_dim=3584,
        time_dim=64,
        model_dim=128,
        ff_dim=256,
        num_text_blocks=1,
        num_visual_blocks=3,
        **build_options(),
    )
    return Checkpoint(module, seed)


def ltxv(seed: int) -> Checkpoint:
    from comfy.ldm.lightricks.model import LTXVModel

    sizes = {
        "num_attention_heads": 2,
        "attention_head_dim": 32,
        "cross_attention_dim": 64,
        "caption_channels": 32,
        "causal_temporal_positioning": True,
    }
    return Checkpoint(
        LTXVModel(in_channels=128, num_layers=3, **sizes, **build_options()), seed, {"transformer": sizes}
    )


def wan_vae(seed: int) -> Checkpoint:
    from comfy.ldm.wan.vae import WanVAE

    return Checkpoint(
        WanVAE(
            dim=8,
            z_dim=16,
            dim_mult=[1, 2, 4, 4],
            num_res_blocks=2,
            attn_scales=[],
            temperal_downsample=[False, True, True],
        ),
        seed,
    )


def ltxv_vae(seed: int) -> Checkpoint:
    from comfy.ldm.lightricks.vae.causal_video_autoencoder import VideoVAE

    # Patches of 4 pixels and three halvings of space and time: 32 pixels and 8 frames per latent cell.
    blocks = [["res_x", 1], ["compress_all", 1]] * 3 + [["res_x", 1]]
    config = {
        "_class_name": "CausalVideoAutoencoder",
        "dims": 3,
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 128,
        "encoder_base_channels": 8,
        "decoder_base_channels": 8,
        "patch_size": 4,
        "norm_layer": "pixel_norm",
        "latent_log_var": "uniform",
        "causal_decoder": False,
        "timestep_conditioning": False,
        "encoder_blocks": blocks,
        "decoder_blocks": blocks,
    }
    return Checkpoint(VideoVAE(version=0, config=config), seed, {"vae": config})


def taehv(channels: int, seed: int) -> Checkpoint:
    from comfy.taesd.taehv import TAEHV

    return Checkpoint(TAEHV(latent_channels=channels), seed)


VAES: dict[str, Callable[[], Checkpoint]] = {
    "tiny_wan21_vae": lambda: wan_vae(seed=11),
    "tiny_ltxv_vae": lambda: ltxv_vae(seed=12),
    "tiny_taehv48": lambda: taehv(48, seed=13),
    "tiny_taehv32": lambda: taehv(32, seed=14),
}

# The Wan 2.2 14B experts have the shape of Wan 2.1; the pair differs in its weights alone.
MODELS: dict[str, Entry] = {
    "wan21": Entry("wan", lambda: wan(16, seed=1), "tiny_wan21_vae", 16, 8, 4),
    "wan22_14b_high": Entry("wan", lambda: wan(16, seed=2), "tiny_wan21_vae", 16, 8, 4),
    "wan22_14b_low": Entry("wan", lambda: wan(16, seed=3), "tiny_wan21_vae", 16, 8, 4),
    "wan22_5b": Entry("wan", lambda: wan(48, seed=4), "tiny_taehv48", 48, 16, 4),
    "cogvideox10": Entry("cogvideox", lambda: cogvideox("1.0", seed=5), "tiny_wan21_vae", 16, 8, 4),
    "cogvideox15": Entry("cogvideox", lambda: cogvideox("1.5", seed=6), "tiny_wan21_vae", 16, 8, 4),
    "hunyuan_video": Entry("hunyuan_video", lambda: hunyuan_video(seed=7), "tiny_wan21_vae", 16, 8, 4),
    "ltxv": Entry("ltxv", lambda: ltxv(seed=8), "tiny_ltxv_vae", 128, 32, 8),
    "hunyuan_video15": Entry("hunyuan_video15", lambda: hunyuan_video15(seed=9), "tiny_taehv32", 32, 16, 4),
    "kandinsky5": Entry("kandinsky", lambda: kandinsky5(seed=10), "tiny_wan21_vae", 16, 8, 4, 3584),
}


def draw_weights(checkpoint: Checkpoint) -> dict[str, Any]:
    """State dict of the module with seeded values: matrices ~ N(0, 1/fan_in), gains near 1, biases near 0."""
    import torch

    generator = torch.Generator().manual_seed(checkpoint.seed)
    state = {}
    for key, value in checkpoint.module.state_dict().items():
        if key.endswith(checkpoint.absent):
            continue
        if not value.is_floating_point():
            state[key] = value.clone()
            continue
        noise = torch.randn(value.shape, generator=generator)
        if key.endswith("modulation") or "scale_shift_table" in key:
            drawn = noise * 0.1
        elif value.ndim >= 2:
            drawn = noise * value[0].numel() ** -0.5
        elif key.endswith(("bias", "beta")):
            drawn = noise * 0.02
        else:
            drawn = 1 + noise * 0.02
        # Half precision on disk keeps files small; on a CPU ComfyUI computes in float32 all the same.
        state[key] = drawn.to(torch.float16).contiguous()
    return state


def content_key() -> str:
    """Changes with this file and with ComfyUI's version, the two things that the checkpoints depend on."""
    digest = hashlib.blake2s(digest_size=8)
    digest.update(Path(__file__).read_bytes())
    digest.update((find_comfyui() / "comfyui_version.py").read_bytes())
    return digest.hexdigest()


def write_checkpoints(folder: Path) -> None:
    import_comfyui()
    from safetensors.torch import save_file

    files = {f"diffusion_models/tiny_{name}": entry.unet for name, entry in MODELS.items()}
    files |= {f"vae/{name}": build for name, build in VAES.items()}
    for name, build in files.items():
        checkpoint = build()
        path = folder / f"{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"config": json.dumps(checkpoint.config)} if checkpoint.config else None
        save_file(draw_weights(checkpoint), path, metadata=metadata)


def make_tiny_models(folder: Path = DEFAULT_FOLDER) -> dict[str, TinyModel]:
    """Write the checkpoints below `folder` unless they are there, and describe them, by the names of MODELS.

    The files lie in `folder/<content key>/diffusion_models` and `.../vae`. They appear all at once, so a run that
    was killed leaves nothing half written and two runs may make them at the same time. ComfyUI is imported only
    when something has to be written.
    """
    ready = Path(folder) / content_key()
    if not ready.is_dir():
        ready.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=ready.parent, prefix="unfinished-"))
        try:
            write_checkpoints(unfinished)
            os.rename(unfinished, ready)
        except OSError:
            # Another run was faster: its folder is complete and a rename cannot replace it.
            if not ready.is_dir():
                raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return {
        name: TinyModel(
            name,
            entry.family,
            f"tiny_{name}.safetensors",
            f"{entry.vae}.safetensors",
            entry.latent_channels,
            entry.spatial_stride,
            entry.temporal_stride,
            entry.text_dim,
            ready,
        )
        for name, entry in MODELS.items()
    }


def register_with_comfyui(folder: Path) -> None:
    """Let the ComfyUI of this process find the files of `folder` first."""
    import_comfyui()
    import folder_paths

    for kind in MODEL_KINDS:
        folder_paths.add_model_folder_path(kind, str(Path(folder) / kind), is_default=True)


if __name__ == "__main__":
    for tiny in make_tiny_models(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_FOLDER).values():
        print(f"{tiny.name:16s} {tiny.unet_path.stat().st_size / 1e6:6.2f} MB  {tiny.unet_path}")
