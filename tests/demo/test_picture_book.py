"""The picture book: shape world's frames and sentences stay, held-out pages stay out, and what is not said is drawn
evenly."""

import random
from collections import Counter

import pytest
import torch

from longreel.demo import text_encoder, world
from longreel.demo.picture_book import book, draws, encode, movements, prompts, scenes, sprites

SAID_THERE = {"color": "coat", "shape": "kind", "motion": "movement", "background": "place", "size": "size"}


@pytest.fixture(scope="module")
def pages():
    """1500 native pages of 17 frames as training draws them."""
    rng = random.Random(1)
    return [draws.random_page(rng, 17) for _ in range(1500)]


def test_shape_world_is_drawn_to_the_bit():
    rng = random.Random(2)
    for held_out in (False, True):
        for _ in range(20):
            scene = world.random_scene(rng, held_out=held_out)
            assert torch.equal(book.render(book.from_scene(scene), 5), world.render(scene, 5)), scene


def test_shape_world_keeps_its_sentences():
    rng = random.Random(3)
    for names in (("color", "shape", "motion", "background"), ("size", "color", "motion"), ("shape",), ()):
        for _ in range(20):
            scene = world.random_scene(rng)
            said = tuple(SAID_THERE[name] for name in names)
            assert prompts.prompt(book.from_scene(scene), said) == world.prompt(scene, names)


def test_shape_world_holds_out_what_it_held_out():
    assert [c for c in world.all_combinations() if book.is_held_out(*c)] == [
        c for c in world.all_combinations() if c in set(world.held_out_combinations())
    ]


def test_held_out_pages_are_never_drawn_for_training(pages):
    assert not any(book.held_out(page) for page in pages)
    rng = random.Random(4)
    for group in encode.GROUPS:
        assert not any(book.held_out(page) for _ in range(30) for page in encode.draw_pages(group, rng)[0])


def test_held_out_pages_can_be_asked_for_and_lack_no_attribute():
    rng = random.Random(5)
    drawn = [draws.random_page(rng, 17, number=1, held_out_ones=True) for _ in range(400)]
    assert all(book.held_out(page) for page in drawn)
    assert {page.things[0].kind for page in drawn} >= set(sprites.KINDS)
    assert {page.place for page in drawn} == set(scenes.PLACES)
    every = [
        book.is_held_out(kind, coat, place, movement)
        for kind in sprites.KINDS
        for coat in sprites.COATS
        for place in scenes.PLACES
        for movement in movements.MOVEMENTS
    ]
    assert 0.13 < sum(every) / len(every) < 0.16


def test_things_stay_inside_of_the_picture(pages):
    for page in pages[:300]:
        for thing in page.things:
            track = book.track(thing, 17, page.side)
            assert track.min() >= 8 - 1e-3 and track.max() <= page.side - 8 + 1e-3, (page, thing)


def test_three_seconds_are_drawn_with_every_movement_that_stays():
    rng = random.Random(6)
    drawn = [draws.random_page(rng, draws.LONG_FRAMES) for _ in range(300)]
    seen = {thing.movement for page in drawn for thing in page.things} | {v for page in drawn for v in page.verbs}
    assert seen >= {"crosses", "circles", "hops", "stays still", "bounces", "chases", "carries"}


@pytest.mark.parametrize(
    ("attribute", "values"),
    [("kind", sprites.KINDS), ("coat", tuple(sprites.COATS)), ("movement", movements.MOVEMENTS), ("size", book.SIZES)],
)
def test_what_is_not_said_is_drawn_evenly(pages, attribute, values):
    rng = random.Random(7)
    unsaid = Counter()
    for page in pages:
        if len(page.things) > 1 or page.things[0].is_shape:
            continue
        names = [name for name in prompts.EVERYTHING if name != attribute and rng.random() < 0.7]
        sentence = prompts.prompt(page, tuple(names))
        value = getattr(page.things[0], attribute)
        assert f" {value} " not in f" {sentence.removesuffix(f'{page.place} background')} "
        unsaid[value] += 1
    assert set(unsaid) == set(values)
    assert max(unsaid.values()) < 1.7 * sum(unsaid.values()) / len(values)


def test_nothing_gray_is_drawn_on_gray(pages):
    assert any(page.place == "gray" for page in pages)
    assert not any(thing.coat == page.place for page in pages for thing in page.things)


def test_places_are_drawn_evenly(pages):
    counts = Counter(page.place for page in pages if not page.things[0].is_shape)
    assert set(counts) == set(scenes.PLACES)
    assert max(counts.values()) < 1.4 * sum(counts.values()) / len(counts)


def test_random_sentences_leave_out_every_attribute_and_are_understood(pages):
    rng = random.Random(8)
    left_out = Counter()
    for page in pages:
        sentence = prompts.random_prompt(page, rng)
        tokens = text_encoder.PICTURE_BOOK.tokenize(sentence)
        assert not tokens.unknown and not tokens.cut, sentence
        words = set(sentence.split())
        left_out["empty"] += not sentence
        left_out["coat"] += not words & set(sprites.COATS)
        left_out["kind"] += not words & set(book.KINDS)
        left_out["place"] += not words & {*scenes.SCENES, "background"}
    assert 0.05 < left_out["empty"] / len(pages) < 0.15
    for name in ("coat", "kind", "place"):
        assert 0.15 < left_out[name] / len(pages) < 0.4, left_out


def test_sentences_about_cuts_are_understood():
    rng = random.Random(9)
    for _ in range(100):
        (first, second), _ = encode.draw_pages("cuts", rng)
        sentence = prompts.random_cut_prompt(first, second, rng, empty=0)
        tokens = text_encoder.PICTURE_BOOK.tokenize(sentence)
        assert "then" in tokens.words and not tokens.unknown and not tokens.cut, sentence


def test_a_persons_sentence_is_understood():
    page = book.Page(
        "meadow",
        (book.Thing("cat", "orange", "crosses"), book.Thing("mouse", "gray", "crosses", "small", 80.0)),
        ("chases",),
    )
    assert prompts.prompt(page) == "an orange cat chases a gray mouse across a meadow"
    vocabulary = text_encoder.PICTURE_BOOK
    said = vocabulary.tokenize("A ginger cat chases a grey mouse across a meadow.")
    assert said == vocabulary.tokenize("a orange cat chases a gray mouse across a meadow")
    assert not book.is_relation_held_out("cat", "chases", "mouse")
    assert not book.is_relation_held_out("mouse", "carries", "cheese")


def test_old_words_keep_their_rows():
    old, new = text_encoder.SHAPE_WORLD, text_encoder.PICTURE_BOOK
    assert new.words[: len(old.words)] == old.words
    assert len(set(new.words)) == len(new.words) <= text_encoder.BOOK_ROWS
    assert all(new.synonyms[word] == meaning for word, meaning in old.synonyms.items())
    assert old.tokenize("a cat").unknown == ("cat",)


def test_coats_differ_on_every_kind_and_facings_on_those_with_a_front():
    for kind in sprites.KINDS:
        for size in sprites.SIDES:
            shown = [sprites.drawing(kind, coat, size)[0] for coat in sprites.COATS]
            for i, one in enumerate(shown):
                assert all((one - other).abs().sum() > 10 for other in shown[:i]), (kind, size)
            turned = sprites.drawing(kind, "red", size, True)[0]
            assert torch.equal(shown[0], turned) != sprites.has_front(kind)
