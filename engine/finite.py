"""Find numbers that are none in what files hold: weights, latents, texts. What follows from them is a black video, so
they are named where they are loaded.

Which file it is, and how large a number may be in it, is not known here.
"""

from collections.abc import Mapping

import torch


def not_finite(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """Return what is wrong with the first tensor that holds NaN or infinity, or None where all are finite."""
    for name, tensor in tensors.items():
        if not (tensor.is_floating_point() or tensor.is_complex()):
            continue
        numbers = tensor.float() if tensor.element_size() == 1 else tensor  # 8 bits know no isfinite
        if not numbers.isfinite().all():
            wrong = int((~numbers.isfinite()).sum())
            return f"{name} has {wrong:,} of {tensor.numel():,} numbers NaN or infinite"
    return None


def too_large(tensors: Mapping[str, torch.Tensor], most: float) -> str | None:
    """Return what is wrong with the first tensor with a number beyond -most..most, or None where there is none."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel() and (largest := float(tensor.abs().max())) > most:
            return f"{name} has a number of size {largest:.3g}, and {most:,.0f} is the largest"
    return None
