"""Every kind of defect is caught, clean clips are not called broken, and faults name the frames they are in.

The whole table is `python dev.py bench yardsticks`; here one clip of each kind, of other seeds than the thresholds were
chosen on, and a bundled picture whose frames a person looked at.
"""

import random

import pytest
import torch

from longreel.demo import detector, world
from tests.bench import _look, pictures
from tests.bench._looked_at import PICTURES
from tests.bench.yardsticks import (
    KINDS,
    MOVING,
    Case,
    case,
    clean_clips,
    doubled,
    gone,
    mixed,
    noisy,
    shifted_half,
    teleported,
)

SEED = 31_000
READ = detector.read_clip


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def right(c: Case, video: torch.Tensor) -> bool:
    return READ(video.clamp(0, 1)).right_everywhere(c.scene)


@pytest.mark.parametrize("kind", [*KINDS, *MOVING])
def test_every_kind_of_defect_is_caught(kind):
    make, number = {**KINDS, **MOVING}[kind], 100 * [*KINDS, *MOVING].index(kind)
    c = case(SEED + number, kind in MOVING)
    assert not right(c, make(c))


def test_a_person_who_looked_at_the_bundled_picture_calls_the_same_frames_broken():
    """Real tears are softer than rendered ones; --names of `bench pictures` has the other pictures."""
    person, video = PICTURES["latent_blend"], pictures.read(pictures.DOCS / "latent_blend.webp")
    assert len(video) == person.frames, "the picture was made anew: look at it and write down what is broken"
    broken = torch.tensor(_look.broken_frames(video, pictures.stretches(len(video), person.cuts)))
    found = pictures.against(person, broken)
    assert found == {"hits": sorted(person.broken), "misses": [], "false alarms": []}


@pytest.mark.slow
def test_clean_clips_are_right_in_every_frame():
    for number in range(31_000, 31_004):
        assert right(case(number), case(number).paint()), case(number).scene


@pytest.mark.slow
def test_clips_that_went_through_the_demo_vae_are_right():
    """Decoded frames are blurred and their corners lumpy; these were stored as h264 besides."""
    clips = clean_clips(1, 0)["VAE, h264"]
    assert sum(not right(c, video) for c, video in clips) == 0


@pytest.mark.parametrize(
    ("start", "make", "fault"),
    [
        (1, doubled, "stray"),
        (8, doubled, "stray"),
        (14, doubled, "stray"),
        (8, noisy, "stray"),
        (14, lambda c: c.paint(background=c.another("background")), "stray"),
        (1, gone, "absent"),
        (14, lambda c: c.paint(color=c.another("color")), "holes"),
        (1, lambda c: shifted_half(c, 8), "stray"),
    ],
)
def test_a_defect_is_named_in_its_own_frames(start, make, fault):
    scene = world.Scene("square", "blue", "white", "moves down", "small", 18.0, 16.0)
    c = Case(scene, world.track(scene.motion, scene.x, scene.y, 0.0, 17), random.Random(3))
    reading = READ(mixed(c.paint(), make(c), slice(start, start + 2)))
    assert reading.broken.nonzero().flatten().tolist() == [start, start + 1]
    assert reading.faults[fault][start : start + 2].all()
    assert reading.agrees(scene)["shape"]


def test_objects_are_counted_frame_by_frame():
    scene = world.Scene("circle", "red", "white", "stays still", "small", 18.0, 30.0)
    c = Case(scene, world.track(scene.motion, scene.x, scene.y, 0.0, 17), random.Random(3))
    reading = READ(mixed(mixed(c.paint(), doubled(c), slice(4, 6)), gone(c), slice(9, 10)))
    assert reading.objects.tolist() == [1] * 4 + [2] * 2 + [1] * 3 + [0] + [1] * 7


def test_a_jump_is_a_fault_of_place_and_not_of_the_picture():
    c = case(31_004)
    reading = READ(teleported(c, 12.0))
    assert reading.broken.any()
    assert not reading.broken_picture.any()


@pytest.mark.parametrize("pace", [0.5, 1.0, 1.4])
def test_direction_and_pace_are_told_apart(pace):
    scene = world.Scene("circle", "red", "white", "moves left", "small", 48.0, 30.0)
    track = world.track("moves left", 48.0, 30.0, 0.0, 17)
    track[:, 0] = track[0, 0] + pace * (track[:, 0] - track[0, 0])
    reading = READ(Case(scene, track, random.Random(0)).paint())
    assert reading.direction == "moves left"
    assert reading.pace == pytest.approx(pace, abs=0.03)
    assert (reading.motion == "moves left") == (pace == 1.0)
    assert reading.right_everywhere(scene) == (pace == 1.0)


def test_the_other_size_is_wrong_only_where_the_size_was_said():
    scene = world.Scene("star", "green", "black", "stays still", "big", 32.0, 30.0)
    video = world.render(scene, 9).permute(0, 2, 3, 1)
    small = world.Scene("star", "green", "black", "stays still", "small", 32.0, 30.0)
    assert READ(video).right_everywhere(scene)
    assert not READ(video).right_everywhere(small)
    assert READ(video).right_everywhere(small, size_said=False)


def test_what_cannot_be_read_is_broken_in_every_frame():
    assert READ(torch.full((5, 64, 64, 3), 0.5)).broken.all()
    assert READ(torch.rand(5, 64, 64, 3, generator=torch.Generator().manual_seed(0))).broken.all()
