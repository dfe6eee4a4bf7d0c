"""Networks of variants at the true width, with random weights and few blocks: what depends on width breaks here.

Width, heads, feed-forward and text are those of the published files, depth is not: every block is like the others, and
two or five of them show the same. Used by `python -m tests.variants --true-width NAME`; a file of gigabytes is written
to a temporary folder and removed when it is loaded.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from unittest import mock

from tests import tiny_variants
from tests.comfy_inprocess import import_comfyui
from tests.tiny_models import LoadedTiny, draw_weights, make_tiny_models, register_with_comfyui
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
TRUE_TEXT = "wan at the true width"


def load(name: str, blocks: int) -> LoadedTiny:
    """Return a variant at its true width with so many blocks, loaded by core's UNETLoader."""
    nodes = import_comfyui()
    from safetensors.torch import save_file

    from tests.tiny_nodes import tiny_clip

    tiny_clip.FAMILIES[TRUE_TEXT] = tiny_clip.TextFacts(tokens=16, own_dim=TRUE_WIDTHS[name]["text_dim"])
    register_with_comfyui(make_tiny_models()["wan21"].folder)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "diffusion_models" / f"true_{name}.safetensors"
        path.parent.mkdir()
        with mock.patch.dict(tiny_variants.SIZES, {**TRUE_WIDTHS[name], "num_layers": blocks}):
            checkpoint = VARIANTS[name].unet()
        save_file(draw_weights(checkpoint), path, metadata={"config": json.dumps(checkpoint.config)})
        del checkpoint
        register_with_comfyui(Path(folder))
        model = nodes.UNETLoader().load_unet(path.name, "default")[0]
    vae = nodes.VAELoader().load_vae("tiny_wan21_vae.safetensors")[0]
    return LoadedTiny(model, tiny_clip.make_tiny_clip(TRUE_TEXT), vae)
