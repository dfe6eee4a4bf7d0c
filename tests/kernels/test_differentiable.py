"""kernels/differentiable.py: a forward pass that somebody else computes, with the reference's gradients."""

from dataclasses import replace

import pytest
import torch

from longreel.kernels import State, differentiable, dispatch, first_use, reference, scan
from longreel.kernels.inputs import ScanInputs
from tests.kernels.scan_cases import in_double, relative_error, scan_case

both = pytest.mark.parametrize("mlp", [False, True], ids=["linear", "mlp"])
NAMES = ("q", "k", "v", "eta", "ln_weight", "ln_bias")


def by_another(inputs: ScanInputs) -> tuple[torch.Tensor, State]:
    """What a kernel does: no graph, contiguous results."""
    with torch.no_grad():
        return reference.scan(inputs, 0)


def leaves_of(case: dict) -> list[torch.Tensor]:
    return [x.clone().requires_grad_() for x in (*(case[name] for name in NAMES), *case["state"].tensors())]


def inputs_of(case: dict, leaves: list[torch.Tensor], index: torch.Tensor | None) -> ScanInputs:
    return ScanInputs(*leaves[:6], State(*leaves[6:]), case["chunk"], index, 1e-6)


@pytest.mark.slow
@both
def test_gradients_are_those_of_finite_differences(mlp):
    case = in_double(scan_case(mlp, L=6, H=1, D=3, M=4 if mlp else 3, chunk=2))

    def run(*leaves):
        out, end = differentiable.scan(inputs_of(case, leaves, torch.tensor([4, 0, 2, 1, 3])), 1, by_another)
        return out, *end.tensors()

    assert torch.autograd.gradcheck(run, leaves_of(case))


@pytest.mark.parametrize("index", [None, torch.arange(40, 3, -1)], ids=["in order", "an order with gaps"])
@pytest.mark.parametrize("every", [1, 2, 16])
@both
def test_they_are_the_references_for_every_group_and_order(mlp, every, index):
    case = in_double(scan_case(mlp, B=2, L=44))
    found = []
    for work in (lambda given: differentiable.scan(given, every, by_another), lambda given: reference.scan(given, 0)):
        leaves = leaves_of(case)
        out, end = work(inputs_of(case, leaves, index))
        weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(2), dtype=out.dtype)
        loss = (out * weights).sum() + sum(x.square().sum() for x in end.tensors())
        found.append((out, *end.tensors(), *torch.autograd.grad(loss, leaves)))
    assert all(relative_error(a, b) < 1e-11 for a, b in zip(*found, strict=True))


@pytest.fixture
def on_a_gpu(monkeypatch):
    """Tensors that a kernel would serve, by one that is counted."""
    asked = []

    def kernel(inputs):
        assert not torch.is_grad_enabled()
        asked.append(inputs.q.shape[1])
        return reference.scan(inputs, 0)

    monkeypatch.delenv(dispatch.VARIABLE, raising=False)
    monkeypatch.setattr(dispatch, "_by_triton", kernel)
    monkeypatch.setattr(
        dispatch, "_triton_obstacle", lambda q, state, chunk, needs_grad: "it has none" if needs_grad else None
    )
    first_use.forget()
    yield asked
    first_use.forget()


def gradients(case: dict, **more) -> list[torch.Tensor]:
    leaves = leaves_of(case)
    given = dict(zip(NAMES, leaves, strict=False))
    out, end = scan(**{**case, **given, "state": State(*leaves[6:])}, **more)
    return list(torch.autograd.grad(out.square().sum() + end.W1.sum(), leaves))


def test_the_kernel_passes_forwards_in_groups_where_gradients_are_wanted(on_a_gpu):
    case = scan_case(True, L=44)
    want = gradients(case, backend="reference")
    assert on_a_gpu == []
    got = gradients(case, checkpoint_every=2)
    assert on_a_gpu[1:] == [16, 16, 12] and on_a_gpu[0] == 2 * 8 + first_use.TAIL  # tried first
    assert all(relative_error(a, b) < 2e-6 for a, b in zip(got, want, strict=True))


def test_without_checkpoints_or_with_a_kernel_that_is_wrong_the_reference_serves(on_a_gpu, monkeypatch):
    case = scan_case(True, L=44)
    gradients(case, checkpoint_every=0)
    assert on_a_gpu == []
    monkeypatch.setattr(dispatch, "_by_triton", lambda inputs: (inputs.q, inputs.state))
    want = gradients(case, backend="reference")
    assert all(map(torch.equal, gradients(case), want))


def test_a_half_that_needs_none_gets_none():
    case = scan_case(True)
    q = case["q"].clone().requires_grad_()
    out, _ = differentiable.scan(replace(ScanInputs(**case, index=None, eps=1e-6), q=q), 1, by_another)
    (found,) = torch.autograd.grad(out.square().sum(), q)
    want_q = case["q"].clone().requires_grad_()
    want, _ = reference.scan(replace(ScanInputs(**case, index=None, eps=1e-6), q=want_q), 0)
    torch.testing.assert_close(found, torch.autograd.grad(want.square().sum(), want_q)[0])
