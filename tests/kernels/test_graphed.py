"""kernels/graphed.py: what is replayed has the numbers of now, whatever was recorded. CUDA graphs need a GPU; here work
is recorded by one that does it again into the same memory."""

import logging
from dataclasses import replace

import pytest
import torch

from longreel.kernels import State, differentiable, dispatch, first_use, graphed, scan
from longreel.kernels.inputs import ScanInputs
from tests.kernels.scan_cases import in_double, relative_error, scan_case


class Again:
    """Does recorded work again, into the memory of its first results."""

    def record(self, work):
        self.work, self.filled = work, work()
        for x in self.filled:
            x.fill_(float("nan"))  # a graph computes nothing when it is recorded
        return self.filled

    def replay(self):
        for place, x in zip(self.filled, self.work(), strict=True):
            place.copy_(x)


def given(mlp: bool, seed: int, L: int = 20) -> tuple[ScanInputs, torch.Tensor, tuple[torch.Tensor, ...]]:
    case = in_double(scan_case(mlp, B=2, L=L, seed=seed))
    generator = torch.Generator().manual_seed(seed)
    above, *of_state = (
        torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in (case["q"], *case["state"].tensors())
    )
    case["k"] = case["k"].transpose(1, 2).contiguous().transpose(1, 2)
    return ScanInputs(**case, index=None, eps=1e-6), above, tuple(of_state)


@pytest.mark.parametrize("mlp", [False, True], ids=["linear", "mlp"])
def test_a_replay_has_the_gradients_of_its_own_numbers_and_keeps_those_it_gave(mlp):
    back, kept = graphed.Graphed(Again), []
    for seed in (0, 1, 2):
        kept.append((back(*given(mlp, seed)), differentiable.by_reference(*given(mlp, seed))))
    assert len(back.recorded) == 1
    for got, want in kept:
        assert all(map(torch.equal, got, want))


def test_each_size_chunk_and_eps_is_recorded_and_the_oldest_of_them_forgotten():
    back = graphed.Graphed(Again)
    inputs, above, of_state = given(True, 0)
    for change in ({}, {"chunk": 4}, {"eps": 1e-2}):
        changed = replace(inputs, **change)
        got, want = back(changed, above, of_state), differentiable.by_reference(changed, above, of_state)
        assert all(map(torch.equal, got, want))
    assert len(back.recorded) == graphed.MOST
    assert all(map(torch.equal, back(*given(True, 3, L=12)), differentiable.by_reference(*given(True, 3, L=12))))


class OnGPU(torch.Tensor):
    is_cuda = True


@pytest.fixture
def asked_for(monkeypatch):
    monkeypatch.setenv(dispatch.GRAPH, "1")
    first_use.forget()
    dispatch._say_once.cache_clear()
    yield ScanInputs(**scan_case(True), index=None, eps=1e-6)
    first_use.forget()


def test_it_goes_back_where_it_is_asked_for_and_agrees(asked_for, monkeypatch):
    monkeypatch.setattr(dispatch, "_graphed", graphed.Graphed(Again))
    assert dispatch._back_in_torch(asked_for) is differentiable.by_reference  # the tokens are on the CPU
    on_gpu = replace(asked_for, q=asked_for.q.as_subclass(OnGPU))
    assert dispatch._back_in_torch(on_gpu) is dispatch._graphed
    monkeypatch.delenv(dispatch.GRAPH)
    assert dispatch._back_in_torch(on_gpu) is differentiable.by_reference


def test_one_that_cannot_record_is_told_once_and_plain_torch_goes_back(asked_for, monkeypatch, caplog):
    class Refused(Again):
        def record(self, work):
            raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(dispatch, "_graphed", graphed.Graphed(Refused))
    on_gpu = replace(asked_for, q=asked_for.q.as_subclass(OnGPU))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert dispatch._back_in_torch(on_gpu) is differentiable.by_reference
    assert [record.message for record in caplog.records] == [
        "Longreel: gradients of TTT layers run on the slower reference: LONGREEL_TTT_GRAPH was asked for, but CUDA "
        "graphs do not run on cpu (RuntimeError: operation not permitted when stream is capturing)"
    ]


def test_the_scan_goes_back_by_it(asked_for, monkeypatch):
    monkeypatch.setattr(dispatch, "_triton_obstacle", lambda q, state, chunk, grad: "none" if grad else None)
    monkeypatch.setattr(dispatch, "_by_triton", lambda inputs: dispatch.reference.scan(inputs, 0))
    monkeypatch.setattr(dispatch, "_back_in_torch", lambda inputs: graphed.Graphed(Again))
    case, found = scan_case(True, L=44), []
    for backend in (None, "reference"):
        k = case["k"].clone().requires_grad_()
        out, end = scan(**{**case, "k": k}, checkpoint_every=2, backend=backend)
        found.append(torch.autograd.grad(out.square().sum() + State(*end.tensors()).W1.sum(), k)[0])
    assert relative_error(*found) < 1e-5
