"""Compiles the Triton kernels for GPUs that are not here and reads what the assembler made of them.

    python -m tests.kernels.offline_compile '[["mlp", 64, 64, "bf16", 90], ...]'     -> one JSON line per kernel

Each case is kind, head dim, chunk, dtype and compute capability x 10. What is compiled is what a launch compiles: the
launcher plans it on tensors without memory, of CogVideoX-5B's 3 s, and Triton's own binder reads types, alignments and
constants off them, as it does on a GPU. Triton brings its own assembler and cuobjdump, so no GPU and no CUDA is needed,
but TRITON_INTERPRET must be unset: the process that interprets kernels cannot compile them. About ten seconds a case.
How long a kernel takes is not known here; `issue` is the instructions of its loop over chunks, as clocks of the four
schedulers of a multiprocessor: what it takes at least.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import create_function_from_signature

from longreel.kernels import State, triton_apart, triton_back, triton_backward, triton_launch, triton_tail
from longreel.kernels.inputs import ScanInputs
from longreel.kernels.launch import Launch

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
HEADS, TOKENS = 48, 18_048
GROUP = 16  # chunks that go back at a time, as engine/ttt/layer.py asks for it
SCHEDULERS = 4  # of a multiprocessor, each issues one instruction of a warp in a clock


def planned(kind: str, D: int, chunk: int, dtype: str, capability: int) -> Launch:
    """The launch of a scan of 3 s with an order, as engine/ttt/layer.py asks for it."""

    def empty(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    if kind == "tail":
        tokens = [empty(1, TOKENS, HEADS, D, dtype=DTYPES[dtype]) for _ in range(3)]
        norm = [empty(HEADS, D, dtype=DTYPES[dtype]) for _ in range(2)]
        return triton_tail.planned(*tokens, *(empty(TOKENS, D // 2) for _ in range(2)), *norm)
    mlp, major, approx = not kind.startswith("linear"), capability // 10, dtype != "fp32"
    M = 4 * D if mlp else D
    weights = [empty(1, HEADS, D, M), empty(1, HEADS, 1, M)]
    weights += [empty(1, HEADS, M, D), empty(1, HEADS, 1, D)] if mlp else []
    q, k, v = (empty(1, TOKENS, HEADS, D, dtype=DTYPES[dtype]) for _ in range(3))
    norm = [empty(HEADS, D, dtype=DTYPES[dtype]) for _ in range(2)]
    index = torch.empty(TOKENS, dtype=torch.int64, device="meta")
    inputs = ScanInputs(q, k, v, empty(1, TOKENS, HEADS), *norm, State(*weights), chunk, index, 1e-6)
    if kind in ("learn", "read"):
        piece = triton_apart.piece_of(inputs)
        out, end, kept = triton_apart.results(inputs, piece)
        if kind == "read":
            return triton_apart.reading_of(inputs, approx, 0, piece * chunk, kept[0], out)
        return triton_apart.learning(inputs, major, approx, 0, piece * chunk, weights, end, kept[0])
    if kind in ("read back", "learn back", "linear back"):
        first = {name: getattr(inputs, name)[:, : GROUP * chunk] for name in ("q", "k", "v", "eta")}
        group = replace(inputs, index=None, **first)
        if kind == "linear back":
            return triton_backward.planned_linear(group, group.q)[0]
        return triton_backward.planned(group, group.q, major, approx)[1 + (kind == "learn back")]
    return triton_launch.planned(inputs, major, approx)[0]


def source(launch: Launch, capability: int) -> ASTSource:
    """What Triton would compile for this launch."""
    kernel, backend = launch.kernel, make_backend(GPUTarget("cuda", capability, 32))
    given = {**launch.arguments, **launch.options}
    bound, specialization, options = create_function_from_signature(kernel.signature, kernel.params, backend)(**given)
    _, signature, constants, attributes = kernel._pack_args(backend, given, bound, specialization, options)
    return ASTSource(kernel, signature, constants, attributes)


def compiled(launch: Launch, capability: int) -> dict:
    """Registers per thread, stack bytes per thread (spilled registers), shared memory bytes, instructions."""
    found = triton.compile(source(launch, capability), target=GPUTarget("cuda", capability, 32), options=launch.options)
    usage = inspect(found.asm["cubin"], "--dump-resource-usage")
    loop, inner = longest_loop(inspect(found.asm["cubin"], "-sass"))
    # Going back, the loops within are over slices of the hidden axis, and passed several times a chunk.
    slices = 4 * launch.arguments["D"] // launch.arguments["S"] if launch.kernel is triton_back.learn_back_mlp else 1
    ptx = found.asm["ptx"]
    return {
        "registers": int(re.search(r"REG:(\d+)", usage)[1]),
        "stack": int(re.search(r"STACK:(\d+)", usage)[1]),
        "shared": found.metadata.shared,
        "wgmma": ptx.count("wgmma.mma_async"),
        "mma": len(re.findall(r"\bmma\.sync", ptx)),
        "loop": len(loop),
        "issue": (len(loop) + (slices - 1) * inner) * launch.options["num_warps"] // SCHEDULERS,
        "spills": sum(name.startswith(("LDL", "STL")) for name in loop),
        "narrow": sum(bool(re.match(r"(LDG|STG)(?!.*\.(64|128))", name)) for name in loop),
    }


def longest_loop(sass: str) -> tuple[list[str], int]:
    """The instructions, without operands, between the furthest backward jump and its target: the loop over chunks; and
    how many of them are in loops within it."""
    found: list[tuple[int, str]] = []
    loops: list[tuple[int, int]] = []
    for line in sass.splitlines():
        match = re.match(r"\s*/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+ )?\s*([A-Z][\w.]*)(.*?);", line)
        if not match:
            continue
        found.append((int(match[1], 16), match[2]))
        jump = re.search(r"(0x[0-9a-f]+)\s*$", match[3].rstrip("; ")) if match[2].startswith("BRA") else None
        if jump and int(jump[1], 16) < int(match[1], 16):
            loops.append((int(jump[1], 16), int(match[1], 16)))
    first, last = max(loops, key=lambda loop: loop[1] - loop[0], default=(0, -1))
    within = [loop for loop in loops if first < loop[0] and loop[1] < last]
    loop = [(address, name) for address, name in found if first <= address <= last]
    return [name for _, name in loop], sum(any(a <= at <= b for a, b in within) for at, _ in loop)


def measure(kind: str, D: int, chunk: int, dtype: str, capability: int) -> dict:
    """What `compiled` finds of a case, with the case."""
    started = time.perf_counter()
    launch = planned(kind, D, chunk, dtype, capability)
    case = {"kind": kind, "D": D, "chunk": chunk, "dtype": dtype, "capability": capability, **launch.options}
    found = compiled(launch, capability)
    return {**case, **found, "triton": triton.__version__, "seconds": round(time.perf_counter() - started, 1)}


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
