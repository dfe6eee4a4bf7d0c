"""Shape world: one flat shape that moves on a plain background, 64 x 64 pixels, 16 frames per second.

Everything the demo model can show is made here: scenes, frames, prompts, and the attribute combinations that
training never sees. Movement is 2 pixels per frame, so one latent frame (4 pixel frames, 8 x 8 pixels a cell)
moves a shape by exactly one latent cell; start positions lie on that grid and no shape leaves the picture.
It knows nothing about networks.
"""

import math
import random
from dataclasses import dataclass, replace

import torch

SIZE_PIXELS = 64
FRAMES_PER_SECOND = 16
SPEED = 2.0  # pixels per frame
CELL = 8  # pixels per latent cell
CLIP_FRAMES = 21  # the longest clip in training: 6 latent frames
BOUNCE_PERIOD = 16  # frames
BOUNCE_HEIGHT = 16.0  # pixels

SHAPES = ("circle", "square", "triangle", "star")
COLORS = {
    "red": (0.90, 0.10, 0.10),
    "green": (0.10, 0.75, 0.20),
    "blue": (0.12, 0.25, 0.95),
    "yellow": (0.98, 0.90, 0.10),
    "purple": (0.60, 0.12, 0.80),
    "orange": (1.00, 0.52, 0.05),
}
BACKGROUNDS = {
    "black": (0.04, 0.04, 0.04),
    "white": (0.95, 0.95, 0.95),
    "gray": (0.50, 0.50, 0.50),
    "pink": (1.00, 0.76, 0.82),
    "teal": (0.05, 0.45, 0.45),
}
SIZES = {"small": 10.5, "big": 14.0}  # radius in pixels
MOTIONS = ("moves left", "moves right", "moves up", "moves down", "bounces", "stays still")

NEAR, FAR = 8, 56  # centres stay within these pixels along the movement
_DIRECTION = {"moves left": (-1, 0), "moves right": (1, 0), "moves up": (0, -1), "moves down": (0, 1)}


@dataclass(frozen=True)
class Scene:
    """One clip: words for the attributes, pixels for the start of the centre, `phase` in 0..1 for bounces."""

    shape: str
    color: str
    background: str
    motion: str
    size: str = "big"
    x: float = 32.0
    y: float = 32.0
    phase: float = 0.0

    @property
    def combination(self) -> tuple[str, str, str, str]:
        return (self.shape, self.color, self.background, self.motion)


def all_combinations() -> list[tuple[str, str, str, str]]:
    """Every (shape, colour, background, motion)."""
    return [(s, c, b, m) for s in SHAPES for c in COLORS for b in BACKGROUNDS for m in MOTIONS]


def held_out_combinations() -> list[tuple[str, str, str, str]]:
    """108 of the 720 combinations, never trained; fixed by their own seed."""
    return random.Random(20261120).sample(all_combinations(), 108)


_HELD_OUT = frozenset(held_out_combinations())


def start_positions(motion: str, frames: int) -> list[tuple[int, int]]:
    """Grid starts (x, y) in pixels for which the centre stays within NEAR..FAR during `frames` pixel frames."""
    grid = range(NEAR, FAR + 1, CELL)
    across = range(NEAR + CELL, FAR - CELL + 1, CELL)
    travel = SPEED * (frames - 1)
    if motion in _DIRECTION:
        dx, dy = _DIRECTION[motion]
        along = [p for p in grid if NEAR <= p + (dx + dy) * travel <= FAR]
        return [(p, q) for p in along for q in across] if dx else [(q, p) for p in along for q in across]
    if motion == "bounces":
        return [(x, y) for x in across for y in (32, 40, 48)]
    return [(x, y) for x in across for y in across]


def random_scene(rng: random.Random, frames: int = CLIP_FRAMES, held_out: bool = False) -> Scene:
    """A scene whose combination is (or is not) held out and whose shape stays inside for `frames`."""
    while True:
        words = (rng.choice(SHAPES), rng.choice(list(COLORS)), rng.choice(list(BACKGROUNDS)), rng.choice(MOTIONS))
        if (words in _HELD_OUT) == held_out:
            break
    return place(Scene(*words), rng, frames)


