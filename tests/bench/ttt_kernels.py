"""How fast is a TTT scan, and what does it hold? Ratios that mean something on a CPU, and the table of a GPU.

    python dev.py bench ttt_kernels [--rounds 15] [--heads 48] [--no-compile] [--memory] [--json FILE]

On any machine: the primal form against the published dual form on the same tokens, in turn, as a ratio (1.54 is what
their products allow for the MLP; 1.35 is asked); how the time grows with length; the peak of the tensors alive while
one block of each kind reads a video slab by slab in place, next to reading it in one piece (a slab of LaCT is a chunk,
one of the sliding window a segment); --memory shows this alone. Where Triton is: every kernel compiled
for five generations of GPUs with its registers, spills and shared memory against the limits of
tests/kernels/compile_limits.py. With an NVIDIA GPU: the table of tests/bench/_ttt_gpu.py. Random inputs; --offset
chooses others.
"""

import itertools
import json
import statistics
import time
from collections.abc import Callable

import torch

from longreel.engine.ttt.block import TTTBlock
from longreel.engine.ttt.layer import GATED_DELTA, LACT, LINEAR, MLP, OWN, SLIDING_WINDOW, TTTConfig
from longreel.engine.ttt.order import even_layout
from longreel.kernels import scan
from longreel.kernels.reference_dual import scan_dual
from tests.bench_support import measuring, parser, table
from tests.kernels.compile_limits import CAPABILITIES, STACK_BYTES, complaints
from tests.kernels.scan_cases import relative_error, scan_case
from tests.kernels.triton_process import run_with_triton
from tests.live_bytes import LiveBytes

