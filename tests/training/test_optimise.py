"""training/optimise.py: AdamW with groups, clipping, float32 masters, and an average of the weights."""

import pytest
import torch
from torch import nn

from longreel.training.optimise import Optimiser, decays
from longreel.training.student import OTHERS, TTT

RATES = {TTT: 1e-2, OTHERS: 1e-3}


def parameter(values, dtype=torch.float32) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values, dtype=dtype))


def give(found: nn.Parameter, values) -> None:
    """A gradient, as a backward pass leaves it."""
    (found * torch.tensor(values, dtype=found.dtype)).sum().backward()


def test_each_group_has_its_own_rate():
    """AdamW's first step is its rate, whatever the gradient, in the other direction."""
    own, other = parameter([1.0, 1.0]), parameter([1.0])
    optimiser = Optimiser({TTT: {"a": own}, OTHERS: {"b": other}}, weight_decay=0.0, clip_norm=1e9)
    give(own, [3.0, -5.0])
    give(other, [2.0])
    optimiser.step(RATES)
    torch.testing.assert_close(own.detach(), torch.tensor([0.99, 1.01]))
    torch.testing.assert_close(other.detach(), torch.tensor([0.999]))


@pytest.mark.parametrize(
    ("name", "decayed"),
    [
        ("blocks.0.ttt.wq.weight", True),
        ("blocks.0.ttt.W1", True),
        ("blocks.0.forward_video", True),
        ("blocks.0.ttt.wq.bias", False),
        ("blocks.0.ttt.b1", False),
        ("blocks.0.ttt.b2", False),
        ("blocks.0.ttt.post_norm.weight", False),
        ("blocks.3.self_attn.norm_q.weight", False),
    ],
)
def test_weights_and_gates_decay_and_biases_and_norms_do_not(name, decayed):
    assert decays(name) == decayed
    value = parameter([2.0])
    optimiser = Optimiser({TTT: {name: value}}, weight_decay=0.5)
    give(value, [0.0])
    optimiser.step({TTT: 0.1})
    assert float(value.detach()) == pytest.approx(2.0 * (1 - 0.1 * 0.5) if decayed else 2.0)


def test_the_norm_of_all_gradients_together_is_clipped_and_told():
    """Against torch's own AdamW on gradients that were made shorter by hand."""
    ours, others = parameter([1.0, 2.0]), parameter([3.0])
    plain = [parameter([1.0, 2.0]), parameter([3.0])]
    optimiser = Optimiser({TTT: {"a": ours}, OTHERS: {"b": others}}, clip_norm=0.1, weight_decay=0.0)
    adam = torch.optim.AdamW(plain, lr=1e-2, betas=(0.9, 0.95), weight_decay=0.0)
    for a, b in (([3.0, 0.0], [4.0]), ([0.03, 0.0], [0.04])):
        give(ours, a)
        give(others, b)
        norm = (sum(value**2 for value in a) + b[0] ** 2) ** 0.5
        assert optimiser.step({TTT: 1e-2, OTHERS: 1e-2}) == pytest.approx(norm)
        short = min(1.0, 0.1 / norm)
        plain[0].grad, plain[1].grad = torch.tensor(a) * short, torch.tensor(b) * short
        adam.step()
    torch.testing.assert_close(ours.detach(), plain[0].detach(), rtol=1e-5, atol=0)
    torch.testing.assert_close(others.detach(), plain[1].detach(), rtol=1e-5, atol=0)


def test_steps_that_bfloat16_cannot_hold_add_up_in_the_masters():
    working = parameter([1.0], torch.bfloat16)
    optimiser = Optimiser({TTT: {"a": working}}, weight_decay=0.0, ema=0)
    for _ in range(40):
        give(working, [1.0])
        optimiser.step({TTT: 1e-4})  # a bfloat16 near 1 has steps of 0.004
    assert optimiser.masters["a"].dtype == torch.float32
    assert float(optimiser.masters["a"].detach()) == pytest.approx(1 - 40e-4, abs=1e-5)
    assert working.dtype == torch.bfloat16 and float(working.detach()) == float(torch.tensor(0.996).bfloat16())


def test_gradients_of_several_passes_add_up_in_float32():
    working = parameter([1.0], torch.bfloat16)
    optimiser = Optimiser({TTT: {"a": working}}, clip_norm=1e9)
    for value in (1.0, 1 / 512, 1 / 512):  # bfloat16 loses them beside the 1
        give(working, [value])
        optimiser.gather()
        assert working.grad is None
    assert float(optimiser.masters["a"].grad) == 1 + 2 / 512


