"""The plot has a strip for each measure that is there, and shows one broken frame of an hour."""

import numpy as np
import torch

from longreel.engine.measure.figures import JointSpan, ShotSpan
from longreel.engine.measure.plot import BROKEN, CUT, FROZEN, GAP, JOINT, STRIP, WIDTH, plot

FRAMES = 57_600  # an hour of 16 a second


def columns(frames: int) -> dict[str, torch.Tensor]:
    pairs = torch.full((frames - 1,), 0.01)
    flags = torch.zeros(frames, dtype=torch.bool)
    found = {"near": pairs, "far": pairs[3:], "change": pairs, "statistics": torch.full((frames, 7), 0.5)}
    return found | {"broken": flags, "frozen": flags.clone()}


def pixels(picture, colour: str) -> np.ndarray:
    """Columns of the picture that have this colour, right of the legend."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return np.unique(np.nonzero((np.array(picture)[30:] == wanted).all(-1))[1])


def test_one_broken_frame_of_an_hour_is_seen_where_it_is():
    values = columns(FRAMES)
    clean = plot(values, 16.0, [], [])
    values["broken"][FRAMES // 2] = True
    values["frozen"][-1] = True
    picture = plot(values, 16.0, [], [])
    assert len(pixels(clean, BROKEN)) == len(pixels(clean, FROZEN)) == 0 and picture.width == WIDTH
    (broken,), (frozen,) = pixels(picture, BROKEN), pixels(picture, FROZEN)
    assert 590 < broken < 610 and frozen > 1040


def test_a_measure_more_is_a_strip_more():
    values = columns(40)
    few = plot(values, 16.0, [], [])
    many = plot({**values, "flow": values["near"], "likeness": 1 - values["near"]}, 16.0, [], [])
    assert many.height - few.height == 2 * (STRIP + GAP)


def test_joints_and_cuts_are_drawn():
    shots = [ShotSpan(0, 20, "a"), ShotSpan(20, 30, "b"), ShotSpan(30, 40, "c")]
    joints = [JointSpan(20, 18, 23, "blend"), JointSpan(30, 30, 30, "cut")]
    picture, bare = plot(columns(40), 16.0, shots, joints), plot(columns(40), 16.0, shots, [])
    assert len(pixels(picture, JOINT)) > 50 and 2 <= len(pixels(picture, CUT)) <= 4
    assert not len(pixels(bare, JOINT)) and not len(pixels(bare, CUT))
