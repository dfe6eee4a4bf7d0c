"""kernels/first_use.py: what a kernel may do wrong at first contact, and that the user hears it once and goes on."""

import logging
from dataclasses import replace

import pytest
import torch

from longreel.kernels import State, differentiable, dispatch, first_use, reference, scan
from longreel.kernels.inputs import ScanInputs
from tests.kernels.scan_cases import scan_case


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.delenv(dispatch.VARIABLE, raising=False)
    first_use.forget()
    dispatch._say_once.cache_clear()
    yield
    first_use.forget()


def inputs_of(mlp: bool = True, **more) -> ScanInputs:
    return ScanInputs(**scan_case(mlp, H=3, D=16, chunk=16, **more), index=torch.arange(24).flip(0), eps=1e-6)


def right(inputs: ScanInputs) -> tuple[torch.Tensor, State]:
    return reference.scan(inputs, 0)


def wrong_tail(inputs):
    """The last, short chunk is left out of what is learned."""
    out, _ = right(inputs)
    whole = inputs.index[: len(inputs.index) // inputs.chunk * inputs.chunk]
    return out, right(replace(inputs, index=whole))[1]


def swapped_heads(inputs):
    out, end = right(replace(inputs, eta=inputs.eta.flip(2)))
    return out, end


def in_order(inputs):
    return right(replace(inputs, index=inputs.index.sort().values))


def state_not_carried(inputs):
    """Every chunk begins with the start."""
    parts = [right(replace(inputs, index=part)) for part in inputs.index.split(inputs.chunk)]
    return sum(out for out, _ in parts), parts[-1][1]


def unwritten(inputs):
    out, end = right(inputs)
    return out.index_fill(1, inputs.index[:1], float("nan")), end


def learns_nothing(inputs):
    return right(inputs)[0], inputs.state


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mlp", [False, True], ids=["linear", "mlp"])
def test_a_right_kernel_is_let_through_for_every_dtype(mlp, dtype):
    assert first_use.obstacle(inputs_of(mlp, dtype=dtype), right) is None


@pytest.mark.parametrize("wrong", [wrong_tail, swapped_heads, in_order, state_not_carried, unwritten, learns_nothing])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_wrong_kernel_is_refused_with_both_numbers(wrong, dtype):
    found = first_use.obstacle(inputs_of(dtype=dtype), wrong)
    assert found.startswith("its kernels compute wrongly on cpu: two chunks are off by ") and "allowed" in found


def test_it_is_tried_once_for_each_kind_and_not_for_each_length():
    tried = []

    def counted(inputs):
        tried.append(inputs)
        return right(inputs)

    for length in (24, 48, 40):
        first_use.obstacle(replace(inputs_of(L=length), index=torch.arange(length)), counted)
    assert len(tried) == 1 and tried[0].q.shape == (1, 2 * 16 + first_use.TAIL, 3, 16)
    first_use.obstacle(inputs_of(dtype=torch.float16), counted)
    first_use.obstacle(replace(inputs_of(), index=None), counted)
    first_use.obstacle(inputs_of(B=2), counted)  # other kernels may serve more programs
    assert [len(x.q) for x in tried] == [1, 1, 1, 2]


def test_the_sample_lies_as_the_real_tokens_do():
    joint = torch.zeros(2, 24, 3, 48)
    major = torch.zeros(2, 3, 24, 16).transpose(1, 2)
    given = replace(inputs_of(B=2), q=joint[..., :16], k=major, v=joint[..., 32:])
    sample = first_use.sample_like(given)
    assert sample.q.stride()[1:] == joint.stride()[1:] == sample.v.stride()[1:]
    assert sample.k.stride()[1] == 16 and sample.k.stride()[2] == 16 * sample.k.shape[1]
    assert sample.index.dtype == torch.int64 and sample.index.sort().values.equal(torch.arange(37))


@pytest.fixture
def kernels(monkeypatch):
    """Tensors that the kernels would serve, and kernels that are given."""

    def these(by_triton) -> None:
        monkeypatch.setattr(dispatch, "_triton_obstacle", lambda *_: None)
        monkeypatch.setattr(dispatch, "_by_triton", by_triton)

    return these


def no_compiler(inputs):
    raise RuntimeError("Triton Error [CUDA]: device kernel image is invalid\nand more")


def test_a_kernel_that_does_not_run_costs_one_warning_and_the_reference_serves(kernels, caplog):
    kernels(no_compiler)
    case = scan_case(True)
    want, want_end = scan(**case, backend="reference")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            out, end = scan(**case)
            assert torch.equal(out, want) and torch.equal(end.W2, want_end.W2)
    assert [record.message for record in caplog.records] == [
        "Longreel: TTT layers run on the slower reference: its kernels do not run on cpu (RuntimeError: Triton Error "
        "[CUDA]: device kernel image is invalid)"
    ]


def test_memory_that_ran_out_is_no_verdict_on_a_kernel(kernels):
    def full(inputs):
        raise torch.cuda.OutOfMemoryError("out of memory")

    kernels(full)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        scan(**scan_case(True))
    kernels(right)
    scan(**scan_case(True))


def test_a_kernel_that_is_forced_is_not_tried_first(kernels, monkeypatch):
    kernels(no_compiler)
    with pytest.raises(RuntimeError, match="image is invalid"):
        scan(**scan_case(True), backend="triton")
    monkeypatch.setenv(dispatch.VARIABLE, "triton")
    with pytest.raises(RuntimeError, match="image is invalid"):
        scan(**scan_case(True))


def test_a_kernel_that_agrees_serves(kernels):
    kernels(lambda inputs: (right(inputs)[0], inputs.state) if inputs.q.shape[1] == 24 else right(inputs))
    case = scan_case(True)
    assert scan(**case)[1] is case["state"]


def back_without(place: int):
    """A way back that leaves one gradient out."""

    def back(inputs, above, above_state):
        found = list(differentiable.by_reference(inputs, above, above_state))
        found[place] = torch.zeros_like(found[place])
        return tuple(found)

    return back


def back_of_each_chunk_alone(inputs, above, above_state):
    """What later chunks ask of the weights is not handed on to earlier ones."""
    zeros = tuple(torch.zeros_like(x) for x in above_state)
    rows = [x.split(inputs.chunk, 1) for x in (inputs.q, inputs.k, inputs.v, inputs.eta, above)]
    starts = [inputs.state]
    for q, k, v, eta, _ in zip(*rows, strict=True):
        starts.append(right(replace(inputs, q=q, k=k, v=v, eta=eta, state=starts[-1]))[1])
    parts = [
        differentiable.by_reference(replace(inputs, q=q, k=k, v=v, eta=eta, state=start), over, zeros)
        for q, k, v, eta, over, start in zip(*rows, starts[:-1], strict=True)
    ]
    return *(torch.cat(x, 1) for x in zip(*(part[:4] for part in parts), strict=True)), *parts[0][4:]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mlp", [False, True], ids=["linear", "mlp"])
def test_a_right_way_back_is_let_through_and_its_order_is_that_of_the_scan(mlp, dtype):
    asked = []

    def back(inputs, *above):
        asked.append(inputs.index)
        return differentiable.by_reference(inputs, *above)

    for _ in range(2):
        assert first_use.obstacle_going_back(inputs_of(mlp, dtype=dtype), back) is None
    assert asked == [None]


@pytest.mark.parametrize("wrong", [*map(back_without, range(10)), back_of_each_chunk_alone])
def test_a_wrong_way_back_is_refused_whichever_gradient_it_is(wrong):
    found = first_use.obstacle_going_back(inputs_of(), wrong)
    assert found.startswith("its kernels compute wrongly on cpu: the gradients of two chunks are off by ")


def gradient_of(case, **more) -> torch.Tensor:
    k = case["k"].clone().requires_grad_()
    return torch.autograd.grad(scan(**{**case, "k": k}, **more)[0].square().sum(), k)[0]


def test_a_way_back_that_is_wrong_costs_one_warning_and_the_reference_goes_back(kernels, monkeypatch, caplog):
    kernels(right)
    monkeypatch.setattr(dispatch, "_back_by_triton", back_without(1))
    case = scan_case(True)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            torch.testing.assert_close(gradient_of(case), gradient_of(case, backend="reference"))
    assert [record.message for record in caplog.records] == [
        "Longreel: gradients of TTT layers run on the slower reference: its kernels compute wrongly on cpu: the "
        "gradients of two chunks are off by 1.0e+00 from the reference, allowed 1e-03"
    ]


@pytest.mark.parametrize("every", [0, 1, 16])
def test_a_way_back_that_agrees_serves_in_groups_and_a_forced_one_is_not_tried(kernels, monkeypatch, every):
    asked = []

    def back(inputs, *above):
        asked.append(inputs.q.shape[1])
        return differentiable.by_reference(inputs, *above)

    kernels(right)
    monkeypatch.setattr(dispatch, "_back_by_triton", back)
    monkeypatch.setattr(dispatch, "BACK_BYTES", 0)
    case = scan_case(True, L=20)
    want, groups = gradient_of(case, backend="reference"), [4, 8, 8] if every == 1 else [20]
    torch.testing.assert_close(gradient_of(case, checkpoint_every=every), want)
    assert asked == [2 * 8 + first_use.TAIL, *groups]
    torch.testing.assert_close(gradient_of(case, checkpoint_every=every, backend="triton"), want)
    assert asked[len(groups) + 1 :] == groups


def test_kernels_that_go_back_take_as_many_chunks_as_memory_is_set_aside_for(kernels, monkeypatch):
    asked = []

    def back(inputs, *above):
        asked.append(inputs.q.shape[1])
        return differentiable.by_reference(inputs, *above)

    kernels(right)
    monkeypatch.setattr(dispatch, "_back_by_triton", back)
    case = scan_case(True, L=44)
    of_a_chunk = sum(x.numel() for x in case["state"].tensors()) * (4 + 4)
    monkeypatch.setattr(dispatch, "BACK_BYTES", 3 * of_a_chunk + 1)
    gradient_of(case, checkpoint_every=2, backend="triton")
    gradient_of(case, checkpoint_every=4, backend="triton")
    assert asked == [20, 24, 12, 32]
