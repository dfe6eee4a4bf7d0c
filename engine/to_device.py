"""Send small tensors that the host has made to the device, without waiting for what the device is at.

A plain `tensor.to(x)` holds the host until the device has done everything that it was asked before. What is sent here
goes along with the work that follows. On the CPU nothing is copied that is there already. Other devices than these two
wait as before: torch's copies to some of them may read the host's memory after it was let go.
"""

import torch

DO_NOT_WAIT = ("cpu", "cuda")  # "cuda" is AMD's too


def sent(tensor: torch.Tensor, like: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Return `tensor` on the device of `like`, in its dtype or another; the same object where it is so already."""
    return tensor.to(like.device, dtype or like.dtype, non_blocking=like.device.type in DO_NOT_WAIT)
