"""The Triton kernels on a CPU, in Triton's interpreter, against the reference in float64: the edges of a scan.

    TRITON_INTERPRET=1 LONGREEL_TTT_BACKEND=triton python -m tests.kernels.interpreted_cases [WORDS]
        -> one JSON line per case, or per case whose name holds the words: its name, and what is wrong or null

It is a program, because the interpreter must be chosen before Triton is imported and for the whole process;
test_triton_interpreter.py runs it once. The interpreter proves indexing and arithmetic, not races, layouts or
registers. It has no bfloat16, so float32 and float16 are compared. Outputs start as NaN: what a kernel does not write
shows.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import torch

from longreel.kernels import State, differentiable, dispatch, first_use, reference, scan, tail
from longreel.kernels.inputs import ScanInputs
from tests.golden.test_golden import answer_of, answered_and_wanted, golden_files, golden_folder
from tests.kernels.scan_cases import in_double, relative_error, scan_case

TOLERANCE = {torch.float32: 2e-5, torch.float16: 2e-3}
TINY_RATE = 5e-5  # what turns the other cases' learning rates into about 2e-6, as small as published ones become

KERNELS = {"linear": (False, (64, 128)), "mlp": (True, (64,)), "wide mlp": (True, (128,))}  # is MLP, head dims

Case = Callable[[], None]


def poisoned(*shape: Any, **options: Any) -> torch.Tensor:
    """torch.empty with the worst that may be in it."""
    return torch.zeros(*shape, **options).fill_(float("nan"))


def near(got: tuple[torch.Tensor, State], want: tuple[torch.Tensor, State], start: State, tolerance: float) -> None:
    """Compare outputs, and what each weight learned: a wrong update hides behind the residual in the outputs."""
    error = relative_error(got[0], want[0])
    assert error < tolerance, f"out is off by {error:.1e}, allowed {tolerance:.0e}"
    for name, a, b, zero in zip(
        ("W1", "b1", "W2", "b2"), got[1].tensors(), want[1].tensors(), start.tensors(), strict=False
    ):
        error = relative_error(a - zero, b - zero)
        assert error < tolerance, f"what {name} learned is off by {error:.1e}, allowed {tolerance:.0e}"


def kernel_equals_reference(case: dict[str, Any], **more: Any) -> None:
    got = scan(**case, **more, backend="triton")
    assert got[0].dtype == case["q"].dtype
    near(got, scan(**in_double(case), **more, backend="reference"), case["state"], TOLERANCE[case["q"].dtype])


def heads_of(mlp: bool, D: int) -> int:
    """One of the wide MLP, of which a chunk of a head takes up to a second: two are in all cases of one video, and in
    `any_strides` of two."""
    return 1 if mlp and D == 128 else 2


def permuted(tokens: int) -> torch.Tensor:
    return torch.randperm(tokens, generator=torch.Generator().manual_seed(3))


def with_a_tail(mlp: bool, D: int, chunk: int, dtype: torch.dtype) -> None:
    case = scan_case(mlp, B=2, L=2 * chunk + 5, H=heads_of(mlp, D), D=D, chunk=chunk, dtype=dtype)
    kernel_equals_reference(case, index=permuted(2 * chunk + 5).int())


def reversed_order(mlp: bool, D: int) -> None:
    case = scan_case(mlp, L=40, D=D, chunk=16)
    kernel_equals_reference(case, index=torch.arange(39, -1, -1))


def order_with_gaps(mlp: bool, D: int) -> None:
    case = scan_case(mlp, L=50, D=D, chunk=16)
    index = permuted(50)[:37]
    absent = sorted(set(range(50)) - set(index.tolist()))
    out, _ = scan(**case, index=index, backend="triton")
    assert not out[:, absent].any(), "a place that is not in the index was written"
    for name in "qkv":
        case[name][:, absent] = 1e4  # and must not be read
    again, _ = scan(**case, index=index, backend="triton")
    assert torch.equal(out, again), "a token that is not in the index was read"


def slabs(mlp: bool, D: int) -> None:
    case = scan_case(mlp, B=2, L=56, H=heads_of(mlp, D), D=D, chunk=16)
    outs, state = [], case["state"]
    for start, end in ((0, 32), (32, 56)):
        slab = {name: case[name][:, start:end] for name in ("q", "k", "v", "eta")}
        out, state = scan(**{**case, **slab, "state": state}, backend="triton")
        outs.append(out)
    whole = scan(**case, backend="triton")
    assert torch.equal(torch.cat(outs, 1), whole[0]), "two slabs differ from one scan"
    assert all(torch.equal(a, b) for a, b in zip(state.tensors(), whole[1].tensors(), strict=True)), (
        "the carried state differs"
    )


def tail_reads_nothing_behind_it(mlp: bool, D: int) -> None:
    """The tokens behind the tail are another slab's, and full of NaN."""
    case = scan_case(mlp, L=64, D=D, chunk=16)
    for name in ("q", "k", "v", "eta"):
        case[name][:, 39:] = float("nan")
    cut = {name: case[name][:, :39] for name in ("q", "k", "v", "eta")}  # views of the longer tensors
    kernel_equals_reference({**case, **cut})


