"""Draws the sprites of the picture book from Noto Color Emoji, once, into sprites.png.

    python -m longreel.demo.picture_book.make_sprites NotoColorEmoji.ttf

The font (Debian: fonts-noto-color-emoji; font SIL OFL 1.1, pictures Apache-2.0) is needed here and nowhere else. A
coat's colour enters every pixel linearly: picture = base + gain * coat, where dark places (eyes, outlines) have little
of both and light ones are mixed with white. So base, gain and opacity can be made small first and coloured later
(sprites.py). What of an emoji is no coat, windows and leaves, is told by its hue below, chosen by eye.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from .sprites import CHARACTERS, FILE, SIDES

FONT_SIZE = 109  # of the font's only bitmaps
LIGHT = 1.1  # how fast places brighter than the coat's median turn to white
PINK, GREEN, WARM, FLAME = (300, 372), (65, 175), (8, 62), (24, 62)  # hues in degrees; beyond 360 goes on at 0

# kind -> hues that keep their colour, with the least saturation for it
KEPT: dict[str, tuple[tuple[tuple[int, int], float], ...]] = {
    "mouse": ((PINK, 0.12),),
    "rabbit": ((PINK, 0.12),),
    "rocket": ((FLAME, 0.45),),
    "duck": ((FLAME, 0.75),),
    "apple": ((GREEN, 0.3),),
    "house": ((GREEN, 0.3),),
    "tree": ((PINK, 0.12), (WARM, 0.12)),
    "bird": ((FLAME, 0.45),),
}
NEUTRAL_KEPT = {"car": 0.3, "boat": 0.3, "mushroom": 0.45, "balloon": 0.0}  # what is less saturated keeps its colour
MIDDLE = {"butterfly": 0.8, "turtle": 0.75}  # the brightness that shows the coat itself, as a quantile
THICKER = {"bicycle": 3}  # pixels; thin lines would be gone at 24 pixels


def emoji(font: ImageFont.FreeTypeFont, character: str, thicker: int) -> np.ndarray:
    """The character's picture in the middle of a square, [S, S, 4] in 0..1; a thicker one is of one colour."""
    canvas = Image.new("RGBA", (160, 160))
    ImageDraw.Draw(canvas).text((8, 8), character, font=font, embedded_color=True)
    if thicker:
        solid = Image.new(
            "RGBA", canvas.size, tuple(int(v) for v in np.asarray(canvas)[np.asarray(canvas)[..., 3] > 200].mean(0))
        )
        solid.putalpha(canvas.getchannel("A").filter(ImageFilter.MaxFilter(thicker)))
        canvas = solid
    picture = canvas.crop(canvas.getbbox())
    side = max(picture.size)
    square = Image.new("RGBA", (side, side))
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return np.asarray(square, dtype=np.float32) / 255


def parts(kind: str, picture: np.ndarray) -> np.ndarray:
    """[S, S, 4] -> base (3), opacity, gain, all times opacity: [S, S, 5]."""
    color, opacity = picture[..., :3], picture[..., 3:]
    hsv = np.asarray(Image.fromarray((color * 255).astype(np.uint8)).convert("HSV"), dtype=np.float32)
    hue, saturation = hsv[..., 0] * 360 / 255, hsv[..., 1] / 255
    kept = np.zeros(hue.shape, dtype=bool)
    for (first, last), least in KEPT.get(kind, ()):
        kept |= (saturation >= least) & (((hue - first) % 360) <= last - first)
    kept |= saturation < NEUTRAL_KEPT.get(kind, -1.0)
    coat = (~kept)[..., None]
    luminance = color @ np.array([[0.299], [0.587], [0.114]], dtype=np.float32)  # [S, S, 1]
    middle = np.quantile(luminance[coat[..., 0] & (picture[..., 3] > 0.5)], MIDDLE.get(kind, 0.55))
    ratio = luminance / middle
    dark, light = np.minimum(ratio, 1), np.clip((ratio - 1) * LIGHT, 0, 0.85)
    base, gain = np.where(coat, light, color), np.where(coat, dark - light, 0)
    return np.concatenate([base, np.ones_like(opacity), gain], -1) * opacity


def smaller(channels: np.ndarray, side: int) -> np.ndarray:
    """[S, S, 5] in 0..1 -> [side, side, 5] uint8, averaged."""
    layers = [Image.fromarray(channels[..., i]).resize((side, side), Image.Resampling.BOX) for i in range(5)]
    return np.stack([np.asarray(layer) for layer in layers], -1).clip(0, 1).__mul__(255).round().astype(np.uint8)


def main() -> None:
    """Write the sheet: a column for each kind, for each side a row of base and opacity and a row of gain."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("font", type=Path)
    font = ImageFont.truetype(str(parser.parse_args().font), FONT_SIZE)
    largest = max(SIDES.values())
    sheet = np.zeros((2 * sum(SIDES.values()), largest * len(CHARACTERS), 4), dtype=np.uint8)
    for column, (kind, character) in enumerate(CHARACTERS.items()):
        channels, row = parts(kind, emoji(font, character, THICKER.get(kind, 0))), 0
        for side in SIDES.values():
            small, left = smaller(channels, side), column * largest
            sheet[row : row + side, left : left + side] = small[..., :4]
            sheet[row + side : row + 2 * side, left : left + side] = small[..., 4:]
            row += 2 * side
    Image.fromarray(sheet, "RGBA").save(FILE, optimize=True)
    print(f"{FILE}: {FILE.stat().st_size} bytes, {len(CHARACTERS)} kinds")


if __name__ == "__main__":
    main()
