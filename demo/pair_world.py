"""Shape world with two objects: one on the left, one on the right, each with its own colour, shape and movement.

The demo model was trained on one object, so a prompt with two is one that it often gets wrong; its anchor LoRA learns
to go on from a picture that shows both. Scenes, frames and prompts of demo/world.py, doubled; movements are vertical,
so that each object keeps its side. Scenes with an object whose combination is held out there are held out here too.
"""

import random
from dataclasses import dataclass

import torch

from . import world
from .detector import Reading, read_background, read_clip

SIDES = {"left": 16.0, "right": 48.0}  # centres, in pixels
MOTIONS = ("moves up", "moves down", "bounces", "stays still")
SIZE = "small"  # two big ones would touch
_MIDDLE = world.SIZE_PIXELS // 2


@dataclass(frozen=True)
class PairScene:
    """Two scenes on one background, with their centres at SIDES."""

    left: world.Scene
    right: world.Scene

    @property
    def both(self) -> tuple[world.Scene, world.Scene]:
        return self.left, self.right


def random_pair(rng: random.Random, frames: int = world.CLIP_FRAMES, held_out: bool = False) -> PairScene:
    """Two objects that differ in colour or shape and stay inside for `frames` pixel frames. held_out: whether at least
    one of them is a combination of shape, colour, background and movement that training never sees, or none is."""
    kept_out = frozenset(world.held_out_combinations())
    while True:
        background = rng.choice(list(world.BACKGROUNDS))
        left, right = (
            (rng.choice(world.SHAPES), rng.choice(list(world.COLORS)), background, rng.choice(MOTIONS)) for _ in SIDES
        )
        if left[:2] != right[:2] and (left in kept_out or right in kept_out) == held_out:
            break
    scenes = []
    for words, x in zip((left, right), SIDES.values(), strict=False):
        y = rng.choice(sorted({y for _, y in world.start_positions(words[3], frames)}))
        scenes.append(world.Scene(*words, SIZE, x, float(y), rng.randrange(8) / 8))
    return PairScene(*scenes)


def render(pair: PairScene, frames: int = world.CLIP_FRAMES) -> torch.Tensor:
    """-> [F, 3, H, W] in 0..1."""
    objects = [
        (s.shape, s.color, world.SIZES[s.size], world.track(s.motion, s.x, s.y, s.phase, frames)) for s in pair.both
    ]
    return world.paint(pair.left.background, objects)


def prompt(pair: PairScene, naming: tuple[str, ...] = ("color", "shape", "motion", "background")) -> str:
    """At most 19 words, of the 20 that the demo model reads."""
    parts = []
    for side, scene in zip(SIDES, pair.both, strict=False):
        words = world.prompt(scene, tuple(n for n in naming if n in ("color", "shape")))
        parts.append(f"{words} on the {side}" + (f" {scene.motion}" if "motion" in naming else ""))
    return " and ".join(parts) + (f", {pair.left.background} background" if "background" in naming else "")


@dataclass(frozen=True)
class PairReading:
    """What demo/detector.py reads of each half of a clip."""

    left: Reading
    right: Reading

    def agrees(self, pair: PairScene) -> dict[str, bool]:
        """objects, colours: both are there in every frame, on whatever side. places: each object, by colour and shape
        together, stands on the side that the prompt says. motion is left out for a single frame; all is the sum."""
        readings, scenes = (self.left, self.right), pair.both
        there = all(r.object_present for r in readings)
        right = {
            "background": all(r.background == s.background for r, s in zip(readings, scenes, strict=False)),
            "objects": there and sorted(str(r.shape) for r in readings) == sorted(s.shape for s in scenes),
            "colours": there and sorted(str(r.color) for r in readings) == sorted(s.color for s in scenes),
            "places": there
            and all((r.color, r.shape) == (s.color, s.shape) for r, s in zip(readings, scenes, strict=False)),
        }
        if len(self.left.present) > 1:
            right["motion"] = there and all(r.motion == s.motion for r, s in zip(readings, scenes, strict=False))
        return {**right, "all": all(right.values())}


def read_pair(video: torch.Tensor) -> PairReading:
    """Video [F, 64, 64, 3], 0..1 -> what each half shows, the other half painted over with the background."""
    background, _ = read_background(video)
    paper = torch.tensor(world.BACKGROUNDS[background]) if background else torch.zeros(3)
    left, right = video.float().clone(), video.float().clone()
    left[:, :, _MIDDLE:], right[:, :, :_MIDDLE] = paper, paper
    return PairReading(read_clip(left), read_clip(right))
