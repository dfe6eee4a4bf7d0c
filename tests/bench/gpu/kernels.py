"""The TTT kernels: are they right, and how long do they take?

Shapes are CogVideoX-5B's, as in tests/bench/_ttt_gpu.py, which says how a check is made. A rehearsal interprets the
kernels on the CPU where Triton is there; Triton's interpreter computes bfloat16 wrongly, so there the reference stands
in for that dtype, and the figure "backend" says so. Where no kernel goes back, one passes forwards, and gradients are
the reference's.
"""

from typing import Any

import torch

from longreel.engine.ttt.block import TTTBlock
from longreel.engine.ttt.layer import LACT, OWN, TTTConfig
from longreel.engine.ttt.order import even_layout
from longreel.engine.ttt.weights import HEAD_WIDTH, PUBLISHED_CHUNK
from longreel.kernels import State, scan
from longreel.kernels.dispatch import choose_backend
from tests.bench.gpu.timing import device, milliseconds, peak, require_gpu
from tests.kernels.scan_cases import in_double, relative_error, scan_case

HEADS, D = 48, 64
CHUNK = {"mlp": 64, "linear": 16}
RATE = {"mlp": 0.1, "linear": 1.0}
OTHER_SHAPES = ((64, 16), (64, 64), (128, 16), (128, 64))  # (head dim, chunk) beside the published ones
LENGTHS = {"3 s": 18_048, "63 s": 351_168}
DTYPES_WITH_GRADIENTS = (torch.bfloat16, torch.float32)
TOLERANCE = {"bfloat16": 1e-2, "float16": 2e-3, "float32": 2e-5}


def placed(case: dict[str, Any]) -> dict[str, Any]:
    """The same case on the device that is measured."""
    moved = {name: x.to(device()) if isinstance(x, torch.Tensor) else x for name, x in case.items()}
    return moved | {"state": State(*(x.to(device()) for x in case["state"].tensors()))}


def backend_for(dtype: str, rehearse: bool) -> str:
    """What is measured: the kernel, but for bfloat16 in the interpreter."""
    return "reference" if rehearse and dtype == "bfloat16" else "triton"


def errors(record: Any, rehearse: bool, kind: str, dtype: str) -> None:
    """Record worst relative errors of outputs and of what was learned against float64, the published shape first."""
    require_gpu(rehearse)
    backend = backend_for(dtype, rehearse)
    record("backend", backend)
    record("allowed", TOLERANCE[dtype])
    published = (D, CHUNK[kind])
    for head_dim, chunk in (published,) if rehearse else dict.fromkeys((published, *OTHER_SHAPES)):
        name = f"head dim {head_dim}, chunk {chunk}"
        L = (2 if rehearse else 40) * chunk + 5
        sizes = {"B": 1, "H": 1} if rehearse else {"B": 2, "H": 4}
        case = placed(scan_case(kind == "mlp", L=L, D=head_dim, chunk=chunk, dtype=getattr(torch, dtype), **sizes))
        try:
            choose_backend(case["q"], case["state"], chunk, False, backend)
        except ValueError as error:
            if (head_dim, chunk) == published:
                raise
            record(name, str(error))
            continue
        order = torch.randperm(L, device=device())
        out, end = scan(**case, index=order, backend=backend)
        want, want_end = scan(**in_double(case), index=order, backend="reference")
        starts = case["state"].tensors()
        learned = [
            relative_error(a - s, b - s) for a, b, s in zip(end.tensors(), want_end.tensors(), starts, strict=True)
        ]
        again, _ = scan(**case, index=order, backend=backend)
        figures = {"out": relative_error(out, want), "learned": max(learned), "repeats": torch.equal(out, again)}
        record(name, figures)
        if not max(figures["out"], figures["learned"]) < TOLERANCE[dtype] or not figures["repeats"]:
            raise AssertionError(f"{name}: {figures}, allowed {TOLERANCE[dtype]}, and two runs have to be equal")


