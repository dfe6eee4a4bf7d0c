"""engine/ttt/published.py: a checkpoint's names, with and without the prefixes of a training run."""

import pytest
import torch

from longreel.engine.ttt.layer import MLP
from longreel.engine.ttt.published import layer_count, network_weights, ttt_layers, without_prefix
from longreel.engine.ttt.weights import to_published
from tests.engine.ttt_cases import make_block


@pytest.mark.parametrize("prefix", ["", "dit.", "model.dit.", "model."])
def test_ttt_layers_are_found_below_any_prefix(prefix):
    blocks = {number: make_block(MLP, seed=number).state_dict() for number in (10, 2)}
    weights = {
        f"{prefix}layers.{number}.seq_modeling_block.{name}": value
        for number, block in blocks.items()
        for name, value in to_published(block).items()
    }
    others = [
        f"{prefix}layers.{number}.{name}"
        for number in range(11)
        for name in ("seq_modeling_block.q.weight", "mlp.layer1.weight", "ssm.ttt.wq.weight")
    ]
    found = ttt_layers({**weights, **{name: torch.zeros(1) for name in others}})
    assert list(found) == [2, 10] and layer_count(others) == 11
    for number, block in blocks.items():
        assert set(found[number]) == set(block)
        assert all(torch.equal(found[number][name], block[name]) for name in block)


def test_the_rest_is_cores_network():
    weights = {
        "layers.1.mlp.layer1.bias": torch.ones(2),
        "time_embed.2.weight": torch.ones(3),
        "layers.1.seq_modeling_block.ssm.ttt.wq.weight": torch.ones(4),
        "layers.2.mlp.layer1.bias": torch.ones(5),
    }
    assert set(network_weights(weights, layers=2)) == {"blocks.1.ff_proj.bias", "time_embedding_linear_2.weight"}


def test_names_that_only_contain_a_prefix_stay():
    assert without_prefix("layers.0.model.dit.x") == "layers.0.model.dit.x"


def test_a_file_without_layers_has_none():
    assert layer_count(["lora_up.weight", "blocks.3.q.weight"]) == 0
