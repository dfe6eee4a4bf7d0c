"""A script run by two processes that torchrun starts, on the CPU."""

import os
import subprocess
import sys
from pathlib import Path


def run_together(script: str, folder: Path) -> str:
    """The script's text, told `folder` as its argument -> what it printed. Fails with its errors."""
    path = folder / "together.py"
    path.write_text(script)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
            str(path),
            str(folder),
        ],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    return done.stdout
