"""demo/pair_world.py: two objects are drawn, said and read as what they are."""

import random
from dataclasses import replace

import pytest
import torch

from longreel.demo import pair_world, text_encoder, world

FRAMES = 17


def pairs(count: int, held_out: bool) -> list[pair_world.PairScene]:
    return [pair_world.random_pair(random.Random(i), FRAMES, held_out) for i in range(count)]


def shown(pair: pair_world.PairScene, frames: int = FRAMES) -> torch.Tensor:
    return pair_world.render(pair, frames).permute(0, 2, 3, 1)


def test_the_reader_agrees_with_what_was_drawn():
    for pair in pairs(6, held_out=True):
        assert all(pair_world.read_pair(shown(pair)).agrees(pair).values()), pair_world.prompt(pair)


def test_swapped_sides_are_right_objects_at_wrong_places():
    pair = next(p for p in pairs(20, held_out=False) if p.left.shape != p.right.shape)
    swapped = pair_world.PairScene(replace(pair.right, x=pair.left.x), replace(pair.left, x=pair.right.x))
    verdict = pair_world.read_pair(shown(swapped)).agrees(pair)
    assert verdict["objects"] and verdict["colours"] and not verdict["places"] and not verdict["all"]


def test_a_missing_object_is_never_right():
    pair = pairs(1, held_out=False)[0]
    alone = shown(pair)
    alone[FRAMES // 2 :, :, world.SIZE_PIXELS // 2 :] = torch.tensor(world.BACKGROUNDS[pair.left.background])
    verdict = pair_world.read_pair(alone).agrees(pair)
    assert not any(verdict[name] for name in ("objects", "colours", "places", "motion", "all"))


def test_a_single_frame_has_no_motion():
    pair = pairs(1, held_out=False)[0]
    verdict = pair_world.read_pair(shown(pair, 1)).agrees(pair)
    assert "motion" not in verdict and verdict["all"]


@pytest.mark.parametrize("held_out", [True, False])
def test_held_out_pairs_have_a_combination_that_training_never_sees(held_out):
    kept_out = set(world.held_out_combinations())
    for pair in pairs(40, held_out):
        assert any(scene.combination in kept_out for scene in pair.both) == held_out


def test_the_demo_models_text_encoder_knows_and_reads_every_word():
    for pair in pairs(40, held_out=False):
        tokens = text_encoder.tokenize(pair_world.prompt(pair))
        assert not tokens.unknown and not tokens.cut


def test_no_object_leaves_its_half_of_the_picture():
    for pair in pairs(10, held_out=False):
        for scene, columns in ((pair.left, slice(33, None)), (pair.right, slice(None, 31))):
            alone = world.render(scene, FRAMES)
            background = torch.tensor(world.BACKGROUNDS[scene.background]).view(1, 3, 1, 1)
            assert torch.allclose(alone[..., columns], background, atol=1e-5)