D = 64
KINDS = {"TTT-MLP, chunk 64": (True, 64), "TTT-Linear, chunk 64": (False, 64), "TTT-Linear, chunk 16": (False, 16)}
ASKED_PRIMAL, ASKED_LINEAR = 1.35, 0.95  # TTT-Linear may not be slower than its dual form, within what time varies
ASKED_GROWTH = (1.8, 2.3)
ASKED_FLAT = 1.02  # peak of the longest video over that of the shortest
LAYERS = {MLP: (64, 0.1), LINEAR: (16, 1.0), LACT: (3, 0.001), GATED_DELTA: (64, 1.0), SLIDING_WINDOW: (1, 1.0)}
SEGMENTS = 4, 8, 16
CHUNKS = 8


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_turn(works: list[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Times of each work, measured round by round in changing order, after one round to warm up."""
    times: list[list[float]] = [[] for _ in works]
    for number in range(rounds + 1):
        order = range(len(works)) if number % 2 else reversed(range(len(works)))
        for i in order:
            taken = seconds(works[i])
            if number:
                times[i].append(taken)
    return times


def verdict(right: bool) -> str:
    return "ok" if right else "MISSED"


def primal_against_dual(heads: int, rounds: int, seed: int) -> dict[str, dict]:
    found = {}
    for name, (mlp, chunk) in KINDS.items():
        case = scan_case(mlp, L=CHUNKS * chunk, H=heads, D=D, chunk=chunk, seed=seed)
        rates = case["eta"].transpose(1, 2).unflatten(2, (-1, 1, chunk)).expand(-1, -1, -1, chunk, -1).contiguous()
        whole = {key: x for key, x in case.items() if key not in ("eta", "chunk")}

        def primal(case=case):
            return scan(**case, backend="reference")[0]

        def dual(whole=whole, rates=rates):
            return scan_dual(**whole, eta=rates, eps=1e-6)[0]

        error = relative_error(primal(), dual())
        assert error < 1e-5, f"{name}: the two forms differ by {error:.1e}, so their times mean nothing"
        times = in_turn([primal, dual], rounds)
        ratios = [b / a for a, b in zip(*times, strict=False)]
        asked = ASKED_PRIMAL if mlp else ASKED_LINEAR
        found[name] = {
            "primal_ms": 1e3 * statistics.median(times[0]) / CHUNKS,
            "dual_ms": 1e3 * statistics.median(times[1]) / CHUNKS,
            "ratio": statistics.median(ratios),
            "lowest": min(ratios),
            "highest": max(ratios),
            "asked": asked,
            "right": statistics.median(ratios) >= asked,
        }
    rows = [
        [n, f["primal_ms"], f["dual_ms"], f["ratio"], f["lowest"], f["highest"], f["asked"], verdict(f["right"])]
        for n, f in found.items()
    ]
    titles = [f"{heads} heads, ms per chunk", "primal", "dual", "dual/primal", "lowest", "highest", "asked", ""]
    print(table(titles, rows))
    return found


def growth(heads: int, rounds: int, seed: int) -> dict[str, float]:
    """t(2n) / t(n) of TTT-MLP for n = 4, 8 and 16 chunks."""
    lengths = [4, 8, 16, 32]
    cases = [scan_case(True, L=64 * n, H=heads, D=D, chunk=64, seed=seed) for n in lengths]
    times = in_turn([lambda case=case: scan(**case, backend="reference") for case in cases], rounds)
    found = {}
    for (n, shorter), (m, longer) in itertools.pairwise(zip(lengths, times, strict=False)):
        found[f"{m} / {n} chunks"] = statistics.median(b / a for a, b in zip(shorter, longer, strict=False))
    low, high = ASKED_GROWTH
    print(
        "\n"
        + table(
            ["TTT-MLP, time of twice the tokens", "t(2n) / t(n)", f"asked {low} .. {high}"],
            [[name, ratio, verdict(low <= ratio <= high)] for name, ratio in found.items()],
        )
    )
    return found


def memory(seed: int) -> dict[str, dict]:
    """Peak bytes of the tensors that one block of each kind makes while it reads a video in place, in slabs, and in one
    piece where a kind can."""
    found = {}
    for kind, (chunk, base_rate) in LAYERS.items():
        torch.manual_seed(seed)
        trained = {} if kind in (MLP, LINEAR) else {"rates": OWN}
        config = TTTConfig(kind, width=256, heads=4, chunk=chunk, base_rate=base_rate, **trained)
        block, found[kind] = TTTBlock(config).requires_grad_(False), {}
        for segments in SEGMENTS:
            layout = even_layout(32, segments, 12 * segments + 1, 4, 4)
            x = torch.randn(1, layout.tokens, config.width)
            # The one thing that is held for the whole video: 4 bytes for each token and head, of 512 for its numbers.
            rates = 4 * config.heads * layout.tokens if trained == {} else 0
            peaks = {"less rates": -rates}
            for name, options in (("slabs", {"slab_tokens": 128, "in_place": True}), ("one piece", {})):
                y = x.clone()
                with LiveBytes(y, *block.parameters()) as alive:
                    block(y, layout, **options)
                peaks[name] = alive.peak
            peaks["less rates"] += peaks["slabs"]
            found[kind][str(layout.tokens)] = peaks
        flat = [peaks["less rates"] for peaks in found[kind].values()]
        found[kind]["flat"] = flat[-1] / flat[0]
    counts = [tokens for tokens in found[MLP] if tokens != "flat"]
    rows = [
        [kind]
        + [of_kind[tokens]["less rates"] / 1e6 for tokens in counts]
        + [of_kind[counts[-1]]["slabs"] / 1e6, of_kind[counts[-1]]["one piece"] / 1e6, of_kind["flat"]]
        + [verdict(of_kind["flat"] <= ASKED_FLAT)]
        for kind, of_kind in found.items()
    ]
    titles = ["peak MB beside the video, in slabs", *(f"{tokens} tokens" for tokens in counts)]
    print("\n" + table([*titles, "with rates", "one piece", "last / first", f"asked {ASKED_FLAT}"], rows))
    return found


def compiled() -> list[dict]:
    """Every kernel for every generation, about three minutes."""
    cases = [[*shape, dtype, at] for at in CAPABILITIES for shape in STACK_BYTES for dtype in ("bf16", "fp16")]
    reports = run_with_triton("tests.kernels.offline_compile", json.dumps(cases))
    rows = [
        [
            f"{r['kind']}, head dim {r['D']}, chunk {r['chunk']}, {r['dtype']}",
            f"sm_{r['capability']}",
            r["num_warps"],
            r["registers"],
            r["stack"],
            r["shared"],
            r["wgmma"] + r["mma"],
            "; ".join(complaints(r)) or "ok",
        ]
        for r in reports
    ]
    print("\n" + table(["compiled offline", "GPU", "warps", "registers", "stack B", "shared B", "products", ""], rows))
    return reports


def main() -> None:
    arguments = parser(__doc__.splitlines()[0], seeds=1)
    arguments.add_argument("--rounds", type=int, default=15, help="timed rounds")
    arguments.add_argument("--heads", type=int, default=48, help="heads of the timed scans")
    arguments.add_argument("--memory", action="store_true", help="the memory of layers alone")
    arguments.add_argument("--no-compile", action="store_true", help="do not compile kernels for other GPUs")
    options = arguments.parse_args()
    with measuring(options) as figures:
        for seed in range(options.offset, options.offset + options.seeds):
            figures[f"seed {seed}"] = found = {}
            if not options.memory:
                found["primal_against_dual"] = primal_against_dual(options.heads, options.rounds, seed)
                found["growth"] = growth(options.heads, options.rounds, seed)
            found["memory"] = memory(seed)
        if options.memory:
            return
        if not options.no_compile:
            figures["compiled"] = compiled()
        if torch.cuda.is_available():
            from tests.bench import _ttt_gpu

            figures["gpu"] = _ttt_gpu.run(options.rounds)
        else:
            print("\nno NVIDIA GPU here: the table of kernel times needs one, and runs by itself where there is one")


if __name__ == "__main__":
    main()
