"""kernels/reference_dual.py: the published PyTorch outputs, and the primal form where rows of eta are equal."""

import pytest
import torch
from safetensors.torch import load_file

from longreel.kernels import State, scan
from longreel.kernels.reference_dual import scan_dual
from tests.golden.test_golden import golden_files, golden_folder, label
from tests.kernels.scan_cases import relative_error, scan_case

FILES = [path for path in golden_files(golden_folder()) if label(path).startswith("ttt/op_")]


def rates_as_matrix(eta: torch.Tensor, chunk: int) -> torch.Tensor:
    """`eta` [B, L, H] -> [B, H, L / K, K, K] with equal rows."""
    return eta.transpose(1, 2).unflatten(2, (-1, 1, chunk)).expand(-1, -1, -1, chunk, -1)


@pytest.mark.parametrize("path", FILES, ids=label)
def test_it_is_what_the_published_code_computes_with_its_whole_eta(path):
    golden = load_file(path)
    q, k, v = (golden[name].flatten(2, 3).transpose(1, 2) for name in ("XQ", "XK", "XV"))  # [B, L, H, D]
    start = State(*(golden[f"{name}_init"] for name in ("W1", "b1", "W2", "b2") if f"{name}_init" in golden))
    out, end = scan_dual(q, k, v, golden["eta"], golden["ln_weight"], golden["ln_bias"], start)
    torch.testing.assert_close(out.unflatten(1, golden["out"].shape[1:3]), golden["out"], atol=2e-5, rtol=1e-4)
    for name, got in zip(("W1", "b1", "W2", "b2"), end.tensors(), strict=False):
        torch.testing.assert_close(got, golden[f"{name}_final"], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("mlp", [False, True], ids=["linear", "mlp"])
def test_it_equals_the_primal_form_where_all_rows_are_equal(mlp):
    case = scan_case(mlp, B=2, L=24, chunk=8)
    out, end = scan(**case, eps=1e-6, backend="reference")
    rates = rates_as_matrix(case.pop("eta"), case.pop("chunk"))
    dual, dual_end = scan_dual(**case, eta=rates, eps=1e-6)
    assert relative_error(dual, out) < 1e-6
    assert all(relative_error(a, b) < 1e-6 for a, b in zip(dual_end.tensors(), end.tensors(), strict=True))


def test_a_tail_is_refused():
    case = scan_case(False, L=20, chunk=8)
    rates = torch.zeros(1, 2, 2, 8, 8)
    del case["eta"], case["chunk"]
    with pytest.raises(ValueError, match="20 tokens are not 2 chunks of 8"):
        scan_dual(**case, eta=rates)
