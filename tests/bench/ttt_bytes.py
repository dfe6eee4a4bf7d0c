"""How many bytes does a TTT layer move around its scan? Traced, token by token, at CogVideoX-5B's width in bfloat16.

    python dev.py bench ttt_bytes [--offset K] [--json FILE]

One block reads a small video in both directions, the scan itself left out; every operation that torch dispatches is
charged what it reads and writes (tests/traffic.py), matrix products apart. What Triton's one-pass kernel moves is
counted from its arguments: q, k and v read and written, the angles read. What torch.compile makes of the projections is
counted by its own scheduler. Bytes do not depend on the machine; seconds at 63 s are these bytes over the bandwidth of
a data sheet, an estimate and no measurement.
"""

import argparse
import os
from collections.abc import Callable
from unittest import mock

import torch

from longreel.engine.ttt import layer
from longreel.engine.ttt.block import TTTBlock
from longreel.engine.ttt.layer import MLP, OWN, TTTConfig
from longreel.engine.ttt.order import even_layout
from longreel.kernels import tail
from tests.bench_support import measuring, parser, table
from tests.traffic import Traffic, held

WIDTH, HEAD_WIDTH = 3072, 64
ASKED = 120.0  # KB for each token and direction
TOKENS_63_S = 351_168
BANDWIDTH = {"H100": 3.0e12, "H200": 4.3e12}  # bytes a second of a large copy
READINGS = 2


def one_pass(counted: list[int]) -> Callable[..., tail.Projections]:
    """The reference in the place of the kernel, charged what the kernel moves."""

    def finish(q, k, v, cos, sin, gamma, beta):
        counted.append(2 * (q.nbytes + k.nbytes + v.nbytes) + held(cos) + held(sin))
        with torch.utils._python_dispatch._disable_current_modes():
            return tail.reference(q, k, v, cos, sin, gamma, beta)

    return finish


def traced(seed: int, finish: Callable[..., tail.Projections] | None, width: int) -> tuple[Traffic, int]:
    """The traffic of a block's two readings, and its tokens. finish: in the reference's place."""
    torch.manual_seed(seed)
    block = TTTBlock(
        TTTConfig(MLP, width, width // HEAD_WIDTH, 64, 0.1, rates=OWN), dtype=torch.bfloat16
    ).requires_grad_(False)
    layout = even_layout(20, 1, 5, 6, 10)
    x = torch.randn(1, layout.tokens, width, dtype=torch.bfloat16)
    ways = {"reference": finish} if finish else {}
    without_scan = mock.patch.object(layer, "scan", lambda q, k, v, eta, lw, lb, state, *_, **__: (v, state))
    with mock.patch.dict(tail.WAYS, ways), without_scan, Traffic() as traffic:
        block(x, layout, in_place=True, backend="reference")
    return traffic, layout.tokens


def bytes_of_compiled() -> float:
    """KB for each token that torch.compile's program for the projections moves, by its scheduler; it compiles C++ or
    Triton, some ten seconds."""
    from torch._inductor import compile_fx, metrics

    S, H, D = 310, WIDTH // HEAD_WIDTH, HEAD_WIDTH
    tokens = [torch.randn(1, S, H, D, dtype=torch.bfloat16) for _ in range(3)]
    angles = torch.randn(S, D // 2)
    norm = [torch.randn(H, D, dtype=torch.bfloat16) for _ in range(2)]
    metrics.reset()
    said = mock.patch.object(compile_fx.inductor_metrics_log, "isEnabledFor", lambda level: True)  # it counts then
    with said, mock.patch.dict(os.environ, {"TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}), torch.no_grad():
        got = torch.compile(tail.reference)(*tokens, angles.cos(), angles.sin(), *norm)
    want = tail.reference(*tokens, angles.cos(), angles.sin(), *norm)
    worst = max(((a.float() - b.float()).norm() / b.float().norm()).item() for a, b in zip(got, want, strict=True))
    assert worst < tail.ALLOWED[torch.bfloat16], f"the compiled program is off by {worst:.1e}"
    return metrics.num_bytes_accessed / S / 1e3


def rows_of(seed: int, width: int = WIDTH) -> dict[str, dict[str, float]]:
    """KB for each token and direction, and calls."""
    found, counted = {}, []
    for name, finish in (("plain torch", None), ("one pass", one_pass(counted))):
        counted.clear()
        traffic, tokens = traced(seed, finish, width)
        found[name] = {
            "KB": (traffic.total + sum(counted)) / tokens / READINGS / 1e3,
            "of it the pass": sum(counted) / tokens / READINGS / 1e3,
            "calls": (sum(traffic.calls.values()) + len(counted)) / READINGS,
        }
    return found


def main() -> None:
    arguments: argparse.ArgumentParser = parser(__doc__.splitlines()[0], 1)
    arguments.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    options = arguments.parse_args()
    with measuring(options) as figures:
        found = rows_of(options.offset)
        if not options.no_compile:
            compiled = bytes_of_compiled()
            rest = found["one pass"]["KB"] - found["one pass"]["of it the pass"]
            found["torch.compile"] = {"KB": rest + compiled, "of it the pass": compiled, "calls": float("nan")}
        figures["KB of a token and direction"] = found
        rows = []
        for name, row in found.items():
            ms = [f"~{1e6 * row['KB'] * TOKENS_63_S / speed:.0f} ms" for speed in BANDWIDTH.values()]
            rows.append([name, row["KB"], row["of it the pass"], row["calls"], *ms])
        titles = ["around the scan", "KB a token and direction", "of it the pass", "calls"]
        print(table([*titles, *(f"63 s, {card}" for card in BANDWIDTH)], rows))
        for name in [name for name in found if name != "plain torch"]:
            verdict = "ok" if found[name]["KB"] <= ASKED else "MISSED"
            print(f"{name}: {found[name]['KB']:.1f} KB (asked at most {ASKED:g}: {verdict})")


if __name__ == "__main__":
    main()
