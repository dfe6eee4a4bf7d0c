"""What a TTT layer costs beside its scan as one kernel: learning and reading apart, projections, blocks, neighbours.

Shapes are CogVideoX-5B's, as in kernels.py. Goals on an H100 or H200 at 63 s with 48 heads: the scan in 40 ms, at most
1.4 times the gated delta rule, a block with TTT at most 1.8 times one with local attention alone, 5 times faster than
full attention. A rehearsal interprets the kernels in float16 at toy size, where milliseconds mean nothing.
"""

import importlib.util
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F

from longreel.engine.ttt.block import TTTBlock
from longreel.engine.ttt.layer import MLP, OWN, TTTConfig
from longreel.engine.ttt.order import even_layout
from longreel.kernels import first_use, tail
from longreel.kernels.inputs import ScanInputs
from tests.bench.gpu.kernels import CHUNK, HEADS, LENGTHS, RATE, TOLERANCE, D, drawn, placed
from tests.bench.gpu.timing import device, milliseconds, peak, require_gpu
from tests.kernels.scan_cases import in_double, relative_error, scan_case

SEGMENT_TOKENS, SEGMENTS = 18_048, 21  # 3 s with its text, and how many of them are a minute
GRADIENTS = ("q", "k", "v", "eta", "ln_weight", "ln_bias", "W1", "b1", "W2", "b2")
FULL_TOKENS = 65_536  # of full attention that is timed; a minute is scaled from it


def inputs_of(case: dict[str, Any], order: torch.Tensor | None = None) -> ScanInputs:
    """A case of kernels.scan as the launcher takes it."""
    return ScanInputs(**case, index=order, eps=1e-6)


def first_contact(record: Any, rehearse: bool) -> None:
    """Record for each kernel what a user's first scan would be told: a reason, or that it agrees."""
    from longreel.kernels import triton_backward, triton_launch

    require_gpu(rehearse)
    dtypes = (torch.float16, torch.float32) if rehearse else (torch.bfloat16, torch.float16, torch.float32)
    for dtype in dtypes:
        for kind, chunk in CHUNK.items():
            case = placed(scan_case(kind == "mlp", L=chunk, H=2 if rehearse else HEADS, D=D, chunk=chunk, dtype=dtype))
            for name, order in (("", None), (", with an order", torch.arange(chunk, device=device()))):
                found = first_use.obstacle(inputs_of(case, order), triton_launch.scan)
                record(f"scan {kind}, {str(dtype)[6:]}{name}", found or "agrees")
            if dtype != torch.float32:
                found = first_use.obstacle_going_back(inputs_of(case), triton_backward.back)
                record(f"gradients of {kind}, {str(dtype)[6:]}", found or "agrees")
        q = torch.zeros(1, 1, 2 if rehearse else HEADS, D, dtype=dtype, device=device())
        for way in ("triton",) if rehearse else ("triton", "compiled"):
            record(f"projections by {way}, {str(dtype)[6:]}", tail.obstacle_to(way, q) or "agrees")


def apart(record: Any, rehearse: bool) -> None:
    """Record errors and milliseconds of TTT-MLP by two kernels: alone, together, and as one, one direction."""
    from longreel.kernels import triton_apart, triton_launch

    require_gpu(rehearse)
    dtype, heads = torch.float16 if rehearse else torch.bfloat16, 2 if rehearse else HEADS
    L = 69 if rehearse else 5 * 64 + 5
    case = placed(scan_case(True, B=1 if rehearse else 2, L=L, H=1 if rehearse else 4, D=D, chunk=64, dtype=dtype))
    order = torch.randperm(L, device=device())
    for name, choice in (("apart", True), ("as one", False)):
        out, end = triton_launch.scan(inputs_of(case, order), apart=choice)
        want, want_end = _exact(case, order)
        starts = case["state"].tensors()
        learned = [
            relative_error(a - s, b - s) for a, b, s in zip(end.tensors(), want_end.tensors(), starts, strict=True)
        ]
        figures = {"out": relative_error(out, want), "learned": max(learned)}
        record(f"errors, {name}", figures)
        if not max(figures.values()) < TOLERANCE[str(dtype)[6:]]:
            raise AssertionError(f"{name}: {figures}, allowed {TOLERANCE[str(dtype)[6:]]}")
    for length, tokens in LENGTHS.items():
        for B in (1,) if rehearse else (1, 2):
            given = inputs_of(_half(drawn("mlp", B, 35 if rehearse else tokens, heads), dtype))
            rounds = 1 if rehearse else 5
            for name, choice in (("apart", True), ("as one", False)):
                with peak() as used:
                    triton_launch.scan(given, apart=choice)
                ms = milliseconds(lambda given=given, choice=choice: triton_launch.scan(given, apart=choice), rounds)
                record(f"{name}, {length}, batch {B}", {"ms": ms, **used})
            _alone(record, f"{length}, batch {B}", given, dtype, rounds, triton_apart)
            del given


