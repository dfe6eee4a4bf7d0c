"""A rollout whose ComfyUI is killed in the middle and given the same prompt again: what lay on the disk between.

Every kill is SIGKILL to a real process. For tests/nodes/test_run_survives.py, which kills it three times, and
tests/bench/kill.py, which does it as often as it is told.
"""

import math
import os
import re
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import torch
from safetensors.torch import load_file

from longreel.engine.runs.chunk_file import NAME
from longreel.engine.storyboard.board import Shot, Storyboard
from tests.comfy_process import ComfyError, ComfyProcess
from tests.nodes.graphs import EULER, Prompt, node

RUN, VIDEOS, CHUNKS = "killed", "killed-video", 10
BOARD = Storyboard(
    (
        Shot("a big red circle moves right on a teal background", 2.3),
        Shot("a big red circle moves up on a teal background", 2.25, "blend"),
        Shot("a small yellow star bounces on a black background", 2.2, "cut"),
    ),
    fps=16.0,
    width=64,
    height=64,
    seed=7,
)
SAMPLING, SAVING, DECODING = "sampling", "saving", "decoding"
POLL_SECONDS = 0.0002  # a chunk is a few milliseconds on its way to the disk


def prompt(steps: int = 4) -> Prompt:
    """Ten chunks of the demo model, kept as a run, decoded into an .mp4 and saved as a latent."""
    demo = "demo"
    return {
        demo: node("LongreelDemoModel"),
        "board": node("LongreelStoryboard", text=BOARD.to_json()),
        "plan": node(
            "LongreelPlan",
            model=[demo, 0],
            storyboard=["board", 0],
            width=0,
            height=0,
            segment_frames=17,
            overlap_frames=8,
            transition_prompts=1,
            steps=steps,
            guidance=True,
        ),
        "encode": node("LongreelEncode", clip=[demo, 1], timeline=["plan", 0]),
        "sampler": EULER,
        "sigmas": node("BasicScheduler", model=[demo, 0], scheduler="simple", steps=steps, denoise=1.0),
        "sample": node(
            "LongreelSampler",
            **{
                "model": [demo, 0],
                "timeline": ["plan", 0],
                "positive": ["encode", 0],
                "negative": ["encode", 1],
                "latent": ["plan", 1],
                "sampler": ["sampler", 0],
                "sigmas": ["sigmas", 0],
                "seed": 4,
                "cfg": 4.0,
                "blend": "cut",
                "mode": "rollout",
                "mode.run_name": RUN,
                "mode.remove_old": False,
                "mode.low_noise_from": 0.875,
            },
        ),
        "say": node("PreviewAny", source=["sample", 1]),
        "save": node("SaveLatent", samples=["sample", 0], filename_prefix="killed"),
        "decode": node(
            "LongreelDecodeToVideo",
            vae=[demo, 2],
            samples=["sample", 0],
            fps=["plan", 3],
            filename_prefix=VIDEOS,
            crf=19,
            timeline=["plan", 0],
        ),
    }


@dataclass(frozen=True)
class Disk:
    """What lies in an output folder: finished chunks, name -> (inode, time of change), and what is half written."""

    chunks: dict[str, tuple[int, int]]
    half_chunks: list[str]
    videos: list[str]
    half_videos: list[str]

    @classmethod
    def of(cls, comfy: ComfyProcess) -> "Disk":
        run = run_folder(comfy)
        in_run = sorted(os.listdir(run)) if run.exists() else []
        stats = {name: (run / name).stat() for name in in_run if NAME.fullmatch(name)}
        files = sorted(os.listdir(comfy.output_path))
        return cls(
            {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()},
            [name for name in in_run if name.endswith(".part")],
            [name for name in files if name.endswith(".mp4")],
            [name for name in files if name.endswith(".part")],
        )

    @property
    def phase(self) -> str:
        """What a kill that left this hit."""
        if self.half_chunks:
            return SAVING
        if len(self.chunks) < CHUNKS:
            return SAMPLING
        if self.videos:
            return "after the video"
        return DECODING if self.half_videos else "before decoding"


@dataclass(frozen=True)
class Outcome:
    """What a prompt that came to its end left: latent [B, C, F, H, W], bytes of the .mp4, the run's report."""

    latent: torch.Tensor
    video: bytes
    report: list[str]
    disk: Disk


@dataclass
class Clock:
    """Seconds from the start of a prompt at which its nodes began, by their names, and at which it ended ("end");
    `ended` has the error with which it did, or None, once it did."""

    started: float = field(default_factory=time.monotonic)
    ended: list[Exception | None] = field(default_factory=list)
    at: dict[str, float] = field(default_factory=dict)

    def listen(self, kind: str, data) -> None:
        if kind == "executing" and data.get("node"):
            self.at[data["node"]] = time.monotonic() - self.started

    def seconds_of(self, name: str) -> float:
        """From where the node began to where the next one did, or the prompt ended."""
        return min(moment for moment in self.at.values() if moment > self.at[name]) - self.at[name]


