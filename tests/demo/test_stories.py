"""Stories of shape world: what their prompts leave out is in the pictures, and can be known from the first prompt
alone."""

import random

import pytest

from longreel.demo import stories, world


def story(kind: str, segments: int = 12, seed: int = 0) -> stories.Story:
    return stories.random_story(kind, segments, random.Random(seed))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "kind, unsaid", [(stories.COLOR, "color"), (stories.SHAPE, "shape"), (stories.RETURNS, "color")]
)
def test_no_prompt_that_is_asked_about_names_what_is_asked(kind, unsaid, seed):
    told = story(kind, seed=seed)
    first = getattr(told.scenes[0], unsaid)
    assert told.asked and first in told.prompts[0].split()
    for number in told.asked:
        assert first not in told.prompts[number].split()
        assert getattr(told.scenes[number], unsaid) == first


@pytest.mark.parametrize("kind", [stories.COLOR, stories.SHAPE])
def test_every_segment_after_the_first_is_asked_about_one_object(kind):
    assert story(kind).asked == tuple(range(1, 12))


@pytest.mark.parametrize("seed", range(5))
def test_an_object_that_returns_has_been_away_behind_one_of_another_shape_and_color(seed):
    told = story(stories.RETURNS, seed=seed)
    first = told.scenes[0]
    others = [scene for scene in told.scenes if (scene.shape, scene.color) != (first.shape, first.color)]
    assert others and all(scene.shape != first.shape and scene.color != first.color for scene in others)
    away = told.scenes.index(others[0])
    assert told.asked and min(told.asked) > away
    named = told.prompts[away].split()
    assert others[0].color in named and others[0].shape in named


@pytest.mark.parametrize("kind", stories.KINDS)
def test_movement_goes_on_where_the_last_segment_ended(kind):
    told = story(kind)
    for last, following in zip(told.scenes, told.scenes[1:], strict=False):
        x, y = world.track(last.motion, last.x, last.y, last.phase, stories.SEGMENT_FRAMES)[-1].tolist()
        assert max(abs(following.x - x), abs(following.y - y)) <= world.CELL
        assert following.motion != last.motion


@pytest.mark.parametrize("kind", stories.KINDS)
def test_no_story_shows_a_combination_that_the_model_never_saw(kind):
    held_out = set(world.held_out_combinations())
    assert not any(scene.combination in held_out for seed in range(5) for scene in story(kind, seed=seed).scenes)


def test_a_storyboard_and_its_video_are_equally_long():
    told = story(stories.COLOR, 3)
    board = told.storyboard()
    assert sum(shot.seconds for shot in board.shots) * board.fps == stories.STEP_FRAMES * 3
    assert [shot.prompt for shot in board.shots] == list(told.prompts)
    assert told.render().shape == (stories.STEP_FRAMES * 3 + 1, 3, 64, 64)


def test_training_stories_are_of_every_kind_and_sometimes_name_the_unsaid_again():
    told = [stories.training_story(6, random.Random(seed)) for seed in range(200)]
    shares = {kind: sum(one.kind == kind for one in told) / len(told) for kind in stories.KINDS}
    assert all(abs(shares[kind] - share) < 0.1 for kind, share in stories.TRAINING_KINDS.items())
    later = [one.unsaid in said for one in told if one.kind != stories.RETURNS for said in one.said[1:]]
    assert 0.05 < sum(later) / len(later) < 0.2
    assert all(one.said[0] == stories.EVERYTHING for one in told)


def test_an_object_that_comes_and_goes_is_always_named_by_its_shape_in_training():
    told = [stories.training_story(6, random.Random(seed)) for seed in range(100)]
    assert all("shape" in said for one in told if one.kind == stories.RETURNS for said in one.said)


@pytest.mark.parametrize(
    "kind, segments, said", [("colour", 3, "unknown kind of story 'colour'"), (stories.COLOR, 0, "0 segments")]
)
def test_bad_wishes_are_named(kind, segments, said):
    with pytest.raises(ValueError, match=said):
        stories.random_story(kind, segments, random.Random(0))
