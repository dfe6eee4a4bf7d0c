"""Numbers that are none: a sampler stops at the first step whose prediction holds NaN or infinity.

Nothing that follows could mend it: every later step, and in a rollout every later chunk, is made from it.
"""

import torch

CAUSES = (
    "usual causes are an attention backend (SageAttention, xformers) or fp16 that this model does not stand, a broken "
    "LoRA or checkpoint, and a latent that was encoded so; start ComfyUI with --use-pytorch-cross-attention or "
    "--bf16-unet, or take the LoRA out"
)


def check_finite(latent: torch.Tensor, place: str) -> None:
    """Raise ValueError, naming the `place` ("step 3/20"), for a latent that holds a number that is none."""
    streams = latent.unbind() if latent.is_nested else [latent]
    if not all(torch.isfinite(stream).all() for stream in streams):
        wrong = sum(int((~torch.isfinite(stream)).sum()) for stream in streams)
        numbers = sum(stream.numel() for stream in streams)
        raise ValueError(
            f"{place} came out with {wrong:,} of {numbers:,} numbers NaN or infinite, and sampling stopped "
            f"there; {CAUSES}"
        )
