"""Pictures as ComfyUI's IMAGE."""

import numpy as np
import torch
from PIL import Image


def image_of(picture: Image.Image) -> torch.Tensor:
    """An RGB picture as [1, H, W, 3] in 0..1."""
    return torch.from_numpy(np.array(picture)).float()[None] / 255
