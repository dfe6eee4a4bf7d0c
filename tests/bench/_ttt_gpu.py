"""The TTT kernels on an NVIDIA GPU: first whether they are right, then how long they take, beside their neighbours.

`python dev.py bench ttt_kernels` runs it where there is a GPU. Shapes are CogVideoX-5B's: 48 heads of 64, and 351168
tokens for 63 s (docs/ttt.md, Sequence lengths). Every check must pass before anything is timed. Times are medians of
CUDA events in milliseconds, for one direction. What is slow without kernels is timed on 282 chunks (3 s) and scaled by
its length; the table marks those with ~. fla (fla-core) is a neighbour where it is installed.
"""

import importlib.util
import itertools
import statistics
from collections.abc import Callable

import torch
import torch.nn.functional as F
from triton.runtime.errors import OutOfResources

from longreel.engine.ttt.block import TTTBlock
from longreel.engine.ttt.layer import LINEAR, MLP, TTTConfig
from longreel.engine.ttt.order import even_layout
from longreel.kernels import State, reference, scan, triton_launch
from longreel.kernels.dispatch import TRITON_CHUNKS, TRITON_HEAD_DIMS, TRITON_SHARED_BYTES
from longreel.kernels.inputs import ScanInputs
from longreel.kernels.reference_dual import scan_dual
from tests.bench_support import table
from tests.kernels.scan_cases import in_double, relative_error, scan_case

HEADS, D = 48, 64
WIDTH = HEADS * D
TOKENS = {"3 s": 18_048, "9 s": 51_456, "30 s": 168_320, "63 s": 351_168}
SEGMENTS, SEGMENT_TOKENS, FRAME_TOKENS, TEXT = 21, 18_008, (30, 45), 458  # of 63 s; 13 frames and a text
TOLERANCE = {torch.bfloat16: 1e-2, torch.float16: 2e-3, torch.float32: 2e-5}
CHECKED_CHUNKS = 40
FLOP_PER_TOKEN = {True: 7 * 2 * D * 4 * D, False: 3 * 2 * D * D}  # and head
ASKED_MLP_MS, ASKED_OVER_COMPILED, ASKED_BLOCK = 40.0, 8.0, 1.8  # on an H200


def milliseconds(work: Callable[[], object], rounds: int) -> float:
    """Median of `rounds`, after three to warm up."""
    for _ in range(3):
        work()
    times = []
    for _ in range(rounds):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def on_gpu(case: dict) -> dict:
    moved = {name: x.cuda() if isinstance(x, torch.Tensor) else x for name, x in case.items()}
    return moved | {"state": State(*(x.cuda() for x in case["state"].tensors()))}


