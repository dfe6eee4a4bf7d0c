"""Does a cluster lose anything, and how much faster is it? Real ComfyUIs, Ray and workers on this machine.

    python dev.py bench cluster [--kills 20] [--heads 5] [--seconds 20] [--seed 0]

A storyboard of six takes of one length is rolled out on the demo model, without a cluster and on two workers, each of
one thread. First, a random worker is killed with SIGKILL at a random moment of the run, again and again; then the
ComfyUI that asked is, and started anew. A line says what was there, how soon the loss was noticed, how long the run
took, and what is wrong with what came of it: a finished chunk that was written again, a file or a latent that differs
by a bit.

Then speed: the same rollout with so many steps that it takes `--seconds`, on 1 and 2 workers in turn, models loaded,
beside what engine/plan/takes.py says for 2 to 8. With fewer than two idle cores it says nothing about clusters. The
process exits with 1 if anything is wrong.
"""

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from safetensors.torch import load_file

from longreel import dev
from longreel.engine.plan.takes import speed_up
from longreel.engine.storyboard.board import Shot, Storyboard
from tests.bench_support import device_name, table
from tests.comfy_process import ComfyError, ComfyProcess
from tests.killed_comfyui import prompt as killed_prompt
from tests.nodes.graphs import Prompt, change, node

TAKES = 6
BOARD = Storyboard(
    tuple(Shot(f"a big red circle moves right on a teal background, {n}", 2.25, "cut") for n in range(TAKES)),
    fps=16.0,
    width=64,
    height=64,
    seed=7,
)
LOST = "is gone ("  # in the log of the ComfyUI that asks


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20, help="how often a worker is killed")
    parser.add_argument("--heads", type=int, default=5, help="how often the ComfyUI that asks is killed")
    parser.add_argument("--seconds", type=float, default=20.0, help="of a rollout without a cluster, for the speed")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(dev.provide_ray())}
    rng, rows = random.Random(options.seed), []
    with tempfile.TemporaryDirectory() as folder, head(Path(folder)) as comfy:
        whole, _, _ = rolled(comfy, prompt_of("whole", 0))
        _, _, usual = rolled(comfy, prompt_of("first", 2))  # starts the workers
        _, _, usual = rolled(comfy, prompt_of("second", 2))
        for number in range(options.kills):
            rows.append(killed_worker(comfy, f"worker {number}", rng.random() * usual, rng, whole))
            print(rows[-1], flush=True)
    for number in range(options.heads):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(killed_head(Path(folder), f"head {number}", rng, usual, whole))
            print(rows[-1], flush=True)
    print(table(["killed", "after s", "chunks there", "noticed after s", "run took s", "wrong"], rows))
    if options.seconds:
        speed(options.seconds)
    print(device_name())
    return int(any(row[-1] != "nothing" for row in rows))


def prompt_of(run: str, workers: int, steps: int = 4) -> Prompt:
    """The rollout under a run name, on so many workers; 0 for no cluster."""
    prompt = {name: one for name, one in killed_prompt(steps).items() if name != "decode"}
    prompt = change(prompt, "board", text=BOARD.to_json())
    prompt = change(prompt, "sample", **{"mode.run_name": run})
    prompt = change(prompt, "save", filename_prefix=run)
    if not workers:
        return prompt
    prompt["cluster"] = node("LongreelCluster", address="", workers=workers, keep_workers=True)
    return change(prompt, "sample", cluster=["cluster", 0])


@contextmanager
def head(base: Path) -> Iterator[ComfyProcess]:
    with ComfyProcess(base=base) as comfy:
        yield comfy


def rolled(comfy: ComfyProcess, prompt: Prompt, listen: Any = None) -> tuple[dict[str, bytes], str, float]:
    """The files of the run by name with the latent among them, the report, the seconds."""
    begun = time.monotonic()
    outputs = comfy.run(prompt, 900, listen)
    seconds = time.monotonic() - begun
    (latent,) = (path for path in comfy.files(outputs) if path.suffix == ".latent")
    found = {path.name: path.read_bytes() for path in chunks(comfy, prompt)}
    return {**found, "latent": load_file(latent)["latent_tensor"].numpy().tobytes()}, outputs["say"]["text"][0], seconds


def chunks(comfy: ComfyProcess, prompt: Prompt) -> list[Path]:
    return sorted((comfy.output_path / "longreel" / prompt["sample"]["inputs"]["mode.run_name"]).glob("chunk_*"))


def workers_of(comfy: ComfyProcess) -> list[psutil.Process]:
    """The processes of the workers: Ray's, by the name that it gives an actor."""
    found = psutil.Process(comfy.process.pid).children(recursive=True)
    return [process for process in found if "ray::Worker" in " ".join(process.cmdline())]


