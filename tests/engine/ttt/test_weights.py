"""engine/ttt/weights.py: names there and back, and files that are not what they should be."""

import pytest
import torch

from longreel.engine.ttt.layer import LINEAR, MLP, OWN
from longreel.engine.ttt.weights import PUBLISHED, check_weights, config_of, from_published, to_published
from tests.engine.ttt_cases import CHUNK, KINDS, make_block


@pytest.mark.parametrize("kind", KINDS)
def test_published_names_round_trip(kind):
    weights = make_block(kind).state_dict()
    published = to_published(weights)
    assert len(published) == len(weights) and all(name.startswith(tuple(PUBLISHED)) for name in published)
    assert "ssm.ttt.wq.weight" in published and "backward_ssm_gating_text.gating_alpha" in published
    back = from_published({**published, "q.weight": torch.zeros(1), "o.bias": torch.zeros(1)})
    assert list(back) == list(weights) and all(torch.equal(back[name], weights[name]) for name in weights)


@pytest.mark.parametrize("kind", KINDS)
def test_the_shapes_tell_the_layer(kind):
    block = make_block(kind, norm_eps=1e-8, rates=OWN)
    assert config_of(block.state_dict(), CHUNK, 8.0, 1e-8, OWN) == block.ttt.config


def test_what_shapes_do_not_tell_is_as_published():
    linear, mlp = (config_of(make_block(kind).state_dict()) for kind in (LINEAR, MLP))
    assert (linear.chunk, linear.base_rate, mlp.chunk, mlp.base_rate) == (16, 1.0, 64, 0.1)


def weights_with(changes: dict) -> dict:
    weights = dict(make_block(MLP).state_dict())
    for name, value in changes.items():
        if value is None:
            del weights[name]
        else:
            weights[name] = value
    return weights


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ttt.W1": None}, "none of the 21 weights is ttt.W1"),
        ({"ttt.wq.weight": None}, "none of the 21 weights is ttt.wq.weight"),
        ({"ttt.W1": torch.zeros(3, 16, 64)}, r"ttt.W1 has shape \[3, 16, 64\] and ttt.wq.weight \[32, 32\]"),
        ({"ttt.wq.weight": torch.zeros(32)}, r"ttt.wq.weight \[32\]"),
    ],
)
def test_a_file_that_is_no_ttt_layer_is_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        config_of(weights_with(changes))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"forward_video": None}, "1 of 22 TTT weights are missing, first forward_video"),
        ({"more": torch.zeros(1)}, "1 of 23 weights are not this TTT block's, first more"),
        ({"ttt.wo.bias": torch.zeros(31)}, r"ttt.wo.bias has shape \[31\], the block \[32\]"),
    ],
)
def test_weights_that_do_not_fit_a_block_are_named(changes, says):
    with pytest.raises(ValueError, match=says):
        check_weights(make_block(MLP), weights_with(changes))


def test_weights_that_fit_pass():
    check_weights(make_block(MLP), make_block(MLP, seed=1).state_dict())
