"""List the rows in the order of their value: what is lost when time ends is the least.

Seconds are budgets, not estimates. `rehearse` goes to every function and means toy sizes on the CPU.
"""

from __future__ import annotations

from dataclasses import replace

from .machine_setup import ROOT
from .runner import Row

PACKAGE = "tests.bench.gpu"
TTT_KINDS = ("mlp", "linear")
DTYPES = ("bfloat16", "float16", "float32")
SMALL, LARGE = "Wan 1.3B", "Wan 14B"
FEATURES = (  # those of sampling.py, which imports torch
    "plain", "joint", "KV Share, all layers", "KV Share, all layers, main memory", "rollout with memories", "TTT",
    "KV Share, last 1/6", "rollout",
)  # fmt: skip
FEATURES_OF_LARGE = (
    "joint", "KV Share, last 1/6", "KV Share, all layers", "KV Share, all layers, main memory", "rollout with memories",
)  # fmt: skip


def all_rows(rehearse: bool) -> list[Row]:
    """Every row, for the GPU or for a rehearsal."""
    # A rehearsal interprets kernels, with the Triton that `dev.py setup` puts beside a CPU torch.
    interpreted = {"TRITON_INTERPRET": "1"} if rehearse else {}
    beside = tuple(str(path) for path in sorted(ROOT.glob(".venv/triton-*"))) if rehearse else ()

    def row(name: str, target: str, seconds: float, **settings) -> Row:
        return Row(name, f"{PACKAGE}.{target}", seconds, {"rehearse": rehearse, **settings})

    def kernel_row(name: str, target: str, seconds: float, **settings) -> Row:
        return replace(row(name, target, seconds, **settings), environment=interpreted, paths=beside)

    rows = [kernel_row("machine", "machine:facts", 60)]
    rows += [
        kernel_row(f"TTT kernel {kind} {dtype}, errors", "kernels:errors", 60, kind=kind, dtype=dtype)
        for kind in TTT_KINDS
        for dtype in DTYPES
    ]
    rows += [kernel_row(f"TTT kernel {kind}, times", "kernels:times", 60, kind=kind) for kind in TTT_KINDS]
    rows += [kernel_row("TTT first contact", "ttt:first_contact", 60)]
    rows += [kernel_row("TTT-MLP, learning and reading apart", "ttt:apart", 60)]
    rows += [kernel_row("TTT gradients by kernels", "ttt:going_back", 60)]
    rows += [kernel_row("TTT projections, times", "ttt:projections", 40)]
    rows += [kernel_row("TTT blocks beside local attention", "ttt:blocks", 60)]
    rows += [kernel_row("TTT neighbours, times", "ttt:neighbours", 40)]
    rows += [kernel_row("TTT gradients, errors", "kernels:gradients", 40)]
    rows += [kernel_row("TTT forwards and back, times", "kernels:training", 40)]
    rows += [kernel_row("TTT gradients by a CUDA graph", "ttt:by_graph", 40)]
    rows += [kernel_row("TTT block, time", "kernels:block", 40)]
    rows += [
        row(f"{SMALL}, {feature}", "sampling:step", 60, network=SMALL, dtype="bfloat16", feature=feature)
        for feature in FEATURES
    ]
    rows += [
        row(f"{LARGE} fp8, {feature}", "sampling:step", 110, network=LARGE, dtype="float8_e4m3fn", feature=feature)
        for feature in FEATURES_OF_LARGE
    ]
    for feature in ("joint", "KV Share, all layers"):
        rows.append(
            row(f"{SMALL}, torch.compile, {feature}", "sampling:compiled", 120, network=SMALL, dtype="bfloat16",
                feature=feature)
        )  # fmt: skip
        rows.append(
            row(f"{SMALL}, attention override, {feature}", "sampling:overridden", 60, network=SMALL, dtype="bfloat16",
                feature=feature)
        )  # fmt: skip
    rows += [row("attention backends", "attention:backends", 40), row("products and copies", "attention:products", 40)]
    return rows