def test_a_float32_parameter_is_its_own_master():
    value = parameter([1.0])
    assert Optimiser({TTT: {"a": value}}).masters["a"] is value


def test_the_average_follows_the_weights_and_is_lent():
    value = parameter([0.0])
    optimiser = Optimiser({TTT: {"a": value}}, weight_decay=0.0, ema=0.5)
    expected = 0.0
    for update in range(1, 20):
        give(value, [-1.0])
        optimiser.step({TTT: 0.1})
        keep = min(0.5, update / (update + 9))
        expected = keep * expected + (1 - keep) * float(value.detach())
    now = float(value.detach())
    with optimiser.averaged():
        assert float(value.detach()) == pytest.approx(expected) and now > expected
    assert float(value.detach()) == now


def test_without_an_average_the_weights_are_lent_as_they_are():
    value = parameter([1.0])
    optimiser = Optimiser({TTT: {"a": value}}, ema=0)
    with optimiser.averaged():
        assert float(value.detach()) == 1.0
    assert not any(name.startswith("average.") for name in optimiser.state())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_state_goes_on_to_the_bit(dtype):
    def run(steps: int, state=None):
        value = parameter([0.3, -1.7], dtype)
        optimiser = Optimiser({TTT: {"weight": value}}, ema=0.9)
        if state is not None:
            optimiser.load(state)
        for step in range(optimiser.updates, steps):
            give(value, [1.0 + step, -0.5])
            optimiser.step({TTT: 1e-2})
        return {name: tensor.clone() for name, tensor in optimiser.state().items()}, value.detach()

    whole, resumed = run(7), run(7, run(3)[0])
    assert whole[0].keys() == resumed[0].keys() and torch.equal(whole[1], resumed[1])
    assert all(torch.equal(whole[0][name], resumed[0][name]) for name in whole[0])


def test_gradients_that_are_no_numbers_change_nothing():
    first, second = parameter([1.0]), parameter([2.0])
    optimiser = Optimiser({TTT: {"a": first, "b": second}})
    give(first, [1.0])
    give(second, [float("nan")])
    with pytest.raises(ValueError, match="gradients of 1 of 2 parameters are no numbers, first b; lower"):
        optimiser.step({TTT: 0.1})
    assert (float(first.detach()), float(second.detach()), optimiser.updates) == (1.0, 2.0, 0)
    assert first.grad is None and second.grad is None


def test_another_stage_takes_over_weights_and_no_moments():
    before = Optimiser({TTT: {"a": parameter([1.0])}, OTHERS: {"b": parameter([5.0])}}, weight_decay=0.0)
    give(before.parameters["a"], [1.0])
    before.step(RATES)
    after = Optimiser({TTT: {"a": parameter([0.0]), "new": parameter([7.0])}})
    after.carry_over(before.state())
    assert float(after.masters["a"].detach()) == pytest.approx(0.99) and float(after.masters["new"].detach()) == 7.0
    assert after.updates == 1 and not after.adam.state
    torch.testing.assert_close(after.average["a"], before.average["a"])


@pytest.mark.parametrize(
    ("groups", "options", "message"),
    [
        ({}, {}, "0 parameters have 0 names"),
        ({TTT: {"a": parameter([1.0])}, OTHERS: {"a": parameter([1.0])}}, {}, "2 parameters have 1 names"),
        ({TTT: {"a": parameter([1.0])}}, {"ema": 1.0}, "ema is 1, not 0 to below 1"),
        ({TTT: {"a": parameter([1.0])}}, {"clip_norm": 0.0}, "clip_norm is 0, not above 0"),
    ],
)
def test_what_cannot_be_optimised_is_refused(groups, options, message):
    with pytest.raises(ValueError, match=message):
        Optimiser(groups, **options)


def test_a_state_of_other_parameters_is_refused():
    state = Optimiser({TTT: {"a": parameter([1.0])}}).state()
    with pytest.raises(ValueError, match="1 of 1 parameters are not in the checkpoint, first b"):
        Optimiser({TTT: {"b": parameter([1.0])}}).load(state)
    with pytest.raises(ValueError, match=r"a has shape \[2\] and \[1\] in the checkpoint"):
        Optimiser({TTT: {"a": parameter([1.0, 2.0])}}).load(state)
