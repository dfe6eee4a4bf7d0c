"""Reading the picture book back: rendered pages are read right, and each kind of defect breaks the frames it is in."""

import random
from dataclasses import replace

import pytest
import torch

from longreel.demo.picture_book import book, draws, reader, scenes, sprites

CAT = book.Thing("cat", "orange", "crosses", "big", 24.0, 40.0)
PAGE = book.Page("meadow", (CAT,), side=64)
FRAMES = 6


def read(video):
    return reader.read_page(video.permute(0, 2, 3, 1))


@pytest.mark.parametrize(("side", "number", "frames"), [(96, 3, 7), (64, 1, 17), (64, 2, 9)])
def test_rendered_pages_are_read_right(side, number, frames):
    rng = random.Random(side + number)
    page = draws.random_page(rng, frames, side=side, number=number)
    reading = read(book.render(page, frames))
    assert all(reading.agrees(page, size_said=True).values()), (page, reading)
    assert reading.right_everywhere(page, size_said=True), reading.faults


def test_a_chase_and_what_is_carried_are_read_as_such():
    cat = replace(CAT, x=10.0, y=48.0)
    mouse = replace(cat, kind="mouse", coat="gray", size="small", x=42.0)
    cheese = replace(mouse, kind="cheese", coat="yellow", y=20.0)
    page = replace(PAGE, things=(cat, mouse, cheese), verbs=("chases", "carries"))
    reading = read(book.render(page, FRAMES))
    assert reading.verbs == ("chases", "carries")
    assert reading.right_everywhere(page, size_said=True)
    assert not reading.agrees(replace(page, verbs=("carries", "chases")))["movement"]


@pytest.mark.parametrize("other", ["place", "kind", "coat", "size", "movement"])
def test_what_a_page_does_not_show_is_not_agreed(other, seen):
    values = {"kind": "dog", "coat": "brown", "size": "small", "movement": "hops"}
    page = (
        replace(PAGE, place="sea")
        if other == "place"
        else replace(PAGE, things=(replace(CAT, **{other: values[other]}),))
    )
    found = seen.agrees(page, size_said=True)
    assert [name for name, right in found.items() if not right] == [other, "all"]


@pytest.fixture(scope="module")
def seen():
    return read(book.render(PAGE, FRAMES))


def doubled(video):
    book.paste(video[3], *sprites.drawing("duck", "green", "small"), 52, 14)


def gone(video):
    video[3] = scenes.draw("meadow", 64)


def other_place(video):
    video[3] = book.render(replace(PAGE, place="room"), FRAMES)[3]


def other_coat(video):
    video[3] = book.render(replace(PAGE, things=(replace(CAT, coat="blue"),)), FRAMES)[3]


def jumped(video):
    video[3] = book.render(replace(PAGE, things=(replace(CAT, x=CAT.x + 10),)), FRAMES)[3]


def torn(video):
    video[3, :, 32:40] = video[3, :, 32:40].roll(12, 2)


@pytest.mark.parametrize("defect", [doubled, gone, other_place, other_coat, jumped, torn])
def test_a_broken_frame_is_found_and_no_other(defect, seen):
    assert not seen.broken.any()
    video = book.render(PAGE, FRAMES).clone()
    defect(video)
    reading = read(video)
    assert reading.broken.tolist() == [False, False, False, True, False, False], reading.faults


@pytest.mark.parametrize(
    ("place", "kind", "coat", "other"), [("white", "mouse", "orange", "tree"), ("street", "horse", "brown", "turtle")]
)
def test_a_thing_is_not_found_on_a_brighter_one(place, kind, coat, other):
    """A red one differs more from the place, or lies where this one would, and drew it to itself."""
    pale = book.Thing(kind, coat, "stays still", "small", 16.0, 48.0)
    bright = book.Thing(other, "red", "stays still", "small", 48.0, 16.0)
    page = book.Page(place, (pale, bright), side=64)
    reading = read(book.render(page, 5))
    assert reading.right_everywhere(page, size_said=True), reading


def test_noise_and_an_empty_place_are_nothing():
    noise = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    assert read(noise).place is None
    empty = read(scenes.draw("night", 64).expand(2, -1, -1, -1))
    assert empty.place == "night" and not empty.things and empty.broken.all()
    assert not empty.agrees(PAGE)["number"]


def test_other_sizes_are_refused():
    with pytest.raises(ValueError, match="the reader reads 96 or 64 pixels a side, got 80"):
        reader.read_page(torch.zeros(2, 80, 80, 3))
