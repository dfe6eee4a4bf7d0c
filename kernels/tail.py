"""Finish the projections of a TTT layer: queries and keys of length one at their rotary places, and the target.

Source: arXiv 2504.05298, section 3, and its public code:

    q = R(q / |q|)      k = R(k / |k|)      v' = k + g * (v - k - mean) / (std + 1e-8) + b

`reference` is plain torch and differentiable, and passes over its tensors some fifty times. `triton` is one pass
(triton_tail.py), `compiled` what torch.compile makes of the reference. Where no gradient is asked for, a GPU gets the
first of these two that can run and agrees with the reference at its first use; the CPU gets the reference. The argument
`backend`, else LONGREEL_TTT_BACKEND, forces one. Where projections come from is not known here.
"""

import importlib.util
import logging
import os
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F

from .first_use import reason_of

VARIABLE = "LONGREEL_TTT_BACKEND"
UNIT_EPS = 1e-12
TARGET_EPS = 1e-8
WIDTHS = (16, 32, 64, 128, 256)  # of a head, that the kernel is built for
ALLOWED = {torch.bfloat16: 2e-2, torch.float16: 3e-3, torch.float32: 1e-4}  # relative error at first use
SAMPLE_TOKENS = 37

Projections = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
_found: dict[tuple, str | None] = {}


def finish(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    angles: torch.Tensor,
    gamma: torch.Tensor,
    beta: torch.Tensor,
    backend: str | None = None,
) -> Projections:
    """Return q, k and v' of a scan for the projections q, k, v [B, S, H, D], which may be overwritten.

    angles [S, D / 2], radians; gamma, beta [H, D]: the target's spread and mean. Everything is computed in float32 and
    returned in the dtype of q. backend: reference, triton, compiled or None for the fastest that can run.
    """
    given = (q, k, v, angles.cos(), angles.sin(), gamma, beta)
    return WAYS[choose_way(q, torch.is_grad_enabled() and any(x.requires_grad for x in given), backend)](*given)


def choose_way(q: torch.Tensor, needs_grad: bool, backend: str | None = None) -> str:
    """Return the key of WAYS that serves q [B, S, H, D]. What is forced and cannot run is no error here: the scan,
    which is asked next, says so.
    """
    forced = backend or os.environ.get(VARIABLE) or None
    if needs_grad or forced == "reference" or q.dtype not in ALLOWED:
        return "reference"
    interpreted = os.environ.get("TRITON_INTERPRET") == "1" and q.dtype != torch.bfloat16
    has_kernel = importlib.util.find_spec("triton") is not None and q.shape[-1] in WIDTHS and (q.is_cuda or interpreted)
    if forced is not None:
        return forced if forced == "compiled" or has_kernel else "reference"
    if q.device.type in ("cpu", "meta") and not interpreted:
        return "reference"  # torch.compile would take the CPU longer than it saves
    for way in ("triton", "compiled") if has_kernel else ("compiled",):
        obstacle = obstacle_to(way, q)
        if obstacle is None:
            return way
        _say_once(obstacle)
    return "reference"


def obstacle_to(way: str, q: torch.Tensor) -> str | None:
    """Return why a way is not to be used for such a q on its device, as the end of a sentence; tried once for each."""
    key = way, q.device, q.dtype, q.shape[2:]
    if key not in _found:
        with torch.no_grad():
            _found[key] = _tried(WAYS[way], q)
    return _found[key]


def _tried(way: Callable[..., Projections], q: torch.Tensor) -> str | None:
    H, D = q.shape[2:]
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    sample = [normal(2, SAMPLE_TOKENS, H, D).to(q) for _ in range(3)]
    angles = 3 * normal(SAMPLE_TOKENS, D // 2)
    rest = [x.to(q.device) for x in (angles.cos(), angles.sin())]
    rest += [(1 + 0.1 * normal(H, D)).to(q), (0.1 * normal(H, D)).to(q)]
    want = reference(*sample, *rest)
    try:
        got = way(*(x.clone() for x in sample), *rest)
        errors = [(a.float() - b.float()).norm() / b.float().norm() for a, b in zip(got, want, strict=True)]
        worst = float(torch.stack(errors).max())
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001  # whatever a compiler, driver or launch raises is what the user is told
        return f"it does not run on {q.device} ({reason_of(error)})"
    if worst <= ALLOWED[q.dtype]:
        return None
    return f"on {q.device} it is off by {worst:.1e} from the reference, allowed {ALLOWED[q.dtype]:.0e}"


@cache
def _say_once(obstacle: str) -> None:
    logging.warning("Longreel: the one-pass projections of TTT layers are not used: %s", obstacle)


def forget() -> None:
    """Forget what was found, so that the next call tries anew."""
    _found.clear()
    _say_once.cache_clear()


def reference(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    gamma: torch.Tensor,
    beta: torch.Tensor,
) -> Projections:
    """Return q, k and v' as `finish` does, for cos, sin [S, D / 2] of the angles; nothing is overwritten."""
    q, k = (unit_and_turned(x, cos, sin) for x in (q, k))
    key = k.float()
    target = v.float() - key
    target = (target - target.mean(-1, keepdim=True)) / (target.std(-1, keepdim=True) + TARGET_EPS)
    target = gamma.float() * target + beta.float()
    return q, k, (target + key).to(v.dtype)


def unit_and_turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Return x [B, S, H, D] at length one, pairs of channels rotated by cos, sin [S, D / 2] of angles, in x's dtype."""
    unit = F.normalize(x.float(), dim=-1, eps=UNIT_EPS)
    other = (
        unit.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    )  # of its pair; a stack would cost a compiled pass half more
    cos, sin = cos.repeat_interleave(2, -1)[:, None], torch.stack([-sin, sin], -1).flatten(-2)[:, None]  # [S, 1, D]
    return (unit * cos + other * sin).to(x.dtype)


def _by_triton(*given: torch.Tensor) -> Projections:
    from . import triton_tail

    return triton_tail.finish(*given)


@cache
def _compiled() -> Callable[..., Projections]:
    return torch.compile(reference, dynamic=True)


def _by_compiler(*given: torch.Tensor) -> Projections:
    return _compiled()(*given)


WAYS: dict[str, Callable[..., Projections]] = {"reference": reference, "triton": _by_triton, "compiled": _by_compiler}