def _exact(case: dict[str, Any], order: torch.Tensor) -> tuple:
    from longreel.kernels import scan

    return scan(**in_double(case), index=order, backend="reference")


def _half(case: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    return case | {name: case[name].to(dtype) for name in "qkv"}


def _alone(record: Any, name: str, given: ScanInputs, dtype: torch.dtype, rounds: int, triton_apart: Any) -> None:
    """Record the learner and the reader of one piece, each without the other, as milliseconds of the whole length."""
    from triton import knobs

    chunks = triton_apart.piece_of(given)
    tokens = min(given.q.shape[1], chunks * given.chunk)
    out, end, kept = triton_apart.results(given, chunks)
    approx = dtype != torch.float32 and not knobs.runtime.interpret
    major = torch.cuda.get_device_capability()[0] if given.q.is_cuda else 0
    launches = (
        triton_apart.learning(given, major, approx, 0, tokens, list(given.state.tensors()), end, kept[0]),
        triton_apart.reading_of(given, approx, 0, tokens, kept[0], out),
    )
    scale = given.q.shape[1] / tokens
    found = {
        part: scale * milliseconds(launch.run, rounds) for part, launch in zip(("learn", "read"), launches, strict=True)
    }
    record(f"~ each alone, {name}", found)


def going_back(record: Any, rehearse: bool) -> None:
    """Record errors of the gradients by kernels, and milliseconds and bytes of one direction of 3 s: there and back by
    kernels, there by a kernel and back by plain torch, and each kernel of TTT-MLP's way back alone."""
    from longreel.kernels import differentiable, triton_backward

    require_gpu(rehearse)
    dtype, heads = (torch.float16, 1) if rehearse else (torch.bfloat16, HEADS)
    for kind, chunk in CHUNK.items():
        sizes = {"B": 1, "L": chunk + 5, "H": 1} if rehearse else {"B": 2, "L": 3 * chunk + 5, "H": 4}
        case = placed(scan_case(kind == "mlp", D=D, chunk=chunk, dtype=dtype, **sizes))
        found = _gradients(inputs_of(case), triton_backward.back)
        wanted = _gradients(inputs_of(in_double(case)), differentiable.by_reference)
        errors = {name: relative_error(a, b) for name, a, b in zip(GRADIENTS, found, wanted, strict=False)}
        record(f"errors, {kind}", errors)
        if not max(errors.values()) < TOLERANCE[str(dtype)[6:]]:
            raise AssertionError(f"gradients of {kind}: {errors}, allowed {TOLERANCE[str(dtype)[6:]]}")
    for kind, chunk in CHUNK.items():
        given = inputs_of(_half(drawn(kind, 1, chunk + 3 if rehearse else LENGTHS["3 s"], heads), dtype))
        _there_and_back(record, kind, given, rehearse)
        if kind == "mlp":
            _each_alone(record, given, rehearse)


def by_graph(record: Any, rehearse: bool) -> None:
    """Record milliseconds and bytes of going back through 16 chunks of TTT-MLP in plain torch, operation by operation
    and as a CUDA graph, and the graph's worst error against the former. A rehearsal has no CUDA, and no graph."""
    from longreel.kernels import differentiable, graphed

    require_gpu(rehearse)
    given = inputs_of(drawn("mlp", 1, 2 * 64 if rehearse else 16 * 64, 1 if rehearse else HEADS))
    ways = {"plain torch": differentiable.by_reference} | ({} if rehearse else {"CUDA graph": graphed.Graphed()})
    found = {}
    for name, back in ways.items():
        with peak() as used:
            found[name] = _gradients(given, back)
        record(name, {"ms": milliseconds(lambda back=back: _gradients(given, back), 1 if rehearse else 3), **used})
    if not rehearse:
        record(
            "worst", max(relative_error(a, b) for a, b in zip(found["CUDA graph"], found["plain torch"], strict=True))
        )


def _there_and_back(record: Any, kind: str, given: ScanInputs, rehearse: bool) -> None:
    """Record a scan with gradients, by kernels alone and with plain torch on the way back."""
    from longreel.kernels import differentiable, triton_backward, triton_launch

    ways = {"by kernels": triton_backward.back, "back by plain torch": differentiable.by_reference}
    for name, back in ways.items():

        def work(back: Any = back) -> None:
            leaves = [x.detach().requires_grad_() for x in (given.q, given.k, given.v, given.eta)]
            with torch.enable_grad():
                learned = replace(given, q=leaves[0], k=leaves[1], v=leaves[2], eta=leaves[3])
                out, _ = differentiable.scan(learned, 16, triton_launch.scan, back)
                out.float().square().mean().backward()

        with peak() as used:
            work()
        rounds = 3 if back is triton_backward.back and not rehearse else 1
        record(f"{kind}, {name}", {"ms": milliseconds(work, rounds), **used})


def _each_alone(record: Any, given: ScanInputs, rehearse: bool) -> None:
    """Record the three kernels of TTT-MLP's way back, each for a group of 16 chunks, scaled to the whole length."""
    from triton import knobs

    from longreel.kernels import triton_backward

    group = replace(given, **{name: getattr(given, name)[:, : 16 * given.chunk] for name in ("q", "k", "v", "eta")})
    major = torch.cuda.get_device_capability()[0] if given.q.is_cuda else 0
    above = torch.zeros(group.q.shape, dtype=group.q.dtype, device=group.q.device)
    launches = triton_backward.planned(group, above, major, not knobs.runtime.interpret)[:3]
    names = ("learn again", "back through reading", "back through learning")
    scale, rounds = given.q.shape[1] / group.q.shape[1], 1 if rehearse else 3
    alone = {name: scale * milliseconds(launch.run, rounds) for name, launch in zip(names, launches, strict=True)}
    record("~ mlp, each kernel of the way back alone", alone)


def _gradients(given: ScanInputs, back: Any) -> tuple[torch.Tensor, ...]:
    """Gradients of random numbers that outputs and last weights are weighed with."""
    generator = torch.Generator().manual_seed(1)
    over = [torch.randn(x.shape, generator=generator).to(x) for x in (given.q, *given.state.tensors())]
    return back(given, over[0], tuple(over[1:]))


def projections(record: Any, rehearse: bool) -> None:
    """Record milliseconds of the projections' tail on 3 s: plain torch, one pass, compiled."""
    require_gpu(rehearse)
    S, heads, dtype = (40, 2, torch.float16) if rehearse else (SEGMENT_TOKENS, HEADS, torch.bfloat16)
    tokens = [torch.randn(1, S, heads, D, device=device(), dtype=dtype) for _ in range(3)]
    angles = torch.randn(S, D // 2, device=device())
    norm = [torch.randn(heads, D, device=device(), dtype=dtype) for _ in range(2)]
    with torch.no_grad():
        for way in ("reference", "triton") if rehearse else ("reference", "triton", "compiled"):

            def work(way=way):
                tail.finish(*tokens, angles, *norm, backend=way)

            record(way, {"ms": milliseconds(work, 1 if rehearse else 10), "tokens": S})


def neighbours(record: Any, rehearse: bool) -> None:
    """Record milliseconds of other ways to see a minute, one direction: attention in segments, full, gated delta."""
    require_gpu(rehearse)
    heads, segment, full = (2, 64, 128) if rehearse else (HEADS, SEGMENT_TOKENS, FULL_TOKENS)
    options = {"device": device(), "dtype": torch.bfloat16}
    rounds = 1 if rehearse else 5
    for name, tokens, scale in (
        ("local attention", segment, SEGMENTS),
        ("~ full attention", full, (LENGTHS["63 s"] / full) ** 2),
    ):
        q, k, v = (torch.randn(1, heads, tokens, D, **options) for _ in range(3))
        ms = milliseconds(lambda q=q, k=k, v=v: F.scaled_dot_product_attention(q, k, v), rounds)
        record(name, {"ms": scale * ms, "timed tokens": tokens})
    if importlib.util.find_spec("fla") is None:
        record("gated delta rule (fla)", "fla-core is not installed here")
        return
    from fla.ops.gated_delta_rule import chunk_gated_delta_rule

    tokens = 128 if rehearse else LENGTHS["63 s"]
    q, k, v = (torch.randn(1, tokens, heads, D, **options) for _ in range(3))
    q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    decay, beta = F.logsigmoid(torch.randn(q.shape[:3], **options)), torch.rand(q.shape[:3], **options)
    ms = milliseconds(lambda: chunk_gated_delta_rule(q, k, v, decay, beta, output_final_state=True), rounds)
    record("gated delta rule (fla)", {"ms": ms})


def blocks(record: Any, rehearse: bool) -> None:
    """Record milliseconds of a block's attention and MLP on 63 s with local attention alone, and with TTT after it; of
    that, with the projections' tail in plain torch; and peak bytes of TTT by length."""
    require_gpu(rehearse)
    width, segments, grid, text = (2 * D, 2, (4, 4), 10) if rehearse else (HEADS * D, SEGMENTS, (30, 45), 458)
    options = {"device": device(), "dtype": torch.bfloat16}
    layout = even_layout(text, segments, 12 * segments + 1, *grid)
    x = torch.randn(1, layout.tokens, width, **options)
    local, rounds = _LocalBlock(width, -(-layout.tokens // segments)).to(**options), 1 if rehearse else 3
    ttt = TTTBlock(TTTConfig(MLP, width, width // D, 64, RATE["mlp"], rates=OWN), **options)
    slab = 64 if rehearse else 18_048

    backend = "reference" if rehearse else None  # interpreting two directions takes a minute

    def both(y: torch.Tensor) -> torch.Tensor:
        return ttt(y, layout, slab_tokens=slab, in_place=True, backend=backend)

    with torch.inference_mode():
        alone = milliseconds(lambda: local(x), rounds)
        record("local attention alone", {"ms": alone})
        with peak() as used:
            both(x.clone())
        with_ttt = milliseconds(lambda: local(x, both), rounds)
        record("with TTT", {"ms": with_ttt, "times local alone": with_ttt / alone, **used})
        for part in (4, 2):
            shorter = even_layout(text, max(1, segments // part), 12 * max(1, segments // part) + 1, *grid)
            y = torch.randn(1, shorter.tokens, width, **options)
            with peak() as used:
                ttt(y, shorter, slab_tokens=slab, in_place=True, backend=backend)
            record(f"peak, 1/{part} of the length", {"tokens": shorter.tokens, **used})


class _LocalBlock(torch.nn.Module):
    """The products of CogVideoX-5B's block with attention within segments: what TTT is added to."""

    def __init__(self, width: int, segment: int):
        super().__init__()
        self.width, self.segment = width, segment
        self.qkv, self.o = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
        self.up, self.down = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor, between: Any = None) -> torch.Tensor:
        """Evaluate x [1, L, C]; between: what comes after the attention's output projection."""
        parts = []
        for part in x.split(self.segment, 1):
            rows = self.qkv(F.layer_norm(part, (self.width,))).chunk(3, -1)
            q, k, v = (y.unflatten(-1, (-1, D)).transpose(1, 2) for y in rows)
            parts.append(self.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)))
        attended = torch.cat(parts, 1)
        x = x + (attended if between is None else between(attended))
        for part in x.split(self.segment, 1):
            part += self.down(F.gelu(self.up(F.layer_norm(part, (self.width,))), approximate="tanh"))
        return x
