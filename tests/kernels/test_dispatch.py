"""kernels/dispatch.py: which backend serves which tensors, and what is refused, with both numbers."""

import importlib.util
import logging
import subprocess
import sys

import pytest
import torch

from longreel.kernels import State, dispatch, scan
from tests.kernels.scan_cases import scan_case


class OnGPU(torch.Tensor):
    """A tensor that says that it lies on an NVIDIA GPU."""

    is_cuda = True


@pytest.fixture
def gpu(monkeypatch) -> None:
    """A machine with an H200, Triton and a C compiler, as far as the dispatcher asks."""
    monkeypatch.delenv(dispatch.VARIABLE, raising=False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setenv("CC", "gcc")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(dispatch, "_shared_bytes", lambda device: 227 * 1024)
    dispatch._say_once.cache_clear()


def chosen(
    mlp: bool = True,
    D: int = 64,
    chunk: int = 64,
    dtype: torch.dtype = torch.bfloat16,
    backend: str | None = None,
    needs_grad: bool = False,
    M: int | None = None,
) -> str:
    case = scan_case(mlp, L=4, D=D, M=M)
    return dispatch.choose_backend(case["q"].to(dtype).as_subclass(OnGPU), case["state"], chunk, needs_grad, backend)


@pytest.mark.parametrize(("mlp", "D"), [(True, 64), (True, 128), (False, 64), (False, 128)])
@pytest.mark.parametrize("chunk", [16, 64])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_gpu_with_triton_runs_the_kernels(gpu, mlp, D, chunk, dtype):
    too_large = (mlp, D, chunk, dtype) == (True, 128, 64, torch.float32)
    assert chosen(mlp, D, chunk, dtype) == ("reference" if too_large else "triton")


@pytest.mark.parametrize(("what", "reason"), [
    ({"D": 96}, "head dims 64 and 128, not 96"),
    ({"D": 128, "dtype": torch.float32}, "needs 294912 bytes of shared memory for float32 and this GPU has 232448"),
    ({"mlp": False, "D": 32}, "head dims 64 and 128, not 32"),
    ({"chunk": 32}, "chunks of 16 and 64, not 32"),
    ({"M": 128}, "hidden width of 256, not 128"),
    ({"dtype": torch.float64}, "not torch.float64"),
    ({"needs_grad": True, "dtype": torch.float32}, "takes bfloat16 and float16, not torch.float32"),
    ({"needs_grad": True, "D": 128}, "backward pass for head dim 64 alone, not 128, and a gradient is asked for"),
])  # fmt: skip
def test_what_the_kernels_cannot_do_goes_to_the_reference_and_is_an_error_where_forced(gpu, what, reason):
    assert chosen(**what) == "reference"
    with pytest.raises(ValueError, match=reason):
        chosen(**what, backend="triton")


@pytest.mark.parametrize("chunk", [16, 64])
@pytest.mark.parametrize("mlp", [False, True])
def test_gradients_in_16_bits_are_the_kernels(gpu, mlp, chunk):
    for dtype in (torch.bfloat16, torch.float16):
        assert chosen(mlp, chunk=chunk, dtype=dtype, needs_grad=True) == "triton"


def test_a_machine_that_cannot_run_the_kernels_says_why(gpu, monkeypatch):
    monkeypatch.setattr(dispatch, "_shared_bytes", lambda device: 99 * 1024)
    with pytest.raises(ValueError, match="131072 bytes of shared memory for float32 and this GPU has 101376"):
        chosen(dtype=torch.float32, backend="triton")
    assert chosen(dtype=torch.bfloat16) == "triton"
    assert chosen(D=128, chunk=16, dtype=torch.float32) == "triton"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with pytest.raises(ValueError, match=r"capability 8.0 and this GPU has 7.5"):
        chosen(backend="triton")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="Triton is not installed"):
        chosen(backend="triton")


