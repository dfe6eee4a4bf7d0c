"""Networks of families and variants at the true width, with random weights and few blocks: what depends on width breaks
here.

Width, heads, feed-forward and text are those of the published files, depth is not: every block is like the others, and
two or five of them show the same. Each family's plain network comes from tests/bench/_true_networks.py. Used by
`python -m tests.variants --true-width NAME`; a file of gigabytes is written to a temporary folder and removed once it
is loaded.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from tests import tiny_models, tiny_variants
from tests.comfy_inprocess import import_comfyui
from tests.tiny_models import Checkpoint, LoadedTiny, draw_weights, make_tiny_models, register_with_comfyui
from tests.tiny_variants import VARIANTS

SMALL = {"dim": 1536, "ffn_dim": 8960, "num_heads": 12, "text_dim": 4096}  # Wan 1.3B
LARGE = {"dim": 5120, "ffn_dim": 13824, "num_heads": 40, "text_dim": 4096}  # Wan 14B
TRUE_WIDTHS = {
    "vace": SMALL,
    "fun_control": SMALL,
    "camera": SMALL,
    "humo_17": SMALL,
    "scail": LARGE,
    "s2v": LARGE,
    "animate": LARGE,
    "phantom": SMALL,
}
FAMILIES = {  # a tiny model: the network of true width of its structure, and the width of its text
    "wan21": ("Wan 1.3B", 4096),
    "wan22_5b": ("Wan 2.2 5B", 4096),
    "cogvideox10": ("CogVideoX 5B", 4096),
    "hunyuan_video": ("HunyuanVideo", 4096),
    "hunyuan_video15": ("HunyuanVideo 1.5", 3584),
    "ltxv": ("LTXV 2B", 4096),
    "kandinsky5": ("Kandinsky 5 lite", 3584),
}


def load(name: str, blocks: int) -> LoadedTiny:
    """Return a variant at its true width with so many blocks, loaded by core's UNETLoader."""
    import_comfyui()
    with mock.patch.dict(tiny_variants.SIZES, {**TRUE_WIDTHS[name], "num_layers": blocks}):
        checkpoint = VARIANTS[name].unet()
    weights, metadata = draw_weights(checkpoint), {"config": json.dumps(checkpoint.config)}
    return _loaded(weights, metadata, "wan21", TRUE_WIDTHS[name]["text_dim"])


def load_family(name: str, blocks: int) -> LoadedTiny:
    """Return a family's plain network at its true width with so many blocks (HunyuanVideo: of both kinds), loaded by
    core's UNETLoader. name: of the tiny model of its structure.
    """
    import_comfyui()
    from tests.bench._true_networks import NETWORKS

    title, text_dim = FAMILIES[name]
    network = NETWORKS[title]
    absent = network.absent or (" ",)
    weights = draw_weights(Checkpoint(network.build(blocks), seed=1, absent=absent))
    return _loaded(weights, network.metadata(), name, text_dim)


def _loaded(weights: Mapping[str, Any], metadata: dict[str, str] | None, tiny: str, text_dim: int) -> LoadedTiny:
    """Return a network with the VAE of the tiny model `tiny`, and its text encoder at the width text_dim."""
    nodes = import_comfyui()
    from safetensors.torch import save_file

    from tests.tiny_nodes import tiny_clip

    family = tiny_models.MODELS[tiny].family
    true_text = f"{family} at the true width"
    tiny_clip.FAMILIES[true_text] = replace(tiny_clip.FAMILIES[family], own_dim=text_dim)
    small = make_tiny_models()[tiny]
    register_with_comfyui(small.folder)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "diffusion_models" / f"true_{tiny}.safetensors"
        path.parent.mkdir()
        save_file(dict(weights), path, metadata=metadata)
        register_with_comfyui(Path(folder))
        model = nodes.UNETLoader().load_unet(path.name, "default")[0]
    vae = nodes.VAELoader().load_vae(small.vae_file)[0]
    return LoadedTiny(model, tiny_clip.make_tiny_clip(true_text), vae)
