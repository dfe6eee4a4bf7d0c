"""kernels/reference.py: what a scan is, for both inner networks, and that its gradients are right and cheap to keep."""

from dataclasses import fields

import pytest
import torch

from longreel.kernels import State, scan
from tests.kernels.scan_cases import in_double, relative_error, scan_case
from tests.live_bytes import LiveBytes

both = pytest.mark.parametrize("mlp", [False, True], ids=["linear", "mlp"])


def same(got: tuple[torch.Tensor, State], want: tuple[torch.Tensor, State], tolerance: float = 2e-6) -> bool:
    pairs = zip((got[0], *got[1].tensors()), (want[0], *want[1].tensors()), strict=True)
    return all(relative_error(a, b) < tolerance for a, b in pairs)


@both
def test_a_step_descends_the_gradient_that_autograd_finds(mlp):
    """The inner loss written as the paper writes it, differentiated by torch."""
    case = in_double(scan_case(mlp, L=8))
    weights = [x.clone().requires_grad_() for x in case["state"].tensors()]
    k, v = (case[name].transpose(1, 2) for name in "kv")  # [B, H, K, D]

    def f(x):
        z = x @ weights[0] + weights[1]
        if mlp:
            z = torch.nn.functional.gelu(z, approximate="tanh") @ weights[2] + weights[3]
        xh = torch.nn.functional.layer_norm(z, z.shape[-1:], eps=1e-6)
        return xh * case["ln_weight"][:, None] + case["ln_bias"][:, None]

    loss = 0.5 * (f(k) - (v - k)).square().sum(-1)  # [B, H, K]
    gradients = torch.autograd.grad((case["eta"].transpose(1, 2) * loss).sum(), weights)
    _, state = scan(**case)
    for got, start, gradient in zip(state.tensors(), weights, gradients, strict=True):
        torch.testing.assert_close(got, start - gradient, atol=1e-12, rtol=1e-10)
    weights = state.tensors()
    q = case["q"].transpose(1, 2)
    torch.testing.assert_close(scan(**case)[0], (q + f(q)).transpose(1, 2), atol=1e-12, rtol=1e-10)


@both
def test_tokens_learn_from_their_chunk_and_the_chunks_before_and_no_later_one(mlp):
    case = scan_case(mlp, L=24, chunk=8)
    before, _ = scan(**case)
    case["v"] = case["v"].clone()
    case["v"][:, 15] += 1  # the last token of the second chunk
    changed = (scan(**case)[0] != before).flatten(2).any(-1)[0]
    assert changed.tolist() == [False] * 8 + [True] * 16


@both
def test_slabs_that_hand_their_state_along_equal_one_scan(mlp):
    case = scan_case(mlp, B=2, L=44, chunk=8)
    outs, state = [], case["state"]
    for start, end in ((0, 16), (16, 24), (24, 44)):
        slab = {name: case[name][:, start:end] for name in ("q", "k", "v", "eta")}
        out, state = scan(**{**case, **slab, "state": state})
        outs.append(out)
    assert same((torch.cat(outs, 1), state), scan(**case))


@both
def test_a_short_tail_equals_padding_with_tokens_that_have_no_learning_rate(mlp):
    case = scan_case(mlp, L=21, chunk=8)
    tokens = {name: case[name] for name in ("q", "k", "v", "eta")}
    padded = {name: torch.cat([x, torch.zeros_like(x[:, :3])], 1) for name, x in tokens.items()}
    out, state = scan(**{**case, **padded})
    assert same(scan(**case), (out[:, :21], state))


@both
def test_an_index_is_the_order_of_the_scan_and_outputs_stay_at_their_places(mlp):
    case = scan_case(mlp, B=2, L=21, chunk=8)
    order = torch.randperm(21, generator=torch.Generator().manual_seed(1))
    out, state = scan(**case, index=order.int())
    rows = {name: case[name][:, order] for name in ("q", "k", "v", "eta")}
    want, want_state = scan(**{**case, **rows})
    assert same((out[:, order], state), (want, want_state))
    assert not same((out, state), scan(**case), 1e-2)


@both
def test_places_that_are_not_in_the_index_stay_zero_and_teach_nothing(mlp):
    case = scan_case(mlp, L=24, chunk=8)
    index = torch.arange(20, 3, -1)
    out, state = scan(**case, index=index)
    absent = [0, 1, 2, 3, 21, 22, 23]
    assert not out[:, absent].any() and (out[:, index] != 0).all()
    case["k"][:, absent] = float("nan")
    assert same(scan(**case, index=index), (out, state))


