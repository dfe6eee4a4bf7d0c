"""engine/lora/low_rank.py: adapters add what their file says, to the layers that were asked for."""

import pytest
import torch
from torch import nn

from longreel.engine.lora.low_rank import LowRank, attach, layers_of, parameters_of, weights_of


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict({"block": nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 4)), "out": nn.Linear(4, 2)})


def drawn(adapters):
    for adapter in adapters.values():
        nn.init.normal_(adapter.up)
    return adapters


def test_a_new_adapter_changes_nothing():
    net, x = network(), torch.randn(3, 4)
    before = net["block"](x)
    attach(layers_of(net, ["*"]), 2, 2.0)
    assert torch.equal(net["block"](x), before)


def test_an_adapted_layer_is_its_weight_plus_alpha_over_rank_times_the_product():
    net, x = network(), torch.randn(3, 4)
    adapter = drawn(attach(layers_of(net, ["out"]), 2, 5.0))["out"]
    merged = net["out"].weight + 5.0 / 2 * adapter.up @ adapter.down
    assert torch.allclose(net["out"](x), torch.nn.functional.linear(x, merged, net["out"].bias), atol=1e-5)


def test_the_file_has_three_tensors_for_each_layer():
    adapters = attach(layers_of(network(), ["block.*"]), 3, 7.0)
    weights = weights_of(adapters)
    assert set(weights) == {
        f"diffusion_model.block.{n}.{part}" for n in (0, 2) for part in ("lora_down.weight", "lora_up.weight", "alpha")
    }
    assert weights["diffusion_model.block.0.lora_down.weight"].shape == (3, 4)
    assert weights["diffusion_model.block.0.lora_up.weight"].shape == (6, 3)
    assert weights["diffusion_model.block.0.alpha"].item() == 7.0


def test_only_adapters_learn():
    net = network().requires_grad_(False)
    adapters = drawn(attach(layers_of(net, ["block.0"]), 2, 2.0))
    net["block"](torch.randn(3, 4)).square().mean().backward()
    assert set(parameters_of(adapters)) == {"block.0.down", "block.0.up"}
    assert all(value.grad is not None for value in parameters_of(adapters).values())
    assert all(value.grad is None for value in net.parameters())


def test_the_same_seed_gives_the_same_adapters():
    one, two, other = (attach(layers_of(network(), ["*"]), 2, 2.0, seed) for seed in (0, 0, 1))
    assert torch.equal(one["out"].down, two["out"].down) and not torch.equal(one["out"].down, other["out"].down)


def test_a_layer_in_bfloat16_is_added_to_in_bfloat16():
    net = network().bfloat16()
    attach(layers_of(net, ["out"]), 2, 2.0)
    assert net["out"](torch.randn(3, 4).bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    "targets, message",
    [
        (["nothing*"], r"'nothing\*' fits none of the 3 linear layers of this network; they have names like block.0"),
        ([], "none of the 3 linear layers"),
    ],
)
def test_targets_that_fit_nothing_are_refused(targets, message):
    with pytest.raises(ValueError, match=message):
        layers_of(network(), targets)


@pytest.mark.parametrize(
    "rank, alpha, message", [(0, 1.0, "rank is 0"), (257, 1.0, "rank is 257"), (4, 0.0, "alpha is 0")]
)
def test_ranks_and_alphas_out_of_range_are_refused(rank, alpha, message):
    with pytest.raises(ValueError, match=message):
        LowRank(4, 4, rank, alpha)
