"""The command line of `python dev.py gpu`; docs/measured/README.md tells how it is used."""

from __future__ import annotations

import argparse
import datetime
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import machine_setup, pack
from .report import Report
from .rows import all_rows
from .runner import run_rows

MINUTES = 9.0  # of the ten that one command has on the borrowed machine; starting Python and writing are in the tenth


def parsed() -> argparse.Namespace:
    """The words of the command line."""
    parser = argparse.ArgumentParser(prog="python dev.py gpu", description="Measure everything that needs a GPU.")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where the JSON goes; docs/measured by itself")
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"for all rows together ({MINUTES:g})")
    parser.add_argument("--rehearse", action="store_true", help="the same rows at toy size on the CPU")
    parser.add_argument("--only", default="", metavar="WORDS", help="rows whose names hold these words")
    parser.add_argument("--pack", action="store_true", help="make .gpu, which a bare machine needs, and stop")
    parser.add_argument("--python", default="3.12", help="the machine's Python, for --pack")
    return parser.parse_args()


def machine_name(rehearse: bool) -> str:
    """The card's name as a file name has it."""
    name, tool = "cpu", shutil.which("nvidia-smi")
    if tool and not rehearse:
        command = [tool, "--query-gpu=name", "--format=csv,noheader"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        name = done.stdout.splitlines()[0] if done.returncode == 0 and done.stdout.strip() else name
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") + ("-rehearsal" if rehearse else "")


def commit() -> str | None:
    """The commit of the tree, where git and its folder are there."""
    if not shutil.which("git"):
        return None
    command = ["git", "-C", str(machine_setup.ROOT), "rev-parse", "HEAD"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.stdout.strip() or None


def main() -> int:
    """Measure, and return 0 when the file is written, whatever the rows say."""
    options = parsed()
    if options.pack:
        for path in pack.pack(options.python):
            print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")
        return 0
    started = time.monotonic()
    now = datetime.datetime.now(datetime.timezone.utc)
    rows = [row for row in all_rows(options.rehearse) if options.only in row.name]
    folder = options.out or machine_setup.ROOT / ("tests/artifacts/gpu" if options.rehearse else "docs/measured")
    path = (
        Path(os.environ.get("LONGREEL_FROM", "."), folder).resolve()
        / f"{machine_name(options.rehearse)}-{now:%Y-%m-%d}.json"
    )
    report = Report(
        path,
        [row.name for row in rows],
        begun=now.isoformat(timespec="seconds"),
        rehearsal=options.rehearse,
        commit=commit(),
        arguments=sys.argv[1:],
    )
    print(f"figures: {path}", flush=True)
    with tempfile.TemporaryDirectory(prefix="longreel-gpu-", ignore_cleanup_errors=True) as place:
        environment = machine_setup.prepare(Path(place), report)
        left = 60 * options.minutes - (time.monotonic() - started)
        run_rows(rows, report, left, environment, Path(place))
    report.fact(seconds=round(time.monotonic() - started, 1), states=report.counts())
    print(f"{report.counts()}\nfigures: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