def made_on_gpu(mlp: bool, B: int, L: int, chunk: int) -> dict:
    """As scan_case, in bfloat16, with rates as published; made there, since a minute of video is gigabytes."""

    def normal(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.randn(*shape, device="cuda", dtype=dtype)

    M = 4 * D if mlp else D
    weights = [0.1 * normal(B, HEADS, D, M), 0.1 * normal(B, HEADS, 1, M)]
    weights += [0.1 * normal(B, HEADS, M, D), 0.1 * normal(B, HEADS, 1, D)] if mlp else []
    q, k, v = (normal(B, L, HEADS, D, dtype=torch.bfloat16) for _ in range(3))
    rate = (0.1 if mlp else 1.0) / D / chunk
    return {
        "q": F.normalize(q, dim=-1), "k": F.normalize(k, dim=-1), "v": v,
        "eta": rate * torch.rand(B, L, HEADS, device="cuda"),
        "ln_weight": 1 + 0.1 * normal(HEADS, D), "ln_bias": 0.1 * normal(HEADS, D),
        "state": State(*weights), "chunk": chunk,
    }  # fmt: skip


def check_kernel(mlp: bool, head_dim: int, chunk: int, dtype: torch.dtype) -> float:
    """Worst relative error of outputs and of what was learned, against float64; gather, tail, slabs, repeats."""
    L = CHECKED_CHUNKS * chunk + 5
    case = on_gpu(scan_case(mlp, B=2, L=L, H=4, D=head_dim, chunk=chunk, dtype=dtype))
    order = torch.randperm(L, device="cuda")
    out, end = scan(**case, index=order, backend="triton")
    want, want_end = scan(**in_double(case), index=order, backend="reference")
    learned = [
        (a - s, b - s) for a, b, s in zip(end.tensors(), want_end.tensors(), case["state"].tensors(), strict=False)
    ]
    worst = max(relative_error(a, b) for a, b in [(out, want), *learned])
    again, _ = scan(**case, index=order, backend="triton")
    assert torch.equal(out, again), "two runs differ: a race"
    first, middle = scan(**case, index=order[: CHECKED_CHUNKS // 2 * chunk], backend="triton")
    second, _ = scan(**{**case, "state": middle}, index=order[CHECKED_CHUNKS // 2 * chunk :], backend="triton")
    assert torch.equal(first + second, out), "two slabs differ from one scan"
    return worst


def check_far_offsets() -> None:
    """More numbers than 32 bits count: the last head of the last video must be what it is alone."""
    case = made_on_gpu(True, 2, TOKENS["63 s"], 64)
    assert case["q"].numel() > 2**31
    out, _ = scan(**case, backend="triton")
    alone = {name: case[name][1:, :, -1:] for name in ("q", "k", "v", "eta")}
    norm = {name: case[name][-1:] for name in ("ln_weight", "ln_bias")}
    state = State(*(x[1:, -1:] for x in case["state"].tensors()))
    want, _ = scan(**{**case, **alone, **norm, "state": state}, backend="triton")
    assert torch.equal(out[1:, :, -1:], want), "the last head of the last video differs from itself alone"


def check() -> dict[str, float]:
    errors, shared = {}, torch.cuda.get_device_properties(0).shared_memory_per_block_optin
    for mlp, head_dim, chunk in itertools.product((False, True), TRITON_HEAD_DIMS, TRITON_CHUNKS):
        for dtype, allowed in TOLERANCE.items():
            if mlp and dtype == torch.float32 and shared < TRITON_SHARED_BYTES.get((head_dim, chunk), 0):
                continue
            name = f"{'TTT-MLP' if mlp else 'TTT-Linear'}, {head_dim}, chunk {chunk}, {str(dtype)[6:]}"
            errors[name] = check_kernel(mlp, head_dim, chunk, dtype)
            assert errors[name] < allowed, f"{name}: error {errors[name]:.1e}, allowed {allowed:.0e}"
    if torch.cuda.get_device_properties(0).total_memory > 60e9:
        check_far_offsets()
    print("\n" + table(["GPU against float64", "error"], [[n, f"{e:.1e}"] for n, e in errors.items()]))
    return errors


def ceilings(rounds: int) -> dict[str, float]:
    """Products of 8192 in bfloat16, and a copy of 4 GB, as this card does them."""
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    product = milliseconds(lambda: a @ a, rounds)
    x = torch.empty(2**30, device="cuda")
    y = torch.empty_like(x)
    copy = milliseconds(lambda: y.copy_(x), rounds)
    found = {"TFLOP/s": 2 * 8192**3 / product / 1e9, "GB/s": 2 * x.nbytes / copy / 1e6}
    print("\nceilings: " + ", ".join(f"{value:.0f} {name}" for name, value in found.items()))
    return found


def scans(rounds: int) -> dict[str, dict]:
    found = {}
    for mlp, chunk in ((True, 64), (False, 16), (False, 64)):
        for B, (length, L) in [(1, t) for t in TOKENS.items()] + [(2, ("63 s", TOKENS["63 s"]))]:
            name = f"{'TTT-MLP' if mlp else 'TTT-Linear'}, chunk {chunk}, {length}, batch {B}"
            case = made_on_gpu(mlp, B, L, chunk)
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            scan(**case, backend="triton")
            extra = torch.cuda.max_memory_allocated() - before - case["q"].nbytes
            ms = milliseconds(lambda case=case: scan(**case, backend="triton"), rounds)
            found[name] = {
                "ms": ms,
                "TFLOP/s": B * L * HEADS * FLOP_PER_TOKEN[mlp] / ms / 1e9,
                "GB/s": (4 * case["q"].nbytes + case["eta"].nbytes) / ms / 1e6,
                "us per chunk": 1e3 * ms / (L / chunk),
                "MB beside out": extra / 1e6,
            }
    print(
        "\n"
        + table(
            ["scan", "ms", "TFLOP/s", "GB/s", "us per chunk", "MB beside out"],
            [[name, *f.values()] for name, f in found.items()],
        )
    )
    return found


def settings(rounds: int) -> dict[str, float]:
    """Warps and pipeline stages, 3 s, batch 1: is the kernel's own choice the best here?"""
    found = {}
    for mlp, chunk in ((True, 64), (False, 16), (False, 64)):
        case = made_on_gpu(mlp, 1, TOKENS["3 s"], chunk)
        for warps in (4, 8, 16) if mlp else (2, 4, 8):
            for stages in (1, 2, 3):
                name = f"{'TTT-MLP' if mlp else 'TTT-Linear'}, chunk {chunk}, {warps} warps, {stages} stages"
                try:
                    found[name] = milliseconds(
                        lambda case=case, warps=warps, stages=stages: triton_launch.scan(
                            ScanInputs(**case, index=None, eps=1e-6), warps, stages), rounds)  # fmt: skip
                except OutOfResources as error:
                    print(f"{name}: {error}")
    print("\n" + table(["settings, 3 s", "ms"], list(found.items())))
    return found


def without_kernels(rounds: int) -> dict[str, float]:
    """Milliseconds for 63 s, scaled from 3 s: the reference, compiled and not, and the published dual form."""
    scale, found = TOKENS["63 s"] / TOKENS["3 s"], {}
    step = torch.compile(reference._scan_group)
    for mlp, kind in ((True, "TTT-MLP"), (False, "TTT-Linear")):
        case = made_on_gpu(mlp, 1, TOKENS["3 s"], 64)
        rows = [case[name] for name in ("q", "k", "v", "eta")]
        rest = {name: case[name] for name in ("ln_weight", "ln_bias")}
        rates = case["eta"].transpose(1, 2).unflatten(2, (-1, 1, 64)).expand(-1, -1, -1, 64, -1)

        def by_step(rows=rows, rest=rest, case=case):
            state = case["state"]
            for chunk in zip(*(x.split(64, 1) for x in rows), strict=False):
                _, state = step(ScanInputs(*chunk, **rest, state=state, chunk=64, index=None, eps=1e-6))

        def dual(rows=rows, rest=rest, case=case, rates=rates):
            scan_dual(*(x.float() for x in rows[:3]), rates, *rest.values(), case["state"])

        works = {
            "reference": lambda case=case: scan(**case, backend="reference"),
            "reference, compiled": by_step,
            "dual form": dual,
        }
        for name, work in works.items():
            found[f"~ {kind}, {name}"] = scale * milliseconds(work, min(rounds, 5))
    print("\n" + table(["without kernels, 63 s", "ms"], list(found.items())))
    return found


def neighbours(rounds: int) -> dict[str, float]:
    """Milliseconds for 63 s of other ways to see far."""
    found, half = {}, {"device": "cuda", "dtype": torch.bfloat16}
    q, k, v = (torch.randn(1, HEADS, SEGMENT_TOKENS, D, **half) for _ in range(3))
    one = milliseconds(lambda: F.scaled_dot_product_attention(q, k, v), rounds)
    found["local attention, 21 segments"] = SEGMENTS * one
    q, k, v = (torch.randn(1, HEADS, 65_536, D, **half) for _ in range(3))
    one = milliseconds(lambda: F.scaled_dot_product_attention(q, k, v), min(rounds, 3))
    found["~ full attention"] = one * (TOKENS["63 s"] / 65_536) ** 2
    if importlib.util.find_spec("fla"):
        from fla.ops.gated_delta_rule import chunk_gated_delta_rule

        q, k, v = (torch.randn(1, TOKENS["63 s"], HEADS, D, **half) for _ in range(3))
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        decay, beta = F.logsigmoid(torch.randn(q.shape[:3], **half)), torch.rand(q.shape[:3], **half)
        found["gated delta rule (fla)"] = milliseconds(
            lambda: chunk_gated_delta_rule(q, k, v, decay, beta, output_final_state=True), rounds
        )
    else:
        print("\nfla is not installed here (pip install fla-core), so its gated delta rule is not beside the scans")
    print("\n" + table(["neighbours, 63 s", "ms"], list(found.items())))
    return found


class LocalBlock(torch.nn.Module):
    """The products of CogVideoX-5B's block, attention within segments alone (the frames that they share left out): what
    TTT is added to."""

    def __init__(self):
        super().__init__()
        self.qkv, self.o = torch.nn.Linear(WIDTH, 3 * WIDTH), torch.nn.Linear(WIDTH, WIDTH)
        self.up, self.down = torch.nn.Linear(WIDTH, 4 * WIDTH), torch.nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor, between: Callable[[torch.Tensor], torch.Tensor] = lambda x: x) -> torch.Tensor:
        """X [1, L, C]; between: what comes after the attention's output projection."""
        parts = []
        for part in x.split(SEGMENT_TOKENS, 1):
            rows = self.qkv(F.layer_norm(part, (WIDTH,))).chunk(3, -1)
            q, k, v = (y.unflatten(-1, (HEADS, D)).transpose(1, 2) for y in rows)
            parts.append(self.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)))
        x = x + between(torch.cat(parts, 1))
        for part in x.split(SEGMENT_TOKENS, 1):
            part += self.down(F.gelu(self.up(F.layer_norm(part, (WIDTH,))), approximate="tanh"))
        return x


def blocks(rounds: int) -> dict[str, float]:
    """Milliseconds of a whole block of 63 s with local attention, and with TTT in both directions after it."""
    half = {"device": "cuda", "dtype": torch.bfloat16}
    layout = even_layout(TEXT, SEGMENTS, 12 * SEGMENTS + 1, *FRAME_TOKENS)
    x = torch.randn(1, layout.tokens, WIDTH, **half)
    local, found = LocalBlock().to(**half), {}
    rounds = min(rounds, 5)
    found["block, local attention"] = milliseconds(lambda: local(x), rounds)
    for kind, chunk, rate in ((MLP, 64, 0.1), (LINEAR, 16, 1.0)):
        ttt = TTTBlock(TTTConfig(kind, WIDTH, HEADS, chunk, rate), **half)
        for name, slab in (("one piece", None), ("slabs of 32768", 32_768)):

            def both(y, ttt=ttt, slab=slab):
                return ttt(y, layout, slab_tokens=slab, in_place=True)

            found[f"TTT {kind}, both directions, {name}"] = milliseconds(lambda both=both: both(x.clone()), rounds)
            found[f"block with TTT {kind}, {name}"] = milliseconds(lambda both=both: local(x, both), rounds)
    print("\n" + table(["whole layers, 63 s", "ms"], list(found.items())))
    return found


def run(rounds: int) -> dict[str, dict]:
    """Everything, in the order of the table; the figures by section."""
    figures = {
        "errors": check(),
        "ceilings": ceilings(rounds),
        "scans": scans(rounds),
        "settings": settings(rounds),
        "without kernels": without_kernels(rounds),
        "neighbours": neighbours(rounds),
        "blocks": blocks(rounds),
    }
    mlp = figures["scans"]["TTT-MLP, chunk 64, 63 s, batch 1"]["ms"]
    over = figures["without kernels"]["~ TTT-MLP, reference, compiled"] / mlp
    block = figures["blocks"][f"block with TTT {MLP}, one piece"] / figures["blocks"]["block, local attention"]
    print(
        f"\nTTT-MLP, 63 s: {mlp:.1f} ms (asked on an H200: at most {ASKED_MLP_MS:.0f}); the compiled reference takes "
        f"{over:.1f} times as long (at least {ASKED_OVER_COMPILED:.0f}); a block takes {block:.2f} times one with "
        f"local attention alone (at most {ASKED_BLOCK})"
    )
    return figures
