"""Networks of true width and depth without weights: core's own classes on the meta device, recognised by core itself.

The sizes are those of the published configurations. They tell their facts; with few blocks they can be given weights
(tests/bench/memory_measured.py).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

import comfy.model_detection
import comfy.ops
from comfy.ldm.cogvideo.model import CogVideoXTransformer3DModel
from comfy.ldm.hunyuan_video.model import HunyuanVideo
from comfy.ldm.kandinsky5.model import Kandinsky5
from comfy.ldm.lightricks.model import LTXVModel
from comfy.ldm.wan.model import WanModel

META = {"device": "meta", "dtype": torch.bfloat16, "operations": comfy.ops.manual_cast}
COMPUTED_WITH = torch.bfloat16


@dataclass(frozen=True)
class TrueNetwork:
    """A network, the metadata that its checkpoint has, and keys that its file lacks."""

    build: Callable[..., torch.nn.Module]  # of so many blocks, by default all
    config: dict | None = None
    absent: tuple[str, ...] = ()

    def metadata(self) -> dict[str, str] | None:
        """The metadata of its checkpoint."""
        return {"config": json.dumps({"transformer": self.config})} if self.config else None


def _wan(channels: int, dim: int, ffn_dim: int, heads: int, layers: int) -> TrueNetwork:
    return TrueNetwork(
        lambda blocks=layers: WanModel(
            model_type="t2v", in_dim=channels, out_dim=channels, text_dim=4096, dim=dim, ffn_dim=ffn_dim,
            num_heads=heads, num_layers=blocks, **META,
        )
    )  # fmt: skip


def _hunyuan_video(blocks: int | None = None) -> HunyuanVideo:
    return HunyuanVideo(
        in_channels=16, out_channels=16, vec_in_dim=768, context_in_dim=4096, hidden_size=3072, mlp_ratio=4.0,
        num_heads=24, depth=blocks or 20,
        depth_single_blocks=blocks or 40, axes_dim=[16, 56, 56], theta=256, patch_size=[1, 2, 2],
        qkv_bias=True, guidance_embed=True, byt5=False, meanflow=False, use_cond_type_embedding=False,
        vision_in_dim=None, meanflow_sum=False, **META,
    )  # fmt: skip


def _hunyuan_video_15(blocks: int = 54) -> HunyuanVideo:
    return HunyuanVideo(
        in_channels=65, out_channels=32, vec_in_dim=None, context_in_dim=3584, hidden_size=2048, mlp_ratio=4.0,
        num_heads=16, depth=blocks, depth_single_blocks=0, axes_dim=[16, 56, 56], theta=256, patch_size=[1, 1, 1],
        qkv_bias=True, guidance_embed=False, byt5=True, meanflow=False, use_cond_type_embedding=True,
        vision_in_dim=1152, meanflow_sum=False, **META,
    )  # fmt: skip


def _kandinsky(width: int, ff_dim: int, time_dim: int, axes: tuple[int, int, int], texts: int, layers: int):
    return TrueNetwork(
        lambda blocks=layers: Kandinsky5(
            model_dim=width, ff_dim=ff_dim, time_dim=time_dim, axes_dims=axes, num_text_blocks=texts,
            num_visual_blocks=blocks, **META,
        )
    )  # fmt: skip


def _ltxv(width: int, layers: int) -> TrueNetwork:
    config = {
        "num_attention_heads": 32, "attention_head_dim": width, "cross_attention_dim": 32 * width,
        "caption_channels": 4096, "causal_temporal_positioning": True,
    }  # fmt: skip
    return TrueNetwork(lambda blocks=layers: LTXVModel(num_layers=blocks, **config, **META), config)


NETWORKS = {
    "Wan 1.3B": _wan(16, 1536, 8960, 12, 30),
    "Wan 14B": _wan(16, 5120, 13824, 40, 40),
    "Wan 2.2 5B": _wan(48, 3072, 14336, 24, 30),
    "HunyuanVideo": TrueNetwork(_hunyuan_video),
    "HunyuanVideo 1.5": TrueNetwork(_hunyuan_video_15),
    "CogVideoX 5B": TrueNetwork(
        lambda blocks=42: CogVideoXTransformer3DModel(
            num_attention_heads=48, num_layers=blocks, use_rotary_positional_embeddings=True, **META
        ),
        absent=("pos_embedding",),
    ),
    "LTXV 2B": _ltxv(64, 28),
    "LTXV 13B": _ltxv(128, 48),
    "Kandinsky 5 lite": _kandinsky(1792, 7168, 512, (16, 24, 24), 2, 32),
    "Kandinsky 5 pro": _kandinsky(4096, 16384, 1024, (32, 48, 48), 4, 60),
}


def model_of(name: str) -> Any:
    """Return the comfy.model_base.BaseModel of a network without weights, computed with in bfloat16."""
    return recognised(NETWORKS[name])


def recognised(network: TrueNetwork) -> Any:
    """Return what core makes of a network's checkpoint, as model_of does."""
    state = {
        key: value for key, value in network.build().state_dict().items() if not key.endswith(network.absent or " ")
    }
    config = comfy.model_detection.model_config_from_unet(state, "", metadata=network.metadata())
    config.set_inference_dtype(COMPUTED_WITH, None)
    return config.get_model(state, "", device="meta")


def parameters_of(model: Any) -> tuple[int, int]:
    """Return the numbers in all weights, and in the largest module of its own."""
    of_modules = [
        sum(p.numel() for p in module.parameters(recurse=False)) for module in model.diffusion_model.modules()
    ]
    return sum(of_modules), max(of_modules)