@both
def test_no_tokens_leave_the_state_as_it_is(mlp):
    case = scan_case(mlp, L=16)
    nothing = {name: case[name][:, :0] for name in ("q", "k", "v", "eta")}
    out, state = scan(**{**case, **nothing})
    assert out.shape == (1, 0, 2, 8)
    assert all(torch.equal(a, b) for a, b in zip(state.tensors(), case["state"].tensors(), strict=True))


@both
def test_any_strides_give_the_same_and_nothing_is_written_in_place(mlp):
    case = scan_case(mlp, B=2, L=20)
    want = scan(**case)
    strange = {name: case[name].transpose(1, 2).contiguous().transpose(1, 2) for name in ("q", "k", "v", "eta")}
    kept = {name: x.clone() for name, x in case.items() if isinstance(x, torch.Tensor)}
    weights = [x.clone() for x in case["state"].tensors()]
    assert same(scan(**{**case, **strange}), want)
    assert all(torch.equal(case[name], x) for name, x in kept.items())
    assert all(torch.equal(a, b) for a, b in zip(case["state"].tensors(), weights, strict=True))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 5e-3), (torch.float16, 6e-4)])
@both
def test_half_precision_tokens_are_computed_in_float32(mlp, dtype, tolerance):
    case = scan_case(mlp, L=40, D=16, dtype=dtype)
    out, state = scan(**case)
    want, want_state = scan(**in_double(case))
    assert out.dtype == dtype and state.W1.dtype == torch.float32
    assert relative_error(out, want) < tolerance
    assert relative_error(state.W1 - case["state"].W1, want_state.W1 - case["state"].W1) < 1e-5


def differentiable(case: dict) -> tuple[list[torch.Tensor], callable]:
    """All that a scan has a gradient for, and the scan as a function of that."""
    names = ("q", "k", "v", "eta", "ln_weight", "ln_bias")
    leaves = [x.clone().requires_grad_() for x in (*(case[n] for n in names), *case["state"].tensors())]

    def run(*x: torch.Tensor, **more):
        out, state = scan(**{**case, **dict(zip(names, x, strict=False)), "state": State(*x[len(names) :])}, **more)
        return out, *state.tensors()

    return leaves, run


@pytest.mark.slow
@both
def test_gradients_are_those_of_finite_differences(mlp):
    case = in_double(scan_case(mlp, L=5, H=1, D=3, M=4 if mlp else 3, chunk=2))
    leaves, run = differentiable(case)
    index = torch.tensor([4, 0, 2, 1, 3])
    assert torch.autograd.gradcheck(lambda *x: run(*x, index=index, checkpoint_every=1), leaves)


@pytest.mark.parametrize("every", [1, 2, 16])
@both
def test_checkpoints_do_not_change_the_gradients(mlp, every):
    case = scan_case(mlp, B=2, L=44)
    index = torch.arange(43, -1, -1)

    def gradients(checkpoint_every: int) -> tuple[torch.Tensor, ...]:
        leaves, run = differentiable(case)
        out, *_ = run(*leaves, index=index, checkpoint_every=checkpoint_every)
        return torch.autograd.grad(out.square().sum(), leaves)

    for got, want in zip(gradients(every), gradients(0), strict=True):
        assert relative_error(got, want) < 1e-5


def kept_bytes(chunks: int, every: int) -> int:
    """What the forward pass of so many chunks leaves behind for the backward pass, beside inputs and output."""
    leaves, run = differentiable(scan_case(True, L=8 * chunks, H=1, D=16))
    with LiveBytes(*leaves) as memory:
        out, *_state = run(*leaves, checkpoint_every=every)
    return memory.alive - out.nbytes


@pytest.mark.slow
def test_kept_memory_is_linear_in_the_number_of_checkpoints():
    state = sum(x.nbytes for x in scan_case(True, H=1, D=16)["state"].tensors())
    for chunks, every in ((16, 4), (32, 4), (32, 8), (64, 8)):
        assert chunks // every - 1 <= kept_bytes(chunks, every) / state <= chunks // every + 2
    assert kept_bytes(32, 0) > 5 * kept_bytes(32, 4)


def test_a_state_is_what_it_says():
    assert [field.name for field in fields(State)] == ["W1", "b1", "W2", "b2"]
    assert not scan_case(False)["state"].is_mlp and len(scan_case(False)["state"].tensors()) == 2
    assert scan_case(True)["state"].is_mlp and len(scan_case(True)["state"].tensors()) == 4
