"""Stories of shape world: one object over many segments, and prompts that leave out what only a memory can know.

Three kinds. COLOR and SHAPE: one object whose movement changes with every segment; its colour, or its shape, is named
in the first prompt alone. RETURNS: like COLOR, but the object leaves: for some segments another one, of another shape
and colour, stands in its place and is named in full, and then the first one is back, without its colour. So the colour
that was last seen or last named is the wrong one.

A segment is SEGMENT_FRAMES pixel frames and shares its last one with the next, as in One-Minute Video Generation with
Test-Time Training (arXiv 2504.05298, section 3). Combinations that the demo model never saw (demo/world.py) are in no
story. What a model makes of a story is not known here.
"""

import random
from dataclasses import dataclass, replace

import torch

from ..engine.storyboard.board import Shot, Storyboard
from . import world

SEGMENT_FRAMES = 17  # pixel frames, 5 latent ones
STEP_FRAMES = SEGMENT_FRAMES - 1
COLOR, SHAPE, RETURNS = "color", "shape", "returns"
KINDS = (COLOR, SHAPE, RETURNS)
EVERYTHING = ("size", "color", "shape", "motion", "background")
PRESENT, ABSENT = (1, 2), (1, 3)  # segments that an object of RETURNS is seen, and not seen, at a time

TRAINING_KINDS = {COLOR: 0.35, SHAPE: 0.35, RETURNS: 0.3}  # share of the training stories
SAID_AGAIN = 0.1  # share of the later prompts in training that do name what the kind leaves out
LEFT_OUT_TOO = {"size": 0.7, "shape": 0.1, "background": 0.15}  # share of the later prompts that leave it out as well

_HELD_OUT = frozenset(world.held_out_combinations())


@dataclass(frozen=True)
class Story:
    """scenes: what each segment shows. said: which attributes its prompt names."""

    kind: str
    scenes: tuple[world.Scene, ...]
    said: tuple[tuple[str, ...], ...]

    @property
    def unsaid(self) -> str:
        """The attribute that only the first prompt names."""
        return SHAPE if self.kind == SHAPE else COLOR

    @property
    def asked(self) -> tuple[int, ...]:
        """Segments, counted from 0, that show the first object and do not name the unsaid attribute; of RETURNS only
        those after another object was seen."""
        first, look = 1, _look(self.scenes[0])
        if self.kind == RETURNS:
            first = next((i for i, scene in enumerate(self.scenes) if _look(scene) != look), len(self.scenes))
        return tuple(
            i
            for i in range(first, len(self.scenes))
            if _look(self.scenes[i]) == look and self.unsaid not in self.said[i]
        )

    @property
    def prompts(self) -> tuple[str, ...]:
        return tuple(world.prompt(scene, said) for scene, said in zip(self.scenes, self.said, strict=False))

    def storyboard(self) -> Storyboard:
        """Shots of one second, one take."""
        shots = tuple(Shot(prompt, STEP_FRAMES / world.FRAMES_PER_SECOND) for prompt in self.prompts)
        return Storyboard(
            shots=shots, width=world.SIZE_PIXELS, height=world.SIZE_PIXELS, fps=float(world.FRAMES_PER_SECOND)
        )

    def render(self) -> torch.Tensor:
        """[16 n + 1, 3, H, W] in 0..1; the frame that two segments share is the earlier one's."""
        parts = [world.render(scene, SEGMENT_FRAMES) for scene in self.scenes]
        return torch.cat([parts[0]] + [part[1:] for part in parts[1:]])


def random_story(kind: str, segments: int, rng: random.Random) -> Story:
    """The first prompt says everything, the later ones all but the size and what the kind leaves out.

    Raises ValueError for an unknown kind and fewer than one segment.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of story {kind!r}; use {', '.join(KINDS)}")
    if segments < 1:
        raise ValueError(f"a story has {segments} segments; use 1 or more")
    scenes = _scenes(kind, segments, rng)
    unsaid = SHAPE if kind == SHAPE else COLOR
    later = tuple(name for name in EVERYTHING if name not in ("size", unsaid))
    said = [
        EVERYTHING if number == 0 or _look(scene) != _look(scenes[0]) else later for number, scene in enumerate(scenes)
    ]
    return Story(kind, scenes, tuple(said))


def training_story(segments: int, rng: random.Random) -> Story:
    """A kind drawn by TRAINING_KINDS, with later prompts that say now more, now less."""
    kind = rng.choices(list(TRAINING_KINDS), list(TRAINING_KINDS.values()))[0]
    story = random_story(kind, segments, rng)

    def loosened(number: int, said: tuple[str, ...]) -> tuple[str, ...]:
        if number == 0:
            return said
        wanted = set(said) | {"size"}
        if rng.random() < SAID_AGAIN:
            wanted.add(story.unsaid)
        other = _look(story.scenes[number]) != _look(story.scenes[0])
        # Of an object that is seen for the first time, or comes back, the shape is what it is known by.
        kept = ("shape",) if kind == RETURNS or other else ()
        return tuple(
            name
            for name in EVERYTHING
            if name in wanted and (name in kept or rng.random() >= LEFT_OUT_TOO.get(name, 0.0))
        )

    return replace(story, said=tuple(loosened(number, said) for number, said in enumerate(story.said)))


def _look(scene: world.Scene) -> tuple[str, str]:
    return scene.shape, scene.color


def _scenes(kind: str, segments: int, rng: random.Random) -> tuple[world.Scene, ...]:
    while True:
        first = world.random_scene(rng, SEGMENT_FRAMES)
        scenes = [first]
        for number, there in enumerate(seen(segments, rng) if kind == RETURNS else [True] * segments):
            if number == 0:
                continue
            look = first if there else scenes[-1] if _look(scenes[-1]) != _look(first) else _other(first, rng)
            following = _next(scenes[-1], look, rng)
            if following is None:
                break
            scenes.append(following)
        if len(scenes) == segments:
            return tuple(scenes)


def seen(segments: int, rng: random.Random) -> list[bool]:
    """Whether the first object of a story in which it RETURNS is seen, segment by segment."""
    found: list[bool] = []
    while len(found) < segments:
        found += [True] * rng.randint(*PRESENT) + [False] * rng.randint(*ABSENT)
    return found[:segments]


def _other(first: world.Scene, rng: random.Random) -> world.Scene:
    """An object of another shape, colour and size's draw, on the same background."""
    shape = rng.choice([shape for shape in world.SHAPES if shape != first.shape])
    color = rng.choice([color for color in world.COLORS if color != first.color])
    return replace(first, shape=shape, color=color, size=rng.choice(list(world.SIZES)))


def _next(last: world.Scene, look: world.Scene, rng: random.Random) -> world.Scene | None:
    """`look` in another movement than `last`'s, from within a cell of where that ended; None where there is none."""
    x, y = world.track(last.motion, last.x, last.y, last.phase, SEGMENT_FRAMES)[-1].tolist()
    open_to = [
        (motion, at)
        for motion in world.MOTIONS
        if motion != last.motion
        for at in world.start_positions(motion, SEGMENT_FRAMES)
        if max(abs(at[0] - x), abs(at[1] - y)) <= world.CELL
        and (look.shape, look.color, look.background, motion) not in _HELD_OUT
    ]
    if not open_to:
        return None
    near = [one for one in open_to if abs(one[1][0] - x) + abs(one[1][1] - y) <= 1] or open_to
    motion, (x, y) = rng.choice(near)
    return replace(look, motion=motion, x=float(x), y=float(y), phase=0.0)