def test_a_cpu_runs_the_reference_and_refuses_the_kernels(monkeypatch):
    monkeypatch.delenv(dispatch.VARIABLE, raising=False)
    case = scan_case(True, D=64, chunk=16)
    assert dispatch.choose_backend(case["q"], case["state"], 16, False) == "reference"
    with pytest.raises(ValueError, match=r"triton was asked for, but .*; ask for the backend reference"):
        scan(**case, backend="triton")


def test_the_variable_decides_where_the_argument_does_not(gpu, monkeypatch):
    monkeypatch.setenv(dispatch.VARIABLE, "reference")
    assert chosen() == "reference"
    assert chosen(backend="triton") == "triton"
    monkeypatch.setenv(dispatch.VARIABLE, "fast")
    with pytest.raises(ValueError, match="unknown TTT backend 'fast'; use one of reference, triton"):
        chosen()


def test_a_gpu_that_gets_the_reference_hears_why_once(gpu, monkeypatch, caplog):
    with caplog.at_level(logging.WARNING):
        chosen(chunk=32)
        chosen(chunk=32)
        chosen(needs_grad=True, D=128)  # training has no other way
    assert [record.message for record in caplog.records if "not 32" in record.message] == [
        "Longreel: TTT layers run on the slower reference: its kernels are built for chunks of 16 and 64, not 32"
    ]
    assert len(caplog.records) == 1


def test_importing_the_kernels_imports_no_triton():
    code = "import sys, longreel.kernels, longreel.kernels.reference; sys.exit('triton' in sys.modules)"
    assert subprocess.run([sys.executable, "-I", "-c", code]).returncode == 0


@pytest.mark.parametrize(("change", "message"), [
    (lambda c: {"k": c["k"][:, :-1]}, r"k has shape \[1, 23, 2, 8\]; with q \[1, 24.* must be \[1, 24, 2, 8\]"),
    (lambda c: {"eta": c["eta"].transpose(1, 2)}, r"eta has shape \[1, 2, 24\].*must be \[1, 24, 2\]"),
    (lambda c: {"v": c["v"].half()}, "v is torch.float16 and q torch.float32"),
    (lambda c: {"ln_bias": c["ln_bias"][0]}, r"ln_bias has shape \[8\].*must be \[2, 8\]"),
    (lambda c: {"state": State(*c["state"].tensors()[:2])}, r"W1 has shape \[1, 2, 8, 32\].*must be \[1, 2, 8, 8\]"),
    (lambda c: {"state": State(*c["state"].tensors()[:3])}, "only one of W2 and b2"),
    (lambda c: {"state": State(*(x.bfloat16() for x in c["state"].tensors()))}, "bfloat16 would round the updates"),
    (lambda c: {"q": c["q"][0]}, r"q has shape \[24, 2, 8\]; TTT scans \[batch, tokens, heads, head dim\]"),
    (lambda c: {"chunk": 0}, "a chunk of 0 tokens"),
    (lambda c: {"eps": 0.0}, "eps is 0.0"),
    (lambda c: {"index": torch.arange(25)}, "index runs from 0 to 24, but the tokens are 0 to 23"),
    (lambda c: {"index": torch.tensor([-1, 2])}, "index runs from -1 to 2"),
    (lambda c: {"index": torch.tensor([3, 5, 3])}, "index names a token 2 times"),
    (lambda c: {"index": torch.arange(4.0)}, r"index is torch.float32 \[4\]"),
    (lambda c: {"checkpoint_every": -1}, "checkpoint_every is -1"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_with_both_numbers(change, message):
    case = scan_case(True)
    with pytest.raises(ValueError, match=message):
        scan(**{**case, **change(case)})


def test_an_empty_index_is_no_token():
    case = scan_case(True)
    out, state = scan(**case, index=torch.tensor([], dtype=torch.int64))
    assert not out.any() and torch.equal(state.W1, case["state"].W1)
