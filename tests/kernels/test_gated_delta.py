"""kernels/gated_delta.py: chunks are the recurrence, token by token."""

import pytest
import torch
from torch.nn import functional as F

from longreel.kernels import gated_delta

B, L, H, D = 2, 23, 2, 8


def case(dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    """`q`, k, v, log_decay, strength, state."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(B, L, H, D, dtype=dtype) for _ in range(3))
    log_decay = -F.softplus(2 * torch.randn(B, L, H, dtype=dtype) - 1)
    strength = torch.randn(B, L, H, dtype=dtype).sigmoid()
    return [q, F.normalize(k, dim=-1), v, log_decay, strength, torch.randn(B, H, D, D, dtype=dtype)]


def token_by_token(q, k, v, log_decay, strength, state):
    """The definition: S <- a (S - b k (k^T S)) + b k v^T, o = S^T q."""
    outs = []
    for t in range(q.shape[1]):
        key, value = k[:, t, :, :, None], v[:, t, :, None, :]  # [B, H, D, 1], [B, H, 1, D]
        a, b = log_decay[:, t, :, None, None].exp(), strength[:, t, :, None, None]
        state = a * (state - b * key @ (key.mT @ state)) + b * key @ value
        outs.append((q[:, t, :, None, :] @ state)[:, :, 0])
    return torch.stack(outs, 1), state


@pytest.mark.parametrize("chunk", [1, 4, 16, 64])
def test_chunks_are_the_recurrence(chunk):
    given = case()
    out, state = gated_delta.scan(*given, chunk)
    expected, last = token_by_token(*given)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(state, last)


def test_a_scan_goes_on_from_the_state_of_the_one_before():
    *rows, state = case()
    whole, last = gated_delta.scan(*rows, state, 4)
    first, between = gated_delta.scan(*(x[:, :8] for x in rows), state, 4)
    second, end = gated_delta.scan(*(x[:, 8:] for x in rows), between, 4)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    torch.testing.assert_close(end, last)


def test_the_index_is_the_order_and_what_it_leaves_out_stays_0():
    given = case()
    order = torch.randperm(L)[:15]
    out, _ = gated_delta.scan(*given, 4, order)
    expected, _ = token_by_token(*(x[:, order] for x in given[:5]), given[5])
    torch.testing.assert_close(out[:, order], expected)
    left_out = sorted(set(range(L)) - set(order.tolist()))
    assert not out[:, left_out].any()


@pytest.mark.parametrize("checkpoint_every", [0, 2])
def test_gradients_are_those_of_the_recurrence(checkpoint_every):
    given = [x.requires_grad_() for x in case()]
    weight = torch.randn(B, L, H, D, dtype=torch.float64)
    ours = torch.autograd.grad((gated_delta.scan(*given, 4, None, checkpoint_every)[0] * weight).sum(), given)
    theirs = torch.autograd.grad((token_by_token(*given)[0] * weight).sum(), given)
    for gradient, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(gradient, expected)


def test_a_key_that_is_written_again_is_replaced():
    k = torch.zeros(1, 2, 1, D, dtype=torch.float64)
    k[..., 0] = 1
    v = torch.randn(1, 2, 1, D, dtype=torch.float64)
    nothing, whole = torch.zeros(1, 2, 1, dtype=torch.float64), torch.ones(1, 2, 1, dtype=torch.float64)
    out, state = gated_delta.scan(k, k, v, nothing, whole, torch.zeros(1, 1, D, D, dtype=torch.float64), 4)
    torch.testing.assert_close(out, v)
    torch.testing.assert_close(state[0, 0, 0], v[0, 1, 0])


def test_strong_forgetting_stays_finite_in_float32():
    q, k, v, _, strength, state = case(torch.float32)
    out, last = gated_delta.scan(q, k, v, torch.full((B, L, H), -60.0), strength, state, 16)
    assert out.isfinite().all() and last.isfinite().all()