def fewer_tokens_than_a_chunk(mlp: bool, D: int) -> None:
    kernel_equals_reference(scan_case(mlp, L=3, D=D, chunk=64))


def no_tokens(mlp: bool, D: int) -> None:
    case = scan_case(mlp, L=16, D=D, chunk=16)
    nothing = {name: case[name][:, :0] for name in ("q", "k", "v", "eta")}
    out, state = scan(**{**case, **nothing}, backend="triton")
    assert out.shape == (1, 0, 2, D)
    assert all(torch.equal(a, b) for a, b in zip(state.tensors(), case["state"].tensors(), strict=True))


def any_strides(mlp: bool, D: int) -> None:
    """`q`, k, v as slices of one projection, head-major k, a q whose numbers are not neighbours, an expanded state."""
    case = scan_case(mlp, B=2, L=20, D=D, chunk=16)
    joint = torch.cat([case["q"], case["k"], case["v"]], -1)  # [B, L, H, 3 D]
    q, k, v = joint.split(D, -1)
    k = k.transpose(1, 2).contiguous().transpose(1, 2)
    q = q.transpose(2, 3).contiguous().transpose(2, 3)
    first = [x[:1].expand(2, *x.shape[1:]) for x in case["state"].tensors()]
    eta = case["eta"].mT.contiguous().mT
    kernel_equals_reference({**case, "q": q, "k": k, "v": v, "eta": eta, "state": State(*first)})


def eps(mlp: bool, D: int, value: float) -> None:
    """Where the inner network's output hardly varies, eps decides."""
    case = scan_case(mlp, L=20, D=D, chunk=16)
    small = [x * 0.02 for x in case["state"].tensors()]
    kernel_equals_reference({**case, "state": State(*small)}, eps=value)


def tiny_rates_in_float16(mlp: bool, D: int) -> None:
    """Learning rate times gradient is below float16's normal numbers here."""
    case = scan_case(mlp, L=32, D=D, chunk=16, dtype=torch.float16)
    kernel_equals_reference({**case, "eta": case["eta"] * TINY_RATE})


def slices_of_hopper() -> None:
    from longreel.kernels import triton_launch, triton_mlp_wide  # imports Triton

    rows = triton_mlp_wide.slice_rows(9)
    assert rows != triton_mlp_wide.slice_rows(0), "the other cases have the same slices"
    with mock.patch.object(triton_launch, "slice_rows", lambda major: rows):
        with_a_tail(True, 128, 64, torch.float32)


def right_at_first_use(mlp: bool, D: int) -> None:
    """What a user's first scan is preceded by: two chunks and a tail, which have to agree."""
    from longreel.kernels import triton_launch

    for index in (None, torch.arange(16).int()):
        inputs = ScanInputs(**scan_case(mlp, L=16, H=1, D=D, chunk=16), index=index, eps=1e-6)
        found = first_use.obstacle(inputs, triton_launch.scan)
        assert found is None, found


