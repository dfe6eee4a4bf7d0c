"""Networks of true width and depth with random weights, as core's own loader takes them from a checkpoint.

The sizes are those of the published configurations of Wan 2.1. No file is written: the state dict is drawn, tensor by
tensor on the GPU, and handed over. Random weights cost the same time and memory as trained ones; what they show means
nothing.
"""

from typing import Any

import torch

from tests.bench.gpu.timing import device

TEXT_DIM, TEXT_TOKENS = 4096, 512  # of UMT5-XXL, which Wan pads to
LATENT_CHANNELS = 16
SIZES = {
    "Wan 1.3B": {"dim": 1536, "ffn_dim": 8960, "num_heads": 12, "num_layers": 30},
    "Wan 14B": {"dim": 5120, "ffn_dim": 13824, "num_heads": 40, "num_layers": 40},
}
TOY = {"dim": 256, "ffn_dim": 512, "num_heads": 2, "num_layers": 4}  # heads of 128 channels, as the real ones


def load(name: str, dtype: str, rehearse: bool) -> Any:
    """Return the ModelPatcher of a network whose matrices are kept in `dtype`. ComfyUI has been started."""
    import comfy.sd

    kept = getattr(torch, dtype)
    eight_bit = {"dtype": kept} if kept.itemsize == 1 else {}  # as core's loader node hands it on
    weights = drawn(TOY if rehearse else SIZES[name], kept)
    model = comfy.sd.load_diffusion_model_state_dict(weights, model_options=eight_bit)
    if model is None:
        raise RuntimeError(f"ComfyUI does not know the weights of {name}")
    return model


def drawn(sizes: dict[str, int], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Draw every weight of a text-to-video Wan: matrices keep the size of what goes through, norms stay near 1."""
    import comfy.ops
    from comfy.ldm.wan.model import WanModel

    module = WanModel(
        model_type="t2v",
        in_dim=LATENT_CHANNELS,
        out_dim=LATENT_CHANNELS,
        text_dim=TEXT_DIM,
        device="meta",
        dtype=torch.bfloat16,
        operations=comfy.ops.disable_weight_init,
        **sizes,
    )
    generator = torch.Generator(device()).manual_seed(1)
    found = {}
    for name, like in module.state_dict().items():
        x = torch.empty(like.shape, device=device(), dtype=torch.bfloat16)
        if name.endswith("modulation"):
            x.normal_(0, 0.1, generator=generator)
        elif x.ndim >= 2:
            x.normal_(0, x[0].numel() ** -0.5, generator=generator)
        else:
            x.normal_(0.0 if name.endswith("bias") else 1.0, 0.02, generator=generator)
        found[name] = x.to(dtype if x.ndim >= 2 else torch.bfloat16).cpu()
    return found


def text_encoder() -> Any:
    """Return a CLIP without weights whose embeddings have the true length and width."""
    from tests.tiny_nodes import tiny_clip

    tiny_clip.TEXT_DIM = TEXT_DIM  # in this process, which measures one row and ends
    tiny_clip.FAMILIES["wan"] = tiny_clip.TextFacts(tokens=TEXT_TOKENS)
    return tiny_clip.make_tiny_clip("wan")
