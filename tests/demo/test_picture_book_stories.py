"""Stories of the picture book: what later prompts leave out is in the pictures, and is known from the first alone."""

import random

import pytest
import torch

from longreel.demo import text_encoder
from longreel.demo.picture_book import book, stories

UNSAID = {stories.COAT: "coat", stories.KIND: "kind", stories.RETURNS: "coat"}
MOST_PIXELS = 8  # one latent cell


def story(kind: str, segments: int = 10, seed: int = 0, side: int = 96) -> stories.Story:
    return stories.random_story(kind, segments, random.Random(seed), side)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", stories.KINDS)
def test_no_prompt_that_is_asked_about_names_what_is_asked(kind, seed):
    told = story(kind, seed=seed)
    first = told.pages[0].things[0]
    unsaid = getattr(first, UNSAID[kind])
    assert told.asked and unsaid in told.prompts[0].split()
    for number in told.asked:
        assert unsaid not in told.prompts[number].split()
        assert told.pages[number].things[0].look == first.look
    if kind != stories.RETURNS:
        assert told.asked == tuple(range(1, 10))


@pytest.mark.parametrize("seed", range(4))
def test_a_thing_that_returns_has_been_away_behind_one_of_another_kind_and_coat(seed):
    told = story(stories.RETURNS, seed=seed)
    first = told.pages[0].things[0]
    others = [i for i, page in enumerate(told.pages) if page.things[0].look != first.look]
    assert others and min(told.asked) > others[0]
    for number in others:
        other = told.pages[number].things[0]
        assert other.kind != first.kind and other.coat != first.coat
        assert {other.kind, other.coat} <= set(told.prompts[number].split())


@pytest.mark.parametrize("side", [64, 96])
@pytest.mark.parametrize("kind", stories.KINDS)
def test_a_thing_goes_on_near_where_the_last_segment_left_it_and_stays_inside(kind, side):
    told = story(kind, side=side)
    for last, following in zip(told.pages, told.pages[1:], strict=False):
        before = book.track(last.things[0], stories.SEGMENT_FRAMES, side)[-1]
        path = book.track(following.things[0], stories.SEGMENT_FRAMES, side)
        assert (path[0] - before).abs().max() <= MOST_PIXELS
        assert path.min() >= 12 and path.max() <= side - 12
        assert following.things[0].movement != last.things[0].movement
        assert following.place == last.place


def test_no_story_shows_what_training_never_saw():
    told = [story(kind, seed=seed) for kind in stories.KINDS for seed in range(4)]
    assert not any(book.held_out(page) for one in told for page in one.pages)


def test_every_movement_has_its_part_in_stories():
    told = [story(kind, seed=seed) for kind in stories.KINDS for seed in range(20)]
    counts = [page.things[0].movement for one in told for page in one.pages]
    assert all(counts.count(movement) > 0.04 * len(counts) for movement in book.movements.MOVEMENTS)


def test_a_storyboard_and_its_video_are_equally_long():
    told = story(stories.COAT, 3, side=64)
    board = told.storyboard()
    assert sum(shot.seconds for shot in board.shots) * board.fps == stories.STEP_FRAMES * 3
    assert [shot.prompt for shot in board.shots] == list(told.prompts)
    video = told.render()
    assert video.shape == (stories.STEP_FRAMES * 3 + 1, 3, 64, 64)
    assert torch.equal(video[17], book.render(told.pages[1], 17)[1])


def test_training_stories_are_of_every_kind_and_say_now_more_now_less():
    told = [stories.training_story(6, random.Random(seed)) for seed in range(200)]
    shares = {kind: sum(one.kind == kind for one in told) / len(told) for kind in stories.KINDS}
    assert all(abs(shares[kind] - share) < 0.1 for kind, share in stories.TRAINING_KINDS.items())
    later = [said for one in told for said in one.said[1:]]
    again = [one.unsaid in said for one in told if one.kind != stories.RETURNS for said in one.said[1:]]
    assert 0.05 < sum(again) / len(again) < 0.2
    for name, least, most in (("size", 0.2, 0.4), ("place", 0.8, 0.9), ("movement", 1, 1)):
        assert least <= sum(name in said for said in later) / len(later) <= most, name
    assert all("kind" in said for one in told if one.kind == stories.RETURNS for said in one.said)
    words = [text_encoder.PICTURE_BOOK.tokenize(prompt) for one in told for prompt in one.prompts]
    assert not any(found.unknown for found in words)


def test_an_unknown_kind_and_no_segment_are_refused():
    with pytest.raises(ValueError, match="unknown kind of story 'color'; use coat, kind, returns"):
        story("color")
    with pytest.raises(ValueError, match="a story has 0 segments"):
        story(stories.COAT, 0)