class Late:
    """A second stream at its slowest: what is asked of it happens when somebody waits for it, and not before."""

    def __init__(self):
        self.asked: list[Callable[[], None]] = []

    def run(self, work: Callable[[], None]) -> int:
        self.asked.append(work)
        return len(self.asked)

    def wait(self, done: int) -> None:
        for place, work in enumerate(self.asked[:done]):
            work()
            self.asked[place] = lambda: None


def learned_and_read_apart(chunk: int, dtype: torch.dtype, piece: int, major: int) -> None:
    """Four chunks and a tail in pieces of `piece`, of which the weights of two are kept: read too late, they are the
    next ones'."""
    from longreel.kernels import triton_apart

    L = 4 * chunk + 3
    case = scan_case(True, B=2, L=L + 4, H=2 if chunk == 16 else 1, D=64, chunk=chunk, dtype=dtype)
    index = permuted(L + 4)[:L].int()
    got = triton_apart.scan(ScanInputs(**case, index=index, eps=1e-6), major, False, Late(), piece)
    near(got, scan(**in_double(case), index=index, backend="reference"), case["state"], TOLERANCE[dtype])


def apart_with_odd_strides() -> None:
    """Head-major k, v of a joint projection, q and rates across, an expanded start, another eps, no order."""
    from longreel.kernels import triton_apart

    case = scan_case(True, B=2, L=37, D=64, chunk=16)
    q, _, v = torch.cat([case["q"], case["k"], case["v"]], -1).split(64, -1)
    q = q.transpose(2, 3).contiguous().transpose(2, 3)  # whose numbers are not neighbours
    k, eta = case["k"].transpose(1, 2).contiguous().transpose(1, 2), case["eta"].mT.contiguous().mT
    start = State(*(x[:1].expand(2, *x.shape[1:]) for x in case["state"].tensors()))
    case |= {"q": q, "k": k, "v": v, "eta": eta, "state": start}
    got = triton_apart.scan(ScanInputs(**case, index=None, eps=1e-3), 9, False, Late(), 2)
    near(got, scan(**in_double(case), eps=1e-3, backend="reference"), start, TOLERANCE[torch.float32])


def apart_only_in_16_bits() -> None:
    """What learning float32 takes no GPU has, where the one kernel fits."""
    from longreel.kernels import triton_apart

    for dtype in TOLERANCE:
        inputs = ScanInputs(**scan_case(True, L=16, D=64, chunk=16, dtype=dtype), index=None, eps=1e-6)
        assert triton_apart.is_worth_it(inputs, 132) == (dtype == torch.float16)
        assert not triton_apart.is_worth_it(inputs, 1)


def apart_without_tokens() -> None:
    from longreel.kernels import triton_apart

    case = scan_case(True, L=16, D=64, chunk=16)
    given = ScanInputs(**case, index=torch.tensor([], dtype=torch.int32), eps=1e-6)
    out, end = triton_apart.scan(given, 0, False, Late())
    assert not out.any() and all(map(torch.equal, end.tensors(), case["state"].tensors()))


def gradients_behind_the_kernel(mlp: bool, dtype: torch.dtype) -> None:
    """The kernel forwards, plain torch back, in groups of one chunk, against the reference's in float64."""
    from longreel.kernels import triton_launch

    case = scan_case(mlp, L=45, D=64, chunk=16, dtype=dtype)
    names, index, found = ("q", "k", "v", "eta", "ln_weight", "ln_bias"), permuted(45)[:39], []
    for exact in (False, True):
        given = in_double(case) if exact else case
        leaves = [x.clone().requires_grad_() for x in (*(given[n] for n in names), *given["state"].tensors())]
        inputs = ScanInputs(*leaves[:6], State(*leaves[6:]), 16, index, 1e-6)
        ways = (reference.scan(inputs, 0),) if exact else (differentiable.scan(inputs, 1, triton_launch.scan),)
        out, end = ways[0]
        loss = out.double().square().sum() + sum(x.double().square().sum() for x in end.tensors())
        found.append(torch.autograd.grad(loss, leaves))
    for name, a, b in zip((*names, "W1", "b1", "W2", "b2"), *found, strict=False):
        error = relative_error(a, b)
        assert error < TOLERANCE[dtype], f"the gradient by {name} is off by {error:.1e}"


NAMES = ("q", "k", "v", "eta", "ln_weight", "ln_bias")


