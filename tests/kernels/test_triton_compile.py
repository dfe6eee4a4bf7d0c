"""The Triton kernels compile without a GPU, and use no more registers and shared memory than GPUs have.

The published shapes, and TTT-MLP of head dim 128 for every generation, whose slices differ; `python dev.py bench
ttt_kernels` compiles all shapes for all generations.
"""

import json

import pytest

from longreel.kernels.dispatch import TRITON_SHARED_BYTES
from tests.kernels.compile_limits import CAPABILITIES, SHARED_BYTES, complaints
from tests.kernels.triton_process import on_linux, run_with_triton

CASES = [["linear", 64, 16, "bf16", 89], ["mlp", 64, 64, "bf16", 89], ["mlp", 64, 64, "bf16", 90]]
CASES += [[kind, 64, 64, "bf16", 90] for kind in ("learn", "read", "tail", "learn back")]
CASES += [["linear back", 64, 16, "bf16", 90]]
CASES += [["mlp", 128, chunk, "bf16", at] for chunk in (16, 64) for at in CAPABILITIES]
CASES += [["mlp", 128, 16, "fp32", 89], ["mlp", 128, 16, "fp32", 90]]
TOO_LARGE = ["mlp", 128, 64, "fp32", 89]


@pytest.fixture(scope="module")
def reports(tmp_path_factory) -> dict[str, dict]:
    cache = str(tmp_path_factory.mktemp("triton"))  # compiled afresh, or the assembler would have nothing to say
    lines = run_with_triton("tests.kernels.offline_compile", json.dumps([*CASES, TOO_LARGE]), TRITON_CACHE_DIR=cache)
    return {str(case): line for case, line in zip([*CASES, TOO_LARGE], lines, strict=True)}


@pytest.mark.slow
@on_linux
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_a_kernel_fits_the_gpu_it_is_compiled_for(case: list, reports: dict[str, dict]):
    assert complaints(reports[str(case)]) == []


@pytest.mark.slow
@on_linux
def test_the_kernel_that_no_gpu_has_memory_for_is_refused_with_what_it_needs(reports: dict[str, dict]):
    assert reports[str(TOO_LARGE)]["shared"] == TRITON_SHARED_BYTES[128, 64] > max(SHARED_BYTES.values())


def test_a_kernel_that_does_not_fit_is_complained_about():
    report = {"kind": "mlp", "D": 64, "chunk": 64, "dtype": "bf16", "capability": 90, "stack": 816, "shared": 40960,
              "issue": 7000, "wgmma": 96, "mma": 0}  # fmt: skip
    assert complaints(report) == []
    assert complaints({**report, "stack": 9000}) == ["it spills 9000 bytes of registers per thread, allowed 1300"]
    assert complaints({**report, "issue": 7251}) == ["a chunk takes 7251 clocks to issue, allowed 7250"]
    assert len(complaints({**report, "shared": 300_000, "wgmma": 0})) == 3
    assert complaints({**report, "kind": "tail", "stack": 0, "wgmma": 0}) == []
