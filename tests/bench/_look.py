"""What a person sees in a bench's video: joints over their reach, the worst pair, broken frames, direction and pace.

Every video of shape world gets the same look, whichever bench made it. `broken` are frames in which the detector finds
the picture broken (demo/frame_check.py, each shot against itself; not the place, which a change of prompt moves);
`direction` and `pace` are told apart, of shots less EDGE_FRAMES at both ends. `cuts seen` is the share of videos in
which TransNet V2, which knows nothing of shape world, sees a cut that nobody planned within 2 frames ("-" where it is
not installed; tests/bench/_cuts.py).
"""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from longreel.demo import detector, world
from longreel.engine.measure.reach import pair_differences, reach_seams, worst_pair
from tests.bench._cuts import found_cuts
from tests.bench_support import frame_sheet, story_median, story_percent

EDGE_FRAMES = 2  # pixel frames at both ends of a shot in which the movement is not read
TITLES = ["reach seam", "above 3", "worst pair", "broken frames", "videos without"]
TITLES += ["movement", "direction", "pace", "cuts seen"]


@dataclass
class Look:
    """One video. `seams` of all joints; `broken` [F]; movement and direction right, of each shot; paces of those that
    move, 1 as in the world.
    """

    seams: list[float]
    worst: float
    worst_frame: int
    broken: list[bool]
    movement: list[bool] = field(default_factory=list)
    direction: list[bool] = field(default_factory=list)
    paces: list[float] = field(default_factory=list)
    unplanned_cuts: list[int] | None = None  # frames; None where nobody looked


def look(
    video: torch.Tensor,
    edges: Sequence[int],
    scenes: Sequence[world.Scene],
    reaches: Sequence[tuple[int, int]],
    cuts: Sequence[int] = (),
) -> Look:
    """Video [F, 64, 64, 3]; `edges` are the shots' first frames and F; one scene for each shot, or one for all."""
    differences = pair_differences(video)
    worst = worst_pair(differences, cuts)
    found = Look(
        [s.score for s in reach_seams(differences, reaches, cuts)],
        worst.difference,
        worst.frame,
        broken_frames(video, edges),
    )
    if (seen := found_cuts(video)) is not None:
        found.unplanned_cuts = [t for t in seen if all(abs(t - cut) > 2 for cut in cuts)]
    for (start, stop), scene in zip(itertools.pairwise(edges), scenes, strict=True):
        shot = detector.read_clip(video[start + EDGE_FRAMES : stop - EDGE_FRAMES])
        found.movement.append(shot.motion == scene.motion)
        found.direction.append(shot.direction == scene.motion)
        if scene.motion != "stays still" and shot.direction == scene.motion:
            found.paces.append(shot.pace)
    return found


def broken_frames(video: torch.Tensor, edges: Sequence[int]) -> list[bool]:
    """Frames whose picture is broken, each shot held against itself, [F]."""
    broken: list[bool] = []
    for start, stop in itertools.pairwise(edges):
        shot = detector.read_clip(video[start:stop])
        broken += shot.broken_picture.tolist()
    return broken


def columns(looks: Sequence[Look]) -> list[str]:
    """The cells of TITLES; `reach seam` is the worst joint of each video, intervals are over videos."""
    seams = [[max(x.seams)] for x in looks if x.seams]
    return [
        story_median(seams),
        f"{100 * statistics.mean(s[0] > 3 for s in seams):.0f} %" if seams else "-",
        story_median([[x.worst] for x in looks]),
        story_percent([x.broken for x in looks]),
        story_percent([[not any(x.broken)] for x in looks]),
        story_percent([x.movement for x in looks]),
        story_percent([x.direction for x in looks]),
        story_median([x.paces for x in looks]),
        story_percent([[bool(x.unplanned_cuts)] for x in looks if x.unplanned_cuts is not None]),
    ]


def rows(looks: Mapping[str, Sequence[Look]]) -> list[list[str]]:
    return [[name, *columns(some)] for name, some in looks.items()]


def around(reaches: Sequence[tuple[int, int]], frames: int, more: int = 3) -> list[int]:
    """The numbers of all frames in or near a joint's reach, in order."""
    near = {t for start, stop in reaches for t in range(max(0, start - more), min(frames, stop + more))}
    return sorted(near)


def sheets(shown: Mapping[str, Sequence[tuple]], folder: Path, name: str, most: int = 10) -> None:
    """Two sheets for each way of making videos: all frames, and those around joints, of at most `most` videos.

    shown: way -> of each video: its frames, caption, which are broken (framed red), and the reaches of its joints.
    """
    for way, some in shown.items():
        videos, captions, broken, reaches = zip(*some[:most], strict=True)
        stem = f"{name}_" + "".join(c if c.isalnum() else "_" for c in way)
        frame_sheet(videos, captions, folder / f"{stem}.png", broken)
        joints = [around(r, len(v)) for v, r in zip(videos, reaches, strict=True)]
        if any(joints):
            frame_sheet(videos, captions, folder / f"{stem}_joints.png", broken, joints)
