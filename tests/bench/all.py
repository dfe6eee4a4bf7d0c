"""Every table of docs/measured.md on cases that nobody tuned to: one JSON, one page of tables, all contact sheets.

    python dev.py bench all [--offset 100000] [--seeds 4] [--out FOLDER] [--tables ...] [--jobs 2] [--list]

Each table is a benchmark in a process of its own, two at a time with one thread each. --seeds is the number of stories
or storyboards; tables of single clips take a multiple of it. Few seeds have wide intervals, which the tables show; the
default needs about an hour and a half of processor time, so that two idle cores are ready within an hour. What has no
cases to choose (`kill`, `decode`, `ttt_kernels`, `memory`) is not among them. It resumes: what all.json in FOLDER has
with the same command and the same code (PARTS of the tree) is not measured again, and the file is written after each
table. Where it is ended it takes its benchmarks along, unless it is killed outright. tables.txt is the page; the folder
sheets has the pictures, and what a person would call broken in them is a failure, whatever the figures say.
"""

import argparse
import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SEEDS, OFFSET = 4, 100_000
PARTS = ("engine", "kernels", "hosts", "nodes", "demo", "tests/bench", "tests/bench_support.py", "web/docs")
TABLES: dict[str, tuple[int, tuple[str, ...]]] = {  # name: seeds per --seeds, words of its command; longest first
    "rollout": (1, ("rollout", "--chunks", "15", "--rounds", "0")),
    "blend": (2, ("blend", "--rounds", "1")),
    "kv_share": (1, ("kv_share", "--rounds", "0")),
    "refine": (2, ("refine", "--rounds", "1")),
    "ttt color": (1, ("ttt", "--kinds", "color", "--ways", "local attention", "TTT-Linear", "TTT-MLP")),
    "yardsticks": (2, ("yardsticks",)),
    "seam_check": (3, ("seam_check",)),
    "ttt shape": (1, ("ttt", "--kinds", "shape", "--segments", "10", "--ways", "local attention", "TTT-MLP")),
    "ttt returns": (1, ("ttt", "--kinds", "returns", "--segments", "12", "--ways", "local attention", "TTT-MLP")),
    "anchor": (2, ("anchor", "--steps", "15", "3")),
    "prompt_edit": (2, ("prompt_edit",)),
    "demo": (6, ("demo",)),
    "pictures": (1, ("pictures",)),
}


def command(name: str, options: argparse.Namespace) -> list[str]:
    """The words behind `python -m`, without where it writes."""
    times, (bench, *rest) = TABLES[name]
    seeds = ["--seeds", str(times * options.seeds), "--offset", str(options.offset)]
    return [f"tests.bench.{bench}", *seeds, "--threads", "1", *rest]


def code_version() -> str:
    """A hash of PARTS as they lie in the tree: what pages and other tests say changes no figure."""
    files = (f for part in PARTS for f in ([ROOT / part] if (ROOT / part).is_file() else (ROOT / part).rglob("*")))
    found = hashlib.sha256()
    for file in sorted(f for f in files if f.suffix in (".py", ".safetensors", ".webp", ".json")):
        found.update(str(file.relative_to(ROOT)).encode() + hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()[:16]


def measured(name: str, options: argparse.Namespace, running: set[subprocess.Popen]) -> dict[str, Any]:
    """Run one table -> its command, printed text, figures, seconds and exit status."""
    words, stem, code = command(name, options), name.replace(" ", "_"), code_version()
    file = options.out / f"{stem}.json"
    file.unlink(missing_ok=True)
    sheets = options.out / "sheets" / stem
    sheets.mkdir(parents=True, exist_ok=True)
    started = time.time()
    process = subprocess.Popen(
        [sys.executable, "-I", "-m", *words, "--json", str(file), "--images", str(sheets)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    running.add(process)
    text, errors = process.communicate()
    running.discard(process)
    return {
        "command": words,
        "code": code,
        "status": process.returncode,
        "seconds": round(time.time() - started, 1),
        "text": text if process.returncode == 0 else text + errors[-4000:],
        "figures": json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None,
    }


def missing(kept: dict[str, Any], options: argparse.Namespace) -> Iterator[str]:
    """The tables that `kept` lacks, failed in, or has of another command or other code."""
    for name in options.tables:
        found = kept.get(name)
        same = found and found["command"] == command(name, options) and found["code"] == code_version()
        if not same or found["status"]:
            yield name


def page(kept: dict[str, Any], names: list[str]) -> str:
    """All tables that there are, one below the other, each with the command that printed it."""
    parts = []
    for name in names:
        if name in kept:
            found = kept[name]
            head = f"python dev.py bench {shlex.join(found['command']).removeprefix('tests.bench.')}"
            state = "" if found["status"] == 0 else f"   FAILED with status {found['status']}"
            parts.append(f"== {name}: {found['seconds']:.0f} s{state}\n{head}\n\n{found['text'].strip()}\n")
    return "\n".join(parts)


def write(kept: dict[str, Any], options: argparse.Namespace) -> None:
    for name, text in (("all.json", json.dumps(kept, indent=1) + "\n"), ("tables.txt", page(kept, list(TABLES)))):
        part = options.out / f"{name}.part"
        part.write_text(text, encoding="utf-8")
        part.replace(options.out / name)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=SEEDS, help="stories of each table")
    parser.add_argument("--offset", type=int, default=OFFSET, help="number of the first case")
    parser.add_argument("--out", type=Path, default=Path("bench_all"), help="folder of the results")
    parser.add_argument("--tables", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--jobs", type=int, default=2, help="tables that are measured at once")
    parser.add_argument("--list", action="store_true", help="print the commands and end")
    options = parser.parse_args()
    if options.list:
        for name in options.tables:
            print(f"{name}: {shlex.join(command(name, options))}")
        return 0
    options.out = options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "all.json"
    kept = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    todo = list(missing(kept, options))
    print(f"{len(options.tables) - len(todo)} of {len(options.tables)} tables are there; measuring {', '.join(todo)}")
    started = time.time()
    running: set[subprocess.Popen] = set()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with ThreadPoolExecutor(options.jobs) as pool:
        futures = {pool.submit(measured, name, options, running): name for name in todo}
        try:
            for future in as_completed(futures):
                name = futures[future]
                kept[name] = future.result()
                write(kept, options)
                print(f"{name}: {kept[name]['seconds']:.0f} s, status {kept[name]['status']}", flush=True)
        except BaseException:  # ended from outside: what is half measured is of no use
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(running):
                process.terminate()
            raise
    write(kept, options)
    print(
        f"\n{page(kept, options.tables)}\n{time.time() - started:.0f} s; {options.out / 'tables.txt'}, {file}, sheets"
    )
    return max((kept[name]["status"] for name in options.tables), default=0)


if __name__ == "__main__":
    sys.exit(main())
