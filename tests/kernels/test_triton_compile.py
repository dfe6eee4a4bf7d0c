"""The Triton kernels compile without a GPU, and use no more registers and shared memory than GPUs have.

The published shapes, on Hopper and on the consumer cards with the least shared memory; `python dev.py bench
ttt_kernels` compiles all shapes for all generations.
"""

import json

import pytest

from tests.kernels.compile_limits import complaints
from tests.kernels.triton_process import on_linux, run_with_triton

CASES = [["linear", 64, 16, "bf16", 89], ["mlp", 64, 64, "bf16", 89], ["mlp", 64, 64, "bf16", 90]]


@pytest.fixture(scope="module")
def reports(tmp_path_factory) -> dict[str, dict]:
    cache = str(tmp_path_factory.mktemp("triton"))  # compiled afresh, or the assembler would have nothing to say
    lines = run_with_triton("tests.kernels.offline_compile", json.dumps(CASES), TRITON_CACHE_DIR=cache)
    return {str(case): line for case, line in zip(CASES, lines, strict=True)}


@on_linux
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_a_kernel_fits_the_gpu_it_is_compiled_for(case: list, reports: dict[str, dict]):
    assert complaints(reports[str(case)]) == []


def test_a_kernel_that_does_not_fit_is_complained_about():
    report = {"kind": "mlp", "D": 64, "chunk": 64, "dtype": "bf16", "capability": 90, "stack": 1904, "shared": 40960,
              "wgmma": 96, "mma": 0}  # fmt: skip
    assert complaints(report) == []
    assert complaints({**report, "stack": 9000}) == ["it spills 9000 bytes of registers per thread, allowed 2100"]
    assert len(complaints({**report, "shared": 300_000, "wgmma": 0})) == 3
