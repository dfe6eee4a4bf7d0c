"""What a compiled TTT kernel may use, on each generation of GPUs: the gates of the offline compilation.

It is plain data, so that a process without Triton can read it.
"""

import math

CAPABILITIES = (80, 86, 89, 90, 120)  # A100, RTX 30, RTX 40, H100 and H200, RTX 50
SHARED_BYTES = {80: 163 * 1024, 86: 99 * 1024, 89: 99 * 1024, 90: 227 * 1024, 120: 99 * 1024}  # per block, by opt-in

# Bytes of stack per thread, which is where registers are spilled: kind, head dim, chunk -> most. Four more registers
# than there are cost 16 bytes. The MLP's state alone is 128 of the 255 registers of a thread; at head dim 128 it is
# elsewhere, and the limits are those of Hopper's wide slices: the others spill at most half as much.
STACK_BYTES = {
    ("linear", 64, 16): 16,
    ("linear", 64, 64): 256,
    ("linear", 128, 16): 16,
    ("linear", 128, 64): 1500,
    ("mlp", 64, 16): 1900,
    ("mlp", 64, 64): 1300,
    ("learn", 64, 64): 1250,
    ("learn", 64, 16): 220,
    ("read", 64, 64): 16,
    ("learn back", 64, 16): 1000,
    ("learn back", 64, 64): 2100,
    ("read back", 64, 16): 16,
    ("read back", 64, 64): 16,
    ("linear back", 64, 16): 1700,
    ("linear back", 64, 64): 1900,
    ("tail", 64, 64): 16,
    ("mlp", 128, 16): 500,
    ("mlp", 128, 64): 1400,
}

# Clocks that the instructions of a chunk take at least, in bfloat16: those of the loop over chunks, issued by the four
# schedulers of a multiprocessor. What a chunk really takes is not known without a GPU. By capability, a hundredth above
# what was counted with Triton 3.7.1; 3.6.0 makes up to 1.3 in a hundred more (5,058 for sm_90's learner).
ISSUE_CLOCKS = {
    ("mlp", 64, 64): {80: 9600, 86: 9600, 89: 9600, 90: 7250, 120: 9100},
    ("learn", 64, 64): {80: 7100, 86: 7100, 89: 7100, 90: 5000, 120: 6700},
    ("learn back", 64, 64): {80: 24200, 86: 24200, 89: 24200, 90: 19700, 120: 23700},
    ("linear back", 64, 16): {80: 4400, 86: 4300, 89: 4300, 90: 1420, 120: 4300},
    ("linear", 64, 16): {80: 705, 86: 705, 89: 705, 90: 640},
}
WITHOUT_PRODUCTS = {"tail"}


def complaints(report: dict) -> list[str]:
    """What is wrong with one line of offline_compile, as sentences; empty where nothing is."""
    wrong = []
    stack, shared = STACK_BYTES[report["kind"], report["D"], report["chunk"]], SHARED_BYTES[report["capability"]]
    if report["dtype"] != "fp32" and report["stack"] > stack:
        wrong.append(f"it spills {report['stack']} bytes of registers per thread, allowed {stack}")
    if report["shared"] > shared:
        wrong.append(f"it needs {report['shared']} bytes of shared memory and such a GPU has {shared}")
    clocks = ISSUE_CLOCKS.get((report["kind"], report["D"], report["chunk"]), {})
    issue = clocks.get(report["capability"], math.inf)
    if report["dtype"] == "bf16" and report["issue"] > issue:
        wrong.append(f"a chunk takes {report['issue']} clocks to issue, allowed {issue}")
    if report["kind"] in WITHOUT_PRODUCTS:
        return wrong
    if not report["wgmma"] + report["mma"]:
        wrong.append("it has no matrix instructions")
    if report["capability"] == 90 and report["chunk"] == 64 and report["dtype"] != "fp32" and not report["wgmma"]:
        wrong.append("it does not use Hopper's warp-group matrix instructions")
    return wrong
