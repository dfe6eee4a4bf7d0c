"""The kinds of things that the picture book shows, in any coat: 24 drawings of two sizes that face left or right.

They come from Noto Color Emoji (make_sprites.py; pictures Apache-2.0, see README.md beside this file). sprites.png
holds for each pixel a base, a gain and an opacity, all times opacity: the drawing in a coat is base + gain * coat.
A thing with a front faces where it goes; the others look the same both ways.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .. import world

FILE = Path(__file__).parent / "sprites.png"
SIDES = {"small": 24, "big": 36}  # pixels
CHARACTERS = {
    "cat": "🐈",
    "mouse": "🐁",
    "dog": "🐕",
    "horse": "🐎",
    "elephant": "🐘",
    "rabbit": "🐇",
    "pig": "🐖",
    "duck": "🦆",
    "bird": "🐦",
    "fish": "🐟",
    "whale": "🐋",
    "turtle": "🐢",
    "butterfly": "🦋",
    "car": "🚗",
    "bicycle": "🚲",
    "boat": "⛵",
    "rocket": "🚀",
    "balloon": "🎈",
    "ball": "⚽",
    "cheese": "🧀",
    "apple": "🍎",
    "mushroom": "🍄",
    "tree": "🌳",
    "house": "🏠",
}
KINDS = tuple(CHARACTERS)
FRONTLESS = ("butterfly", "boat", "rocket", "balloon", "ball", "cheese", "apple", "mushroom", "tree", "house")
DRAWN_FACING_RIGHT = ("bicycle",)
COATS = {
    **world.COLORS,  # first: those of the flat shapes
    "gray": (0.72, 0.72, 0.76),
    "brown": (0.48, 0.27, 0.12),
}


def has_front(kind: str) -> bool:
    """Whether the two facings of a kind differ."""
    return kind not in FRONTLESS


@lru_cache(maxsize=1)
def _sheet() -> torch.Tensor:
    """[H, W, 4] in 0..1, as make_sprites.py laid it out."""
    return torch.from_numpy(np.asarray(Image.open(FILE).convert("RGBA")).copy()).float() / 255


@lru_cache(maxsize=4 * len(KINDS))
def parts(kind: str, size: str, faces_right: bool = False) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Base [3, S, S], gain [1, S, S] and opacity [1, S, S] of a kind, all times opacity, 0..1."""
    side, row = SIDES[size], 0
    for other, pixels in SIDES.items():
        if other == size:
            break
        row += 2 * pixels
    left = KINDS.index(kind) * max(SIDES.values())
    picture = _sheet()[row : row + side, left : left + side].permute(2, 0, 1)
    gain = _sheet()[row + side : row + 2 * side, left : left + side, :1].permute(2, 0, 1)
    if has_front(kind) and faces_right != (kind in DRAWN_FACING_RIGHT):
        picture, gain = picture.flip(-1), gain.flip(-1)
    return picture[:3].contiguous(), gain.contiguous(), picture[3:].contiguous()


def drawing(kind: str, coat: str, size: str, faces_right: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """The colours [3, S, S] of a kind in a coat, times opacity, and the opacity [1, S, S], 0..1."""
    base, gain, opacity = parts(kind, size, faces_right)
    return base + gain * torch.tensor(COATS[coat]).view(3, 1, 1), opacity