def drawn(kind: str, B: int, L: int, heads: int) -> dict[str, Any]:
    """A scan's inputs in bfloat16 with rates as published, made on the device: a minute of video is gigabytes."""
    M = 4 * D if kind == "mlp" else D

    def normal(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.randn(*shape, device=device(), dtype=dtype)

    weights = [0.1 * normal(B, heads, D, M), 0.1 * normal(B, heads, 1, M)]
    weights += [0.1 * normal(B, heads, M, D), 0.1 * normal(B, heads, 1, D)] if kind == "mlp" else []
    q, k, v = (normal(B, L, heads, D, dtype=torch.bfloat16) for _ in range(3))
    return {
        "q": torch.nn.functional.normalize(q, dim=-1), "k": torch.nn.functional.normalize(k, dim=-1), "v": v,
        "eta": RATE[kind] / D / CHUNK[kind] * torch.rand(B, L, heads, device=device()),
        "ln_weight": 1 + 0.1 * normal(heads, D), "ln_bias": 0.1 * normal(heads, D),
        "state": State(*weights), "chunk": CHUNK[kind],
    }  # fmt: skip


def times(record: Any, rehearse: bool, kind: str) -> None:
    """Record one direction's median milliseconds and bytes: the kernel at both lengths and batches, the reference."""
    require_gpu(rehearse)
    heads = 2 if rehearse else HEADS
    for length, L in LENGTHS.items():
        for B in (1, 2):
            case = drawn(kind, B, 200 if rehearse else L, heads)
            backend = backend_for("bfloat16", rehearse)
            with peak() as used:
                scan(**case, backend=backend)
            ms = milliseconds(lambda case=case, backend=backend: scan(**case, backend=backend), 3 if rehearse else 10)
            record(f"{backend}, {length}, batch {B}", {"ms": ms, "us per chunk": 1e3 * ms / (L / CHUNK[kind]), **used})
            del case
    case = drawn(kind, 1, 200 if rehearse else LENGTHS["3 s"], heads)
    record("reference beside it, 3 s, batch 1", {"ms": milliseconds(lambda: scan(**case, backend="reference"), 3)})


def gradients(record: Any, rehearse: bool) -> None:
    """Record the gradients' worst relative error against float64, and which backend has computed them."""
    require_gpu(rehearse)
    for kind, chunk in CHUNK.items():
        for dtype in DTYPES_WITH_GRADIENTS:
            L, heads = (chunk + 5, 1) if rehearse else (3 * chunk, 2)
            case = placed(scan_case(kind == "mlp", L=L, H=heads, D=D, chunk=chunk, dtype=dtype))
            found, backend = gradients_of(case)
            wanted, _ = gradients_of(in_double(case))
            worst = max(relative_error(a, b) for a, b in zip(found, wanted, strict=True))
            record(f"{kind} {str(dtype)[6:]}", {"backend": backend, "worst": worst})


def gradients_of(case: dict[str, Any]) -> tuple[list[torch.Tensor], str]:
    """Gradients of the outputs' mean square by q, k, v and rates, and the backend that served them."""
    with torch.enable_grad():
        leaves = {name: case[name].detach().requires_grad_() for name in ("q", "k", "v", "eta")}
        case = {**case, **leaves}
        out, _ = scan(**case)
        out.double().square().mean().backward()
    forwards, back = (choose_backend(case["q"], case["state"], case["chunk"], grad) for grad in (False, True))
    return [x.grad for x in leaves.values()], f"{forwards} forwards, {back} back"


def training(record: Any, rehearse: bool) -> None:
    """Record milliseconds and bytes of 3 s in one direction, forwards and back: as is chosen, and without kernels."""
    require_gpu(rehearse)
    for kind in CHUNK:
        case = drawn(kind, 1, 40 if rehearse else LENGTHS["3 s"], 2 if rehearse else HEADS)
        for backend in (None, "reference"):

            def there_and_back(case=case, backend=backend) -> None:
                with torch.enable_grad():
                    leaves = {name: case[name].detach().requires_grad_() for name in ("q", "k", "v", "eta")}
                    scan(**{**case, **leaves}, backend=backend)[0].float().square().mean().backward()

            with peak() as used:
                there_and_back()
            record(f"{kind}, {backend or 'as chosen'}", {"ms": milliseconds(there_and_back, 1), **used})


def block(record: Any, rehearse: bool) -> None:
    """Record a whole TTT block's milliseconds in both directions on 63 s, in slabs and in place, and LaCT's; and of
    LaCT on 3 s forwards and back, each chunk computed again.
    """
    require_gpu(rehearse)
    heads, segments, grid = (2, 2, (4, 4)) if rehearse else (HEADS, 21, (30, 45))
    layout = even_layout(10 if rehearse else 458, segments, 12 * segments + 1, *grid)
    options = {"device": device(), "dtype": torch.bfloat16}
    x = torch.randn(1, layout.tokens, heads * D, **options)
    configs = [TTTConfig(kind, heads * D, heads, chunk, RATE[kind]) for kind, chunk in CHUNK.items()]
    wide = TTTConfig(LACT, heads * D, max(1, heads * D // HEAD_WIDTH[LACT]), PUBLISHED_CHUNK[LACT], 1e-3, rates=OWN)
    for config in (*configs, wide):
        layer = TTTBlock(config, **options)

        def both(layer=layer) -> None:
            layer(x.clone(), layout, slab_tokens=32_768, in_place=True)

        with torch.inference_mode(), peak() as used:
            both()
        with torch.inference_mode():
            record(config.kind, {"ms": milliseconds(both, 3), "tokens": layout.tokens, **used})
    short = even_layout(10 if rehearse else 498, 1, 13, *grid)
    layer, x = TTTBlock(wide, **options), torch.randn(1, short.tokens, heads * D, **options)

    def there_and_back() -> None:
        layer(x.clone().requires_grad_(), short).float().square().mean().backward()

    with peak() as used:
        there_and_back()
    record(f"{LACT}, forwards and back", {"ms": milliseconds(there_and_back, 3), "tokens": short.tokens, **used})
