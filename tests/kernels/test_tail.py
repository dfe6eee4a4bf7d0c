"""kernels/tail.py: what a projection's tail is, which way serves it, and that a way that fails is told once."""

import importlib.util
import logging
import math

import pytest
import torch

from longreel.kernels import tail


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.delenv(tail.VARIABLE, raising=False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    tail.forget()
    yield
    tail.forget()


class OnGPU(torch.Tensor):
    """A tensor that says that it lies on a GPU."""

    is_cuda = True

    @property
    def device(self):
        return torch.device("cuda", 0)


def drawn(dtype: torch.dtype = torch.float32) -> tuple[list[torch.Tensor], torch.Tensor, list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    tokens = [torch.randn(2, 5, 3, 16, generator=generator).to(dtype) for _ in range(3)]
    norm = [torch.randn(3, 16, generator=generator).to(dtype) for _ in range(2)]
    return tokens, torch.randn(5, 8, generator=generator), norm


def test_it_is_the_published_formula_token_by_token():
    (q, k, v), angles, (gamma, beta) = drawn()
    got = tail.finish(q, k, v, angles, gamma, beta)
    for b, s, h in ((0, 0, 0), (1, 4, 2)):
        kept = []
        for x in (q, k):
            unit = (x[b, s, h] / x[b, s, h].norm()).tolist()
            turned = []
            for pair, angle in enumerate(angles[s].tolist()):
                turned.append(complex(*unit[2 * pair : 2 * pair + 2]) * complex(math.cos(angle), math.sin(angle)))
            kept.append(torch.tensor([part for z in turned for part in (z.real, z.imag)]))
        way = v[b, s, h] - kept[1]
        target = gamma[h] * (way - way.mean()) / (way.std() + 1e-8) + beta[h]
        for a, want in zip(got, (*kept, target + kept[1]), strict=True):
            torch.testing.assert_close(a[b, s, h], want, atol=1e-6, rtol=1e-5)


def test_a_token_of_nothing_stays_finite():
    (q, k, v), angles, norm = drawn()
    assert all(x.isfinite().all() for x in tail.finish(q * 0, k * 0, v * 0, angles, *norm))


def test_gradients_are_those_of_the_reference_and_the_cpu_gets_it():
    tokens, angles, norm = drawn()
    leaves = [x.requires_grad_() for x in tokens]
    assert tail.choose_way(leaves[0], True, "triton") == "reference"
    sum(x.square().sum() for x in tail.finish(*leaves, angles, *norm)).backward()
    assert all(x.grad is not None for x in leaves)
    assert tail.choose_way(tokens[0], False) == "reference"


def serve(monkeypatch, **ways) -> list[str]:
    """Put ways in the places of those that only a GPU can run, each of which notes its name when it is tried; they are
    tried on the CPU."""
    tried = []
    for name, way in ways.items():

        def noted(*given, name=name, way=way):
            tried.append(name)
            return way(*given)

        monkeypatch.setitem(tail.WAYS, name, noted)
    real = tail.obstacle_to
    monkeypatch.setattr(tail, "obstacle_to", lambda way, q: real(way, q.as_subclass(torch.Tensor)))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    return tried


def test_a_gpu_gets_the_kernel_once_it_agrees(monkeypatch):
    tried = serve(monkeypatch, triton=tail.reference, compiled=tail.reference)
    q = drawn()[0][0].as_subclass(OnGPU)
    assert [tail.choose_way(q, False) for _ in range(3)] == ["triton"] * 3 and tried == ["triton"]


def turned_backwards(q, k, v, cos, sin, gamma, beta):
    return tail.reference(q, k, v, cos, -sin, gamma, beta)


def no_target(q, k, v, cos, sin, gamma, beta):
    q, k, _ = tail.reference(q, k, v, cos, sin, gamma, beta)
    return q, k, v


def biased(q, k, v, cos, sin, gamma, beta):
    """The spread over D instead of D - 1."""
    q, k, target = tail.reference(q, k, v, cos, sin, gamma, 0 * beta)
    D = q.shape[-1]
    return q, k, k + (target - k) * (D / (D - 1)) ** 0.5 + beta


@pytest.mark.parametrize("wrong", [turned_backwards, no_target, biased])
def test_a_wrong_way_is_told_once_and_the_next_one_serves(monkeypatch, caplog, wrong):
    tried = serve(monkeypatch, triton=wrong, compiled=tail.reference)
    q = drawn()[0][0].as_subclass(OnGPU)
    with caplog.at_level(logging.WARNING):
        assert [tail.choose_way(q, False) for _ in range(2)] == ["compiled"] * 2
    assert tried == ["triton", "compiled"]
    (message,) = (record.message for record in caplog.records)
    assert "one-pass projections of TTT layers are not used: on cpu it is off by" in message


def test_where_no_way_runs_the_reference_serves_and_both_reasons_are_told(monkeypatch, caplog):
    def broken(*given):
        raise OSError("no compiler\nat all")

    serve(monkeypatch, triton=broken, compiled=broken)
    q = drawn()[0][0].as_subclass(OnGPU)
    with caplog.at_level(logging.WARNING):
        assert tail.choose_way(q, False) == "reference"
    assert caplog.records[0].message.endswith("it does not run on cpu (OSError: no compiler)")


def test_what_is_forced_is_taken(monkeypatch):
    q = drawn()[0][0]
    assert tail.choose_way(q, False, "compiled") == "compiled"
    monkeypatch.setenv(tail.VARIABLE, "compiled")
    assert tail.choose_way(q, False) == "compiled" and tail.choose_way(q, True) == "reference"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert tail.choose_way(q, False, "triton") == "reference"
