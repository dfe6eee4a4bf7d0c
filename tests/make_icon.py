"""Draws the pack's icon and banner for the registry: a reel whose film runs on, each shot in colours of its own.

    python -m tests.make_icon     writes docs/pictures/icon.png and docs/pictures/banner.png

Drawn four times as large and made small again, so that edges are smooth. No picture of a model's.
"""

from __future__ import annotations

import math

from PIL import Image, ImageDraw, ImageFont

from longreel import dev

FOLDER = dev.ROOT / "docs" / "pictures"
ICON, BANNER = (400, 400), (1260, 540)  # pixels; the registry takes at most 400 x 400, and 21:9
SHARP = 4
NIGHT, FILM, HUB, BRIGHT, DIM = (24, 26, 30), (58, 62, 70), (92, 98, 108), (240, 240, 240), (165, 170, 178)
SHOTS = (  # background, shape and its colour, where it is in the frame (0..1)
    ((16, 116, 116), "circle", (226, 54, 54), (0.28, 0.60)),
    ((16, 116, 116), "circle", (226, 54, 54), (0.62, 0.42)),
    ((12, 12, 14), "star", (250, 214, 36), (0.40, 0.55)),
    ((236, 236, 236), "square", (46, 84, 232), (0.55, 0.50)),
    ((112, 60, 140), "circle", (250, 214, 36), (0.45, 0.45)),
)


def reel(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float) -> None:
    """Draw a reel around (x, y): a disc, five openings, the hub."""
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=HUB)
    for number in range(5):
        angle = math.tau * number / 5 - math.pi / 2
        at, hole = 0.58 * radius, 0.235 * radius
        left, top = x + at * math.cos(angle) - hole, y + at * math.sin(angle) - hole
        draw.ellipse((left, top, left + 2 * hole, top + 2 * hole), fill=NIGHT)
    for part, fill in ((0.17, NIGHT), (0.09, BRIGHT)):
        draw.ellipse((x - part * radius, y - part * radius, x + part * radius, y + part * radius), fill=fill)


def star(x: float, y: float, radius: float) -> list[tuple[float, float]]:
    """Return the corners of a five-pointed star."""
    corners = []
    for number in range(10):
        away, angle = radius * (1 if number % 2 == 0 else 0.45), math.pi * number / 5 - math.pi / 2
        corners.append((x + away * math.cos(angle), y + away * math.sin(angle)))
    return corners


def film(draw: ImageDraw.ImageDraw, left: float, top: float, right: float, side: float) -> None:
    """Draw a strip with perforation from left to right, its frames `side` high, one shot after the other."""
    edge, gap = 0.24 * side, 0.10 * side
    draw.rectangle((left, top, right, top + side + 2 * edge), fill=FILM)
    hole, x = 0.10 * side, left + gap
    while x < right:
        for y in (top + (edge - hole) / 2, top + side + edge + (edge - hole) / 2):
            draw.rounded_rectangle((x, y, x + 1.4 * hole, y + hole), hole / 3, fill=NIGHT)
        x += 3 * hole
    x, number = left + gap, 0
    while x < right:
        background, shape, colour, (across, down) = SHOTS[number % len(SHOTS)]
        draw.rectangle((x, top + edge, x + side, top + edge + side), fill=background)
        cx, cy, radius = x + across * side, top + edge + down * side, 0.22 * side
        if shape == "star":
            draw.polygon(star(cx, cy, 1.25 * radius), fill=colour)
        else:
            kind = draw.ellipse if shape == "circle" else draw.rectangle
            kind((cx - radius, cy - radius, cx + radius, cy + radius), fill=colour)
        x, number = x + side + gap, number + 1


def canvas(size: tuple[int, int]) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """Return an empty picture, large, and what draws on it."""
    image = Image.new("RGB", (size[0] * SHARP, size[1] * SHARP), NIGHT)
    return image, ImageDraw.Draw(image)


def icon() -> Image.Image:
    """Return the icon: the reel, and the film that leaves it at the bottom."""
    image, draw = canvas(ICON)
    reel(draw, 168 * SHARP, 190 * SHARP, 144 * SHARP)
    film(draw, 168 * SHARP, 233 * SHARP, 400 * SHARP, 84 * SHARP)
    return image.resize(ICON, Image.LANCZOS)


def banner() -> Image.Image:
    """Return the banner: reel and film along the bottom, the name, and what it is for."""
    image, draw = canvas(BANNER)
    reel(draw, 190 * SHARP, 270 * SHARP, 170 * SHARP)
    film(draw, 190 * SHARP, 306 * SHARP, 1260 * SHARP, 112 * SHARP)
    draw.text((400 * SHARP, 82 * SHARP), "Longreel", font=ImageFont.load_default(104 * SHARP), fill=BRIGHT)
    line = "long, many-shot, consistent video in ComfyUI"
    draw.text((404 * SHARP, 214 * SHARP), line, font=ImageFont.load_default(36 * SHARP), fill=DIM)
    return image.resize(BANNER, Image.LANCZOS)


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    icon().save(FOLDER / "icon.png", optimize=True)
    banner().save(FOLDER / "banner.png", optimize=True)


if __name__ == "__main__":
    main()
