"""Say what machine this is: the card, its memory and driver, and the versions that measured."""

import os
import platform
import shutil
import subprocess
from typing import Any

ASKED = "name,memory.total,driver_version,clocks.max.sm,clocks.max.mem,power.limit"


def facts(record: Any, rehearse: bool) -> None:
    """Record what needs no torch first, then what torch sees."""
    record("python", platform.python_version())
    record("system", platform.platform())
    record("processors", os.cpu_count())
    if tool := shutil.which("nvidia-smi"):
        command = [tool, f"--query-gpu={ASKED}", "--format=csv,noheader"]
        record("nvidia-smi", subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip())
    record("gcc", shutil.which("gcc") or shutil.which("clang"))
    import torch

    from tests.bench.gpu.timing import require_gpu

    record("torch", torch.__version__)
    record("cuda", torch.version.cuda)
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        record("gpu", properties.name)
        record("capability", list(torch.cuda.get_device_capability(0)))
        record("multiprocessors", properties.multi_processor_count)
        record("shared bytes per block", properties.shared_memory_per_block_optin)
        free, total = torch.cuda.mem_get_info()
        record("total bytes", total)
        record("free bytes", free)
        record("cudnn", torch.backends.cudnn.version())
    else:
        record("gpu", None)
        require_gpu(rehearse)
    import triton

    record("triton", triton.__version__)
