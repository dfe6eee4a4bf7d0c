"""Compiles the Triton kernels for GPUs that are not here and reads what the assembler made of them.

    python -m tests.kernels.offline_compile '[["mlp", 64, 64, "bf16", 90], ...]'     -> one JSON line per kernel

Each case is kind, head dim, chunk, dtype and compute capability x 10. Triton brings its own assembler and cuobjdump, so
no GPU and no CUDA is needed, but TRITON_INTERPRET must be unset: the process that interprets kernels cannot compile
them. About ten seconds a case. How long a kernel takes is not known here.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from longreel.kernels import triton_linear, triton_mlp, triton_mlp_wide

TILES = {"q_ptr", "k_ptr", "v_ptr", "out_ptr"}  # in the tokens' dtype
TOKEN_STRIDES = {"q_token", "k_token", "v_token", "out_token"}  # multiples of 16 numbers for any head dim that runs


def source(kind: str, D: int, chunk: int, dtype: str, capability: int) -> tuple[ASTSource, dict]:
    """The kernel with the types and alignments of a launch, and its launch options."""
    constants = {"K": chunk, "D": D}
    if kind == "mlp" and D > 64:
        kernel = triton_mlp_wide.scan_mlp_wide
        constants |= {"S": triton_mlp_wide.slice_rows(capability // 10), "APPROX": dtype != "fp32"}
        options = {"num_warps": triton_mlp_wide.WARPS, "num_stages": triton_mlp_wide.STAGES}
    elif kind == "mlp":
        kernel = triton_mlp.scan_mlp
        constants |= {"APPROX": dtype != "fp32"}
        options = {"num_warps": triton_mlp.WARPS, "num_stages": triton_mlp.STAGES}
    else:
        kernel = triton_linear.scan_linear
        options = {"num_warps": triton_linear.WARPS[D], "num_stages": triton_linear.STAGES}
    signature, aligned = {}, {}
    for place, name in enumerate(kernel.arg_names):
        signature[name] = argument_type(name, constants, dtype)
        if name.endswith("_ptr") or name in TOKEN_STRIDES:
            aligned[(place,)] = [["tt.divisibility", 16]]
    return ASTSource(kernel, signature, constants, aligned), options


def argument_type(name: str, constants: dict, dtype: str) -> str:
    if name in constants:
        return "constexpr"
    if name == "index_ptr":
        return "*i32"
    if name in TILES:
        return f"*{dtype}"
    if name.endswith("_ptr"):
        return "*fp32"
    return "fp32" if name == "eps" else "i32"


def measure(kind: str, D: int, chunk: int, dtype: str, capability: int) -> dict:
    """Registers per thread, stack bytes per thread (spilled registers), shared memory bytes, matrix instructions."""
    started = time.perf_counter()
    code, options = source(kind, D, chunk, dtype, capability)
    compiled = triton.compile(code, target=GPUTarget("cuda", capability, 32), options=options)
    usage = inspect(compiled.asm["cubin"], "--dump-resource-usage")
    ptx = compiled.asm["ptx"]
    return {
        "kind": kind, "D": D, "chunk": chunk, "dtype": dtype, "capability": capability, **options,
        "registers": int(re.search(r"REG:(\d+)", usage)[1]),
        "stack": int(re.search(r"STACK:(\d+)", usage)[1]),
        "shared": compiled.metadata.shared,
        "wgmma": ptx.count("wgmma.mma_async"),
        "mma": len(re.findall(r"\bmma\.sync", ptx)),
        "seconds": round(time.perf_counter() - started, 1),
    }  # fmt: skip


def inspect(binary: bytes, option: str) -> str:
    """What Triton's own cuobjdump says about a compiled kernel."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        return subprocess.run([tool, option, file.name], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    for case in json.loads(sys.argv[1]):
        print(json.dumps(measure(*case)), flush=True)