def place(scene: Scene, rng: random.Random, frames: int = CLIP_FRAMES) -> Scene:
    """The same words with a random size, start and phase."""
    x, y = rng.choice(start_positions(scene.motion, frames))
    return replace(scene, size=rng.choice(list(SIZES)), x=x, y=y, phase=rng.randrange(8) / 8)


def track(motion: str, x: float, y: float, phase: float, frames: int) -> torch.Tensor:
    """Centre of the shape per pixel frame -> [frames, 2], pixels."""
    t = torch.arange(frames, dtype=torch.float32)
    dx, dy = _DIRECTION.get(motion, (0, 0))
    xs, ys = x + dx * SPEED * t, y + dy * SPEED * t
    if motion == "bounces":
        ys = ys - BOUNCE_HEIGHT * torch.sin(math.pi * (t / BOUNCE_PERIOD + phase)).abs()
    return torch.stack([xs, ys], -1)


def signed_distance(shape: str, dx: torch.Tensor, dy: torch.Tensor, radius: float) -> torch.Tensor:
    """Pixels from the outline, negative inside; the four shapes have about equal areas."""
    if shape == "circle":
        return (dx * dx + dy * dy).sqrt() - radius
    if shape == "square":
        return torch.maximum(dx.abs(), dy.abs()) - 0.88 * radius
    if shape == "triangle":
        return torch.maximum(dy, dx.abs() * 0.866 - dy * 0.5) - 0.62 * radius
    if shape == "star":
        fifth = 2 * math.pi / 5
        angle = torch.remainder(torch.atan2(dx, -dy), fifth)
        to_valley = torch.minimum(angle, fifth - angle) / (fifth / 2)  # 0 at a tip, 1 in a valley
        return ((dx * dx + dy * dy).sqrt() - radius * (1.35 - 0.80 * to_valley)) * 0.7
    raise ValueError(f"unknown shape {shape!r}; known: {', '.join(SHAPES)}")


_PIXELS = torch.arange(SIZE_PIXELS, dtype=torch.float32) + 0.5


def coverage(shape: str, centres: torch.Tensor, radius: float) -> torch.Tensor:
    """How much of each pixel the shape covers: centres [F, 2] -> [F, H, W] in 0..1."""
    dx = (_PIXELS[None, :] - centres[:, :1])[:, None, :].expand(-1, SIZE_PIXELS, -1)
    dy = (_PIXELS[None, :] - centres[:, 1:])[:, :, None].expand(-1, -1, SIZE_PIXELS)
    return (0.5 - signed_distance(shape, dx, dy, radius)).clamp(0, 1)


def paint(background: str, objects: list[tuple[str, str, float, torch.Tensor]]) -> torch.Tensor:
    """Frames of (shape, color, radius, centres [F, 2]) on a plain background -> [F, 3, H, W] in 0..1."""
    frames = objects[0][3].shape[0]
    image = torch.tensor(BACKGROUNDS[background]).view(1, 3, 1, 1).expand(frames, 3, SIZE_PIXELS, SIZE_PIXELS)
    for shape, color, radius, centres in objects:
        alpha = coverage(shape, centres, radius)[:, None]  # [F, 1, H, W]
        image = image + alpha * (torch.tensor(COLORS[color]).view(1, 3, 1, 1) - image)
    return image


def render(scene: Scene, frames: int = CLIP_FRAMES) -> torch.Tensor:
    """A scene as video -> [F, 3, H, W] in 0..1."""
    centres = track(scene.motion, scene.x, scene.y, scene.phase, frames)
    return paint(scene.background, [(scene.shape, scene.color, SIZES[scene.size], centres)])


def prompt(scene: Scene, naming: tuple[str, ...] = ("color", "shape", "motion", "background")) -> str:
    """The sentence for a scene. `naming` lists the attributes that are said ("size" too); without "shape" it is
    "a shape"."""
    noun = scene.shape if "shape" in naming else "shape"
    words = [getattr(scene, a) for a in ("size", "color") if a in naming] + [noun]
    sentence = ("an " if words[0][0] in "aeiou" else "a ") + " ".join(words)
    if "motion" in naming:
        sentence += f" {scene.motion}"
    if "background" in naming:
        sentence += f" on a {scene.background} background"
    return sentence
