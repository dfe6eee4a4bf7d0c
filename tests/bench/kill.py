"""Does a run survive? ComfyUI killed with SIGKILL at random moments, storyboards edited and locked between.

    python dev.py bench kill [--kills 20] [--edited 20] [--histories 5000] [--seed 0] [--steps 4]

First, a run of ten chunks of the demo model is sampled, saved and decoded without a stop, twice. Then again and again:
ComfyUI is killed at a random moment (in turn while a random chunk is sampled, while one is written, while the video is
decoded), started anew and given the same prompt. A line says what the kill hit, what was on the disk after it, and
what is wrong with what came of it: a chunk that was lost, written or sampled again, a latent or an .mp4 that differs
by a bit.

Then two run names whose storyboards are edited and locked at random between kills, on a disk that is full every fourth
time (tests/killed_edits.py): locked frames, finished chunks, the other run and every bit of the end are compared.

Last, histories of random edits, locks, runs that are cut short and other storyboards under the same name, with a
sampler that stands in for the network (tests/lock_histories.py). The process exits with 1 if anything is wrong.
"""

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path
from random import Random

from tests.bench_support import device_name, start_comfyui, table
from tests.comfy_process import ComfyProcess
from tests.killed_comfyui import (
    CHUNKS,
    DECODING,
    SAMPLING,
    SAVING,
    Disk,
    Pace,
    at_aim,
    clear,
    faults,
    finish,
    kill_while_it_runs,
    prompt,
)
from tests.killed_edits import Rounds

AIMS = (SAMPLING, SAVING, DECODING)
UNCACHED = (
    "--cache-none",
)  # the ComfyUI that resumed one run is killed in the next, which it must not take from memory
SAID = 500  # histories after which a line says how far they are
NOTHING = Disk({}, [], [], [])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20, help="how often ComfyUI is killed")
    parser.add_argument("--edited", type=int, default=20, help="how often it is killed while storyboards are edited")
    parser.add_argument("--histories", type=int, default=5000, help="histories of edits without a network")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--steps", type=int, default=4, help="sampling steps of each chunk")
    options = parser.parse_args()
    parts = (
        (options.kills, lambda: killed(options.kills, options.steps, options.seed)),
        (options.edited, lambda: edited(options.edited, options.steps, options.seed)),
        (options.histories, lambda: histories(options.histories, options.seed)),
    )
    return int(sum(part() for count, part in parts if count) > 0)  # each part, whatever the others say


def killed(kills: int, steps: int, seed: int) -> bool:
    """Kill a run of ten chunks again and again, print what came of it, and return whether anything went wrong."""
    what, rng, rows, wreck, pace = prompt(steps), Random(seed), [], NOTHING, Pace()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(kills + 1):
            with ComfyProcess(base=Path(folder), arguments=UNCACHED) as comfy:
                if number == 0:
                    whole, _ = finish(comfy, what)
                    clear(comfy)
                resumed, clock = finish(comfy, what)
                pace = pace.with_clock(clock, CHUNKS - len(wreck.chunks))
                rows.append(
                    [
                        number or "",
                        wreck.phase if number else "not killed",
                        len(wreck.chunks),
                        len(wreck.half_chunks) + len(wreck.half_videos),
                        f"{clock.at['end']:.1f} s",
                        faults(wreck, resumed, whole),
                    ]
                )
                clear(comfy)
                if number < kills:
                    wreck = kill_while_it_runs(comfy, what, at_aim(AIMS[number % len(AIMS)], pace, rng))
    hit = Counter(phase for _, phase, *_ in rows[1:])
    print(
        table(
            ["kill", "hit", f"of {CHUNKS} chunks finished", "files half written", "then took", "wrong"],
            [[*row, "; ".join(wrong) or "nothing"] for *row, wrong in rows],
        )
    )
    print(
        f"\n{kills} kills: "
        + ", ".join(f"{count} {phase}" for phase, count in hit.most_common())
        + f"; {sum(bool(row[-1]) for row in rows)} went wrong. {device_name()}"
    )
    return any(row[-1] for row in rows)


def edited(kills: int, steps: int, seed: int) -> bool:
    """Play rounds of edits and kills, print them, and return whether anything went wrong."""
    what = {name: node for name, node in prompt(steps).items() if name != "decode"}
    with tempfile.TemporaryDirectory() as folder:
        rows = Rounds(Path(folder), what, Random(seed)).play(kills)
    print()
    print(
        table(
            ["kill", "edited", "stopped", "chunks on the disk", "wrong"],
            [[number, *row, "; ".join(wrong) or "nothing"] for number, (*row, wrong) in enumerate(rows, start=1)],
        )
    )
    print(f"\n{kills} kills between edits: {sum(bool(row[-1]) for row in rows)} went wrong.")
    return any(row[-1] for row in rows)


def histories(count: int, seed: int) -> bool:
    """Play histories of edits, print what they were, and return whether anything went wrong."""
    start_comfyui()
    from tests.lock_histories import Histories
    from tests.tiny_models import make_tiny_models

    faulty = 0
    with tempfile.TemporaryDirectory() as folder:
        played = Histories(make_tiny_models()["wan21"].load(), Path(folder))
        for number in range(seed, seed + count):
            for line in played.play(Random(number)):
                print(f"history {number}: {line}", flush=True)
                faulty += 1
            if (done := number - seed + 1) % SAID == 0 and done < count:
                print(f"{done} histories, {faulty} faults", flush=True)
    print(f"\n{count} histories of edits: " + ", ".join(f"{n} {what}" for what, n in played.counts.items()))
    print(
        f"{faulty} faults: locked frames that changed or were lost, chunks made needlessly, refusals without a reason."
    )
    return bool(faulty)


if __name__ == "__main__":
    sys.exit(main())
