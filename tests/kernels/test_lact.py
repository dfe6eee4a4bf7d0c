"""kernels/lact.py: a step on a chunk is the paper's equations, its gradients are right, and half precision holds it."""

import pytest
import torch
import torch.nn.functional as F

from longreel.kernels.lact import COEFFICIENTS, FastWeights, lengths_of, orthogonalised, read_chunk

B, S, H, D, M = 2, 9, 2, 4, 8


def case(seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple:
    """q, k, v, rates, fast weights and their lengths."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    q, k = (F.normalize(normal(B, S, H, D), dim=-1).to(dtype) for _ in range(2))
    rates = torch.rand(B, S, H, 3, generator=generator, dtype=torch.float64) + 0.1
    fast = FastWeights(normal(B, H, D, M), normal(B, H, M, D), normal(B, H, D, M))
    if dtype != torch.float64:
        rates, fast = rates.float(), FastWeights(*(w.float() for w in fast))
    return q, k, normal(B, S, H, D).to(dtype), rates, fast, lengths_of(fast)


def paper(q, k, v, rates, weights: list, lengths: list) -> tuple[torch.Tensor, list]:
    """One head of one video, as the paper writes it (equations 6 to 10): columns, gradients by autograd, Muon by the
    singular values. weights: W1, W2, W3 that multiply a column from the left."""

    def f(x: torch.Tensor, W1: torch.Tensor, W2: torch.Tensor, W3: torch.Tensor) -> torch.Tensor:
        a = W1 @ x
        return W2 @ (a / (1 + torch.exp(-a)) * (W3 @ x))

    stepped = []
    for number in range(3):
        leaf = [W.clone().requires_grad_(True) for W in weights]
        loss = -sum(rates[i, number] * torch.dot(f(k[i], *leaf), v[i]) for i in range(len(k)))
        (gradient,) = torch.autograd.grad(loss, leaf[number])
        U, s, Vh = torch.linalg.svd(gradient, full_matrices=False)
        s = s / s.square().sum().sqrt()  # of Frobenius norm 1
        for a, b, c in COEFFICIENTS:
            s = a * s + b * s**3 + c * s**5
        new = weights[number] - U @ torch.diag(s) @ Vh
        for row in range(len(new)):
            new[row] = new[row] / new[row].norm() * lengths[number][row]
        stepped.append(new)
    return torch.stack([f(x, *stepped) for x in q]), stepped


def test_two_chunks_are_the_papers_equations():
    q, k, v, rates, fast, lengths = case()
    q2, k2, v2, rates2, _, _ = case(seed=1)
    first, between = read_chunk(q, k, v, rates, fast, lengths)
    second, last = read_chunk(q2, k2, v2, rates2, between, lengths)
    for b in range(B):
        for h in range(H):
            weights = [w[b, h].T for w in fast]
            long = [W.norm(dim=1) for W in weights]
            want, weights = paper(q[b, :, h], k[b, :, h], v[b, :, h], rates[b, :, h], weights, long)
            torch.testing.assert_close(first[b, :, h], want, rtol=1e-6, atol=1e-6)  # the eps beside a gradient
            want, weights = paper(q2[b, :, h], k2[b, :, h], v2[b, :, h], rates2[b, :, h], weights, long)
            torch.testing.assert_close(second[b, :, h], want, rtol=1e-6, atol=1e-6)
            for found, W in zip(last, weights, strict=True):
                torch.testing.assert_close(found[b, h], W.T, rtol=1e-6, atol=1e-6)
    assert (first - second).abs().max() > 0.1


def test_gradients_are_those_of_finite_differences():
    q, k, v, rates, fast, _ = (x[:1, :5] if isinstance(x, torch.Tensor) else x for x in case())
    fast = FastWeights(*(w[:1] for w in fast))

    def both(q, k, v, rates, *weights):
        weights = FastWeights(*weights)
        out, weights = read_chunk(q, k, v, rates, weights, lengths_of(weights))
        return out, *weights

    given = [x.clone().requires_grad_(True) for x in (q, k, v, rates, *fast)]
    assert torch.autograd.gradcheck(both, given, eps=1e-6, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4)])
def test_newton_schulz_brings_singular_values_to_about_one(shape):
    x = torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = torch.linalg.svdvals(orthogonalised(x))
    assert found.shape[:2] == (2, 3) and found.min() > 0.9 and found.max() < 1.15


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_rates_weigh_tokens_against_each_other_alone(factor):
    q, k, v, rates, fast, lengths = case()
    expected, _ = read_chunk(q, k, v, rates, fast, lengths)
    found, _ = read_chunk(q, k, v, rates * factor, fast, lengths)
    torch.testing.assert_close(found, expected)
    one = rates.clone()
    one[:, 0] *= 3
    assert (read_chunk(q, k, v, one, fast, lengths)[0] - expected).abs().max() > 0.01


@pytest.mark.parametrize(("dtype", "allowed"), [(torch.bfloat16, 0.06), (torch.float16, 0.01), (torch.float32, 1e-5)])
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e3])
def test_sixteen_bits_hold_values_of_any_size(dtype, allowed, size):
    """Values and rates as tall as a sum of 4,000 tokens takes beyond float16, and as small as it does not resolve."""
    generator = torch.Generator().manual_seed(0)
    shape = 1, 4000, 1, 16
    q, k = (F.normalize(torch.randn(shape, generator=generator), dim=-1) for _ in range(2))
    v = (torch.randn(shape, generator=generator) + 1) * size
    rates = torch.rand(1, 4000, 1, 3, generator=generator) * size
    fast = FastWeights(*(torch.randn(1, 1, *s, generator=generator) / 4 for s in ((16, 32), (32, 16), (16, 32))))
    q, k, v = (x.to(dtype) for x in (q, k, v))
    precise = (x.double() for x in (q, k, v, rates))
    double = FastWeights(*(w.double() for w in fast))
    want, _ = read_chunk(*precise, double, lengths_of(double))
    out, after = read_chunk(q, k, v, rates, fast, lengths_of(fast))
    assert out.dtype == dtype and all(w.dtype == torch.float32 for w in after)
    assert (out.double() - want).norm() < allowed * want.norm()


def test_tokens_without_a_rate_or_a_value_teach_nothing():
    q, k, v, rates, fast, lengths = case(dtype=torch.float32)
    for given in ((v, torch.zeros_like(rates)), (torch.zeros_like(v), rates)):
        out, after = read_chunk(q, k, *given, fast, lengths)
        assert out.isfinite().all()
        for found, w in zip(after, fast, strict=True):
            torch.testing.assert_close(found, w, rtol=1e-4, atol=1e-5)