def gradients_of(case: dict[str, Any], weigh: float = 1.0, pieces: int = 1, **more: Any) -> list[torch.Tensor]:
    """By every input and the weights before: of the outputs and of what is learned, each weighed by other numbers. The
    scan in `pieces`, which hand on their state."""
    leaves = [x.clone().requires_grad_() for x in (*(case[n] for n in NAMES), *case["state"].tensors())]
    given, state = dict(zip(NAMES, leaves, strict=False)), State(*leaves[6:])
    index = more.pop("index", torch.arange(case["q"].shape[1]))
    generator, loss = torch.Generator().manual_seed(2), torch.zeros((), dtype=torch.float64)
    for part in index.chunk(pieces):
        out, state = scan(**{**case, **given, "state": state}, index=part, **more)
        loss = loss + (out.double() * torch.randn(out.shape, generator=generator, dtype=torch.float64)).sum()
    for x in state.tensors():
        loss = loss + (x.double() * torch.randn(x.shape, generator=generator, dtype=torch.float64)).sum()
    return list(torch.autograd.grad(weigh * loss, leaves))


def gradients_equal_the_references(case: dict[str, Any], every: int, **more: Any) -> None:
    got = gradients_of(case, **more, backend="triton", checkpoint_every=every)
    want = gradients_of(in_double(case), **more, backend="reference")
    given = (*(case[name] for name in NAMES), *case["state"].tensors())
    names = (*NAMES, "W1", "b1", "W2", "b2")[: len(given)]
    for name, a, b, x in zip(names, got, want, given, strict=True):
        assert a.dtype == x.dtype, f"the gradient by {name} is {a.dtype}"
        error = relative_error(a, b)
        assert error < TOLERANCE[case["q"].dtype], f"the gradient by {name} is off by {error:.1e}"


def gradients_with_a_tail(mlp: bool, chunk: int, dtype: torch.dtype, every: int, two: int) -> None:
    L = (2 if two == 1 else 1) * chunk + 5
    case = scan_case(mlp, B=two, L=L + 4, H=two, D=64, chunk=chunk, dtype=dtype)
    gradients_equal_the_references(case, every, index=permuted(L + 4)[:L])


def gradients_with_odd_strides(mlp: bool) -> None:
    """Head-major k, v of a joint projection, q and rates across, an expanded start, another eps, no order."""
    case = scan_case(mlp, B=2, L=21, H=1, D=64, chunk=16)
    q, _, v = torch.cat([case["q"], case["k"], case["v"]], -1).split(64, -1)
    q = q.transpose(2, 3).contiguous().transpose(2, 3)
    k, eta = case["k"].transpose(1, 2).contiguous().transpose(1, 2), case["eta"].mT.contiguous().mT
    start = State(*(x[:1].expand(2, *x.shape[1:]) for x in case["state"].tensors()))
    given = ScanInputs(**case | {"q": q, "k": k, "v": v, "eta": eta, "state": start}, index=None, eps=1e-3)
    above = torch.randn(2, 64, 1, 21).transpose(1, 3)  # [B, L, H, D], the last axis not the closest
    of_state = tuple(torch.randn(x.shape).mT.contiguous().mT for x in start.tensors())
    from longreel.kernels import triton_backward

    got = triton_backward.back(given, above, of_state)
    double = {name: getattr(given, name).double() for name in NAMES}
    exact = ScanInputs(**double, state=State(*(x.double() for x in start.tensors())), chunk=16, index=None, eps=1e-3)
    want = differentiable.by_reference(exact, above.double(), tuple(x.double() for x in of_state))
    names = (*NAMES, "W1", "b1", "W2", "b2")[: len(want)]
    for name, a, b in zip(names, got, want, strict=True):
        assert relative_error(a, b) < TOLERANCE[torch.float32], name


def gradients_through_two_slabs(mlp: bool) -> None:
    case = scan_case(mlp, L=34, H=1, D=64, chunk=16, dtype=torch.float16)
    gradients_equal_the_references(case, 2, pieces=2)


