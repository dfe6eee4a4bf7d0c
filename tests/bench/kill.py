"""Does a run survive? ComfyUI killed with SIGKILL at random moments of a run of ten chunks, and the same prompt again.

    python dev.py bench kill [--kills 20] [--seed 0] [--steps 4]

A run of ten chunks of the demo model is sampled, saved and decoded without a stop, twice. Then again and again: ComfyUI
is killed at a random moment (in turn while a random chunk is sampled, while one is written, while the video is
decoded), started anew and given the same prompt. A line says what the kill hit, what was on the disk after it, and
what is wrong with what came of it: a chunk that was lost, written or sampled again, a latent or an .mp4 that differs
by a bit. The process exits with 1 if anything is.
"""

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path
from random import Random

from tests.bench_support import device_name, table
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

AIMS = (SAMPLING, SAVING, DECODING)
UNCACHED = (
    "--cache-none",
)  # the ComfyUI that resumed one run is killed in the next, which it must not take from memory
NOTHING = Disk({}, [], [], [])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20, help="how often ComfyUI is killed")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--steps", type=int, default=4, help="sampling steps of each chunk")
    options = parser.parse_args()
    what, rng, rows, wreck, pace = prompt(options.steps), Random(options.seed), [], NOTHING, Pace()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.kills + 1):
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
                if number < options.kills:
                    wreck = kill_while_it_runs(comfy, what, at_aim(AIMS[number % len(AIMS)], pace, rng))
    hit = Counter(phase for _, phase, *_ in rows[1:])
    print(
        table(
            ["kill", "hit", f"of {CHUNKS} chunks finished", "files half written", "then took", "wrong"],
            [[*row, "; ".join(wrong) or "nothing"] for *row, wrong in rows],
        )
    )
    print(
        f"\n{options.kills} kills: "
        + ", ".join(f"{count} {phase}" for phase, count in hit.most_common())
        + f"; {sum(bool(row[-1]) for row in rows)} went wrong. {device_name()}"
    )
    return int(any(row[-1] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
