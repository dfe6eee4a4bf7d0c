"""Stories for the benchmarks: three shots of one object whose movement changes twice, so that one take could show
them."""

import random

from longreel.demo import world
from longreel.engine.storyboard.board import Shot, Storyboard

SHOTS = 3
EVERYTHING = ("size", "color", "shape", "motion", "background")


def continuous_motions(rng: random.Random) -> list[world.Scene]:
    """One object, another movement per shot, each starting within a cell of where the last one ended."""
    while True:
        scenes = [world.random_scene(rng, 17)]
        while len(scenes) < SHOTS:
            last = scenes[-1]
            x, y = world.track(last.motion, last.x, last.y, last.phase, 17)[-1].tolist()
            open_to = [
                (m, p)
                for m in world.MOTIONS
                if m != last.motion
                for p in world.start_positions(m, 17)
                if max(abs(p[0] - x), abs(p[1] - y)) <= world.CELL
            ]
            if not open_to:
                break
            motion, (x, y) = rng.choice(open_to)
            scenes.append(world.Scene(last.shape, last.color, last.background, motion, last.size, x, y))
        if len(scenes) == SHOTS:
            return scenes


def storyboard(scenes: list[world.Scene], transition: str, later: tuple[str, ...] = EVERYTHING) -> Storyboard:
    """Shots of about one second. The first prompt says everything, those after it the attributes `later`."""
    seconds = [17 / 16] + [1.0] * (SHOTS - 1)
    names = [EVERYTHING] + [later] * (SHOTS - 1)
    shots = tuple(
        Shot(world.prompt(s, n), t, transition=transition) for s, n, t in zip(scenes, names, seconds, strict=False)
    )
    return Storyboard(shots=shots, width=64, height=64, fps=16.0)
