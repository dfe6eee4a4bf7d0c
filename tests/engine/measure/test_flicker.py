"""Frames that come and go are found, wherever and however long, up to eight; what stays, moves or is cut is not."""

import pytest
import torch

from longreel.engine.measure.flicker import find_flicker
from tests.bench import pictures
from tests.bench._looked_at import PICTURES
from tests.engine.measure.clips import clip, draw, paper, walk

FRAMES = 22
TRACK = walk(FRAMES, (1.0, -0.3), (13.0, 46.0))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def defect(kind: str) -> torch.Tensor:
    """The whole clip with a defect in every frame."""
    video = clip(TRACK)
    if kind == "doubled":
        return draw(video, TRACK + torch.tensor([0.0, -26.0]))
    if kind == "flash":
        return 1 - video
    if kind == "gone":
        return paper().expand_as(video)
    if kind == "torn":
        return torch.cat([video[:, :42].roll(14, 2), video[:, 42:]], 1)
    noise = torch.rand(FRAMES, 16, 16, 3, generator=torch.Generator().manual_seed(2))
    video[:, 12:28, 40:56] = noise  # a patch
    return video


def broken(kind: str, start: int, frames: int) -> list[int]:
    video = clip(TRACK)
    video[start : start + frames] = defect(kind)[start : start + frames]
    return find_flicker(video).broken.nonzero().flatten().tolist()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "start", "frames"),
    [("doubled", 9, 1), ("doubled", 4, 5), ("doubled", 7, 8), ("flash", 15, 1), ("gone", 11, 3), ("torn", 8, 1),
     ("noise", 5, 3)],
)  # fmt: skip
def test_a_defect_is_found_in_its_frames(kind, start, frames):
    assert broken(kind, start, frames) == list(range(start, start + frames))


@pytest.mark.slow
def test_what_stays_or_moves_does_not_flicker():
    assert not find_flicker(clip(TRACK)).broken.any()
    twelve = broken("doubled", 5, 12)  # longer than 8 frames: another state of things
    assert len(twelve) <= 8
    cut = torch.cat([clip(TRACK)[:11], clip(TRACK, (0.9, 0.8, 0.1), seed=3)[11:]])
    assert not find_flicker(cut).broken.any()


@pytest.mark.slow
def test_what_falls_apart_and_stands_elsewhere_afterwards_is_broken_in_between():
    track = TRACK.clone()
    track[11:, 1] -= 24.0
    video = clip(track)
    video[10] = defect("noise")[10]
    assert find_flicker(video).broken.nonzero().flatten().tolist() == [10]


@pytest.mark.slow
def test_a_blot_is_first_seen_at_two_pixels_radius():
    """Of 64, black on pale, for one frame."""
    scores = {}
    for radius in (1.5, 2.0):
        video = clip(TRACK)
        video[9] = draw(video[9:10], torch.tensor([[46.0, 20.0]]), (0.0, 0.0, 0.0), radius)[0]
        scores[radius] = find_flicker(video)
    assert not scores[1.5].broken.any()
    assert scores[2.0].broken.nonzero().flatten().tolist() == [9]


@pytest.mark.slow
def test_frames_that_a_person_saw_torn_in_a_bundled_picture_are_found():
    """A decoded tear differs from its neighbours by a tenth and less; frames 23 to 25 shear slowly and go unseen."""
    person, video = PICTURES["latent_blend"], pictures.read(pictures.DOCS / "latent_blend.webp")
    assert len(video) == person.frames, "the picture was made anew: look at it and write down what is broken"
    found = pictures.against(person, find_flicker(video).broken)
    assert {26, 38, 39} <= set(found["hits"])
    assert found["false alarms"] == []


def test_two_frames_are_refused():
    with pytest.raises(ValueError, match="at least 3 frames"):
        find_flicker(clip(TRACK)[:2])