def wrong(
    found: dict[str, bytes], whole: dict[str, bytes], before: dict[str, int], comfy: ComfyProcess, prompt: Prompt
) -> str:
    """What is wrong with a run after a kill."""
    faults = [name for name, data in whole.items() if found.get(name) != data]
    times = {path.name: path.stat().st_mtime_ns for path in chunks(comfy, prompt)}
    again = [name for name, at in before.items() if times.get(name) != at]
    said = [f"{len(faults)} files differ"] if faults else []
    said += [f"{len(again)} chunks were written again"] if again else []
    return "; ".join(said) or "nothing"


def killed_worker(comfy: ComfyProcess, run: str, seconds: float, rng: random.Random, whole: dict[str, bytes]) -> list:
    """Kill a random worker so many seconds after the run begins; a row of the table."""
    prompt, seen = prompt_of(run, 2), {}
    log_before = comfy.log.count(LOST)

    def kill() -> None:
        time.sleep(seconds)
        victims = workers_of(comfy)
        seen["before"] = {path.name: path.stat().st_mtime_ns for path in chunks(comfy, prompt)}
        rng.choice(victims).kill()
        at = time.monotonic()
        while comfy.log.count(LOST) == log_before and time.monotonic() - at < 60 and "over" not in seen:
            time.sleep(0.02)
        seen["noticed"] = round(time.monotonic() - at, 2) if comfy.log.count(LOST) > log_before else "idle then"

    thread = threading.Thread(target=kill)
    thread.start()
    found, _, took = rolled(comfy, prompt)
    seen["over"] = True
    thread.join()
    fault = wrong(found, whole, seen["before"], comfy, prompt)
    return [run, f"{seconds:.1f}", len(seen["before"]), seen["noticed"], f"{took:.1f}", fault]


def killed_head(base: Path, run: str, rng: random.Random, usual: float, whole: dict[str, bytes]) -> list:
    """Kill the ComfyUI that asks in the middle, see that its workers end, and queue again; a row of the table."""
    prompt = prompt_of(run, 2)
    with head(base) as comfy:
        rolled(comfy, prompt_of("warm", 2))
        seconds = rng.random() * usual
        thread = threading.Thread(target=lambda: _ignoring_the_end(comfy, prompt), daemon=True)
        thread.start()
        time.sleep(seconds)
        workers = workers_of(comfy)
        before = {path.name: path.stat().st_mtime_ns for path in chunks(comfy, prompt)}
        comfy.process.kill()
        comfy.process.wait()
        killed = time.monotonic()
        _, alive = psutil.wait_procs(workers, timeout=60)
        ended = time.monotonic() - killed
        thread.join()
    with head(base) as comfy:
        found, _, took = rolled(comfy, prompt)
        fault = wrong(found, whole, before, comfy, prompt)
    fault = f"{len(alive)} workers still run; {fault}" if alive else fault
    return [run, f"{seconds:.1f}", len(before), f"workers gone {ended:.1f}", f"{took:.1f}", fault]


def _ignoring_the_end(comfy: ComfyProcess, prompt: Prompt) -> None:
    try:
        comfy.run(prompt, 900)
    except (ComfyError, OSError):
        return  # it was killed


def speed(seconds: float) -> None:
    """Print what 1 and 2 workers take, in turn, beside what the plan says."""
    measured: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder, head(Path(folder)) as comfy:
        _, _, short = rolled(comfy, prompt_of("pace", 0, steps=8))
        steps = max(8, int(8 * seconds / short))
        for turn in range(3):
            for workers in (2, 1):
                rolled(comfy, prompt_of(f"warm {turn} {workers}", workers, steps=2))  # starts them, loads the model
                _, _, took = rolled(comfy, prompt_of(f"timed {turn} {workers}", workers, steps=steps))
                measured[workers].append(took)
    ratios = [one / two for one, two in zip(measured[1], measured[2], strict=True)]
    one, two = ([round(took, 1) for took in measured[workers]] for workers in (1, 2))
    print(f"\n{steps} steps; seconds on 1 worker {one}, on 2 {two}: {sorted(ratios)[1]:.2f} times as fast")
    print(f"({min(ratios):.2f} to {max(ratios):.2f} in each turn). What the plan says:")
    plans = [[workers, *(f"{speed_up([1] * takes, workers):.2f}" for takes in (TAKES, 24))] for workers in range(2, 9)]
    print(table(["workers", f"{TAKES} takes", "24 takes"], plans))


if __name__ == "__main__":
    sys.exit(main())