@dataclass(frozen=True)
class Pace:
    """The least seconds that a chunk, and decoding the video, took so far: a busy machine only adds to them."""

    chunk: float = math.inf
    decode: float = math.inf

    def with_clock(self, clock: Clock, chunks: int) -> "Pace":
        """After a prompt that made so many chunks."""
        chunk = clock.seconds_of("sample") / chunks if chunks else math.inf
        return Pace(min(self.chunk, chunk), min(self.decode, clock.seconds_of("decode")))


def run_folder(comfy: ComfyProcess) -> Path:
    return comfy.output_path / "longreel" / RUN


def clear(comfy: ComfyProcess) -> None:
    """Empty the output folder."""
    shutil.rmtree(comfy.output_path)
    comfy.output_path.mkdir()


def finish(comfy: ComfyProcess, what: Prompt) -> tuple[Outcome, Clock]:
    """Run the prompt to its end."""
    clock = Clock()
    outputs = comfy.run(what, 600, clock.listen)
    clock.at["end"] = time.monotonic() - clock.started
    files = {file.suffix: file for file in comfy.files(outputs)}
    return Outcome(
        load_file(files[".latent"])["latent_tensor"],
        files[".mp4"].read_bytes(),
        outputs["say"]["text"][0].splitlines(),
        Disk.of(comfy),
    ), clock


def kill_while_it_runs(comfy: ComfyProcess, what: Prompt, wait: Callable[[ComfyProcess, Clock], None]) -> Disk:
    """Queue the prompt, kill ComfyUI when `wait` returns, and say what is on the disk."""
    clock = Clock()

    def run() -> None:
        try:
            comfy.run(what, 600, clock.listen)
            clock.ended.append(None)
        except (ComfyError, OSError) as error:  # the connection breaks off
            clock.ended.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    wait(comfy, clock)
    comfy.kill()
    thread.join()
    return Disk.of(comfy)


def at_aim(aim: str, pace: Pace, rng: Random) -> Callable[[ComfyProcess, Clock], None]:
    """A `wait` that ends at a random moment of sampling, of a random chunk's way to the disk, or of decoding."""
    share, number = rng.random(), rng.randrange(CHUNKS)

    if aim == SAMPLING:
        return after_chunks(number, share * pace.chunk)

    def wait(comfy: ComfyProcess, clock: Clock) -> None:
        if aim == SAVING:
            # On its way, or arrived while nobody looked.
            wait_until(clock, lambda: any(f"chunk_{number:04d}" in name for name in listed(run_folder(comfy))))
        else:
            wait_until(clock, lambda: "decode" in clock.at)
            time.sleep(share * pace.decode)

    return wait


def after_chunks(count: int, seconds: float = 0.0) -> Callable[[ComfyProcess, Clock], None]:
    """A `wait` that ends so many seconds after so many chunks are finished."""

    def wait(comfy: ComfyProcess, clock: Clock) -> None:
        wait_until(clock, lambda: "sample" in clock.at and finished(comfy) >= count)
        time.sleep(seconds)

    return wait


def finished(comfy: ComfyProcess) -> int:
    """Chunks in the run folder."""
    return sum(bool(NAME.fullmatch(name)) for name in listed(run_folder(comfy)))


def wait_until(clock: Clock, seen: Callable[[], bool]) -> None:
    """Ends with the prompt, too. Raises what the prompt failed with."""
    while not seen():
        if clock.ended:
            if clock.ended[0] is not None:
                raise clock.ended[0]
            return
        time.sleep(POLL_SECONDS)


def listed(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.exists() else []


def faults(wreck: Disk, resumed: Outcome, whole: Outcome) -> list[str]:
    """Everything in which a resumed run is not what was asked for; nothing where all is well."""
    found = [
        f"{name} was lost or written again"
        for name, stat in wreck.chunks.items()
        if resumed.disk.chunks.get(name) != stat
    ]
    found += [f"{name} is left over" for name in resumed.disk.half_chunks]
    states = [match[1] for line in resumed.report if (match := re.match(r"chunk \d+ \(shot \d+\): (.*)", line))]
    expected = ["reused"] * len(wreck.chunks) + ["made: new"] * (CHUNKS - len(wreck.chunks))
    if states != expected:
        found.append(f"the report says {states}, and {len(wreck.chunks)} of {CHUNKS} chunks were finished")
    if not torch.equal(resumed.latent, whole.latent):
        found.append("the latent differs")
    if resumed.video != whole.video:
        found.append("the video differs")
    return found