def gradients_read_nothing_behind_the_tail(mlp: bool) -> None:
    """The tokens behind are another group's, and full of NaN; those of the gradient, too."""
    from longreel.kernels import triton_backward

    case = scan_case(mlp, L=32, H=1, D=64, chunk=16, dtype=torch.float16)
    above, found = torch.randn(1, 32, 1, 64).half(), []
    for behind in (0.0, float("nan")):

        def cut(x: torch.Tensor, behind: float = behind) -> torch.Tensor:
            return torch.cat([x[:, :21], torch.full_like(x[:, 21:], behind)], 1)[:, :21]

        rows = {name: cut(case[name]) for name in ("q", "k", "v", "eta")}
        given = ScanInputs(**case | rows, index=None, eps=1e-6)
        of_state = tuple(torch.ones_like(x) for x in case["state"].tensors())
        found.append(triton_backward.back(given, cut(above), of_state))
    assert all(map(torch.equal, *found)) and all(x.isfinite().all() for x in found[0])


def gradients_of_a_few_tokens(mlp: bool) -> None:
    gradients_equal_the_references(scan_case(mlp, L=3, H=1, D=64, chunk=64), 16)


def gradients_of_no_tokens(mlp: bool) -> None:
    case = scan_case(mlp, L=16, H=1, D=64, chunk=16)
    found = gradients_of(case, index=torch.tensor([], dtype=torch.int64), backend="triton")
    assert not any(x.any() for x in found[:6]) and all(x.any() for x in found[6:])


def gradients_in_float16(mlp: bool, weigh: float, rate: float) -> None:
    """Gradients that are large or small, and learning rates whose products float16 would lose."""
    case = scan_case(mlp, L=24, H=1, D=64, chunk=16, dtype=torch.float16)
    gradients_equal_the_references({**case, "eta": case["eta"] * rate}, 1, weigh=weigh)


def right_at_first_use_going_back(mlp: bool) -> None:
    case = scan_case(mlp, L=16, H=1, D=64, chunk=16, dtype=torch.float16)
    inputs = ScanInputs(**case, index=torch.arange(16), eps=1e-6)
    found = first_use.obstacle_going_back(inputs, dispatch._back_by_triton)
    assert found is None, found


