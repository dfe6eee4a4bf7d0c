"""The Triton kernels against the reference on a CPU, in Triton's interpreter (tests/kernels/interpreted_cases.py)."""

import pytest

from tests.kernels.interpreted_cases import cases
from tests.kernels.triton_process import on_linux, run_with_triton


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str | None]:
    lines = run_with_triton("tests.kernels.interpreted_cases", TRITON_INTERPRET="1", LONGREEL_TTT_BACKEND="triton")
    return {line["case"]: line["error"] for line in lines}


@pytest.mark.slow
@on_linux
@pytest.mark.parametrize("name", list(cases()))
def test_the_kernel_equals_the_reference(name: str, outcomes: dict[str, str | None]):
    assert outcomes[name] is None, outcomes[name]