def projections(D: int, dtype: torch.dtype) -> None:
    """The one-pass tail of the projections against the reference: two videos, tokens that are no multiple of a
    program's, heads with norms of their own, a token of nothing, and what lies behind the last token."""
    from longreel.kernels import triton_tail

    B, S, H = 2, triton_tail.TOKENS + 7, 3
    generator = torch.Generator().manual_seed(5)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    held = [normal(B * S * H * D + 999).to(dtype) for _ in range(3)]  # with room behind, which is no token's
    tokens = [x[: B * S * H * D].view(B, S, H, D) for x in held]
    tokens[0][1, 2], tokens[1][0, 3] = 0, 0
    angles, norm = 3 * normal(S, D // 2), [(1 + 0.3 * normal(H, D)).to(dtype), (0.3 * normal(H, D)).to(dtype)]
    behind = [x[B * S * H * D :].clone() for x in held]
    wanted = tail.reference(*(x.clone() for x in tokens), angles.cos(), angles.sin(), *norm)
    got = tail.finish(*tokens, angles, *norm, backend="triton")
    for name, a, b, x, kept in zip("qkv", got, wanted, held, behind, strict=True):
        assert a.dtype == dtype and a.data_ptr() == x.data_ptr(), f"{name} is not where it was"
        error, allowed = relative_error(a, b), 1e-6 if dtype == torch.float32 else 1e-4
        assert error < allowed, f"{name} is off by {error:.1e}, allowed {allowed:.0e}"
        others = (a != b).float().mean().item() if dtype == torch.float16 else 0.0
        assert others < 0.01, f"{name}: {others:.1%} of the numbers are rounded otherwise, so it is of another key"
        assert torch.equal(x[B * S * H * D :], kept), f"{name}: what lies behind the last token was written"


def golden(name: str) -> None:
    """The recorded outputs of the public code, through the adapter that answers them with the kernels."""
    path = next(path for path in golden_files(golden_folder()) if path.stem == name)
    got, wanted = answered_and_wanted(path, answer_of(path))
    for key, want in wanted.items():
        torch.testing.assert_close(got[key], want, atol=2e-5, rtol=1e-4, msg=lambda text, key=key: f"{key}: {text}")


def golden_names() -> list[str]:
    """The op files without gradients whose sizes the kernels are built for."""
    return [p.stem for p in golden_files(golden_folder()) if p.stem.startswith("op_") and p.stem.endswith("K64D64")]


def cases() -> dict[str, Case]:
    found: dict[str, Case] = {}
    for kind, (mlp, widths) in KERNELS.items():
        for D in widths:
            for chunk in (64, 16):
                for dtype in TOLERANCE:
                    name = f"{kind}, head dim {D}, chunk {chunk}, {str(dtype).removeprefix('torch.')}: gather and tail"
                    found[name] = partial(with_a_tail, mlp, D, chunk, dtype)
        for check in (reversed_order, order_with_gaps, slabs, tail_reads_nothing_behind_it, fewer_tokens_than_a_chunk,
                      no_tokens, any_strides, tiny_rates_in_float16, right_at_first_use):  # fmt: skip
            found[f"{kind}: {check.__name__.replace('_', ' ')}"] = partial(check, mlp, widths[0])
        for value in (1e-6, 1e-8):
            found[f"{kind}: eps {value:.0e}"] = partial(eps, mlp, widths[0], value)
    found["wide mlp: the slices of a Hopper GPU"] = slices_of_hopper
    for kind, mlp in (("linear", False), ("mlp", True)):
        for dtype in TOLERANCE:
            name = f"{kind}, {str(dtype).removeprefix('torch.')}: gradients behind the kernel"
            found[name] = partial(gradients_behind_the_kernel, mlp, dtype)
        of = ((16, 1, 2, torch.float16), (16, 1, 1, torch.float32), (64, 2, 1, torch.float32))
        for chunk, every, two, dtype in of:
            name = f"{kind}: gradients, chunk {chunk}, groups of {every}, {str(dtype).removeprefix('torch.')}"
            found[name] = partial(gradients_with_a_tail, mlp, chunk, dtype, every, two)
        for check in (gradients_with_odd_strides, gradients_through_two_slabs, gradients_read_nothing_behind_the_tail,
                      gradients_of_a_few_tokens, gradients_of_no_tokens, right_at_first_use_going_back):  # fmt: skip
            found[f"{kind}: {check.__name__.replace('_', ' ')}"] = partial(check, mlp)
        for weigh, rate in ((1e-2, 1.0), (1e3, TINY_RATE)):
            name = f"{kind}, float16: gradients times {weigh:g}, rates times {rate:g}"
            found[name] = partial(gradients_in_float16, mlp, weigh, rate)
    for chunk, piece, major in ((16, 1, 9), (16, 2, 8), (64, 1, 9)):
        for dtype in TOLERANCE:
            name = f"apart, chunk {chunk}, pieces of {piece}, {str(dtype).removeprefix('torch.')}"
            found[name] = partial(learned_and_read_apart, chunk, dtype, piece, major)
    found["apart: only in 16 bits"] = apart_only_in_16_bits
    found["apart: odd strides"] = apart_with_odd_strides
    found["apart: no tokens"] = apart_without_tokens
    for D in (64, 128, 16):
        for dtype in TOLERANCE:
            found[f"projections, head dim {D}, {str(dtype).removeprefix('torch.')}"] = partial(projections, D, dtype)
    for name in golden_names():
        found[f"golden {name}"] = partial(golden, name)
    return found


def main() -> None:
    dispatch.BACK_BYTES = 0  # groups as small as asked for
    torch.empty = poisoned
    torch.empty_like = lambda x, **options: torch.full_like(x, float("nan"), **options)
    chosen = sys.argv[1] if len(sys.argv) > 1 else ""
    for name, case in cases().items():
        if chosen not in name:
            continue
        started = time.perf_counter()
        try:
            case()
            error = None
        except AssertionError as wrong:
            error = str(wrong)
        taken = round(time.perf_counter() - started, 2)
        print(json.dumps({"case": name, "error": error, "seconds": taken}), flush=True)


if __name__ == "__main__":
    main()
