"""Two runs whose storyboards are edited, locked, killed and refused the disk in turn: what was finished is kept.

Each round edits the storyboard of one of two run names at random, locks what the person has seen, queues it and kills
ComfyUI at a random chunk, or lets the disk run full there. A new ComfyUI then ends the same prompt; beside it, under a
third name, it makes the same from a copy of the run folder as it was before, without being disturbed. Every kill is
SIGKILL to a real process, the limit is one that the system sets to it.
"""

import contextlib
import json
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import torch
from safetensors.torch import load_file

from longreel.engine.runs.chunk_file import NAME
from longreel.engine.storyboard.board import Shot, Storyboard
from tests.comfy_process import ComfyError, ComfyProcess
from tests.killed_comfyui import Clock, kill_while_it_runs, listed, wait_until
from tests.nodes.graphs import Prompt, change

NAMES, UNDISTURBED = ("one", "two"), "undisturbed"
OBJECTS = ("a big red circle", "a small yellow star", "a big blue triangle")
MOVES = ("moves right", "moves up", "bounces")
STYLES = ("", "film grain")
SECONDS = (1.1, 1.3, 2.2)
SIZE = 128  # pixels: a chunk's file is larger than ComfyUI's log
LARGEST_FILE = 60_000  # bytes, of which a chunk needs more


class Edited:
    """One run name: its storyboard, and the frames [B, C, F, H, W] that were seen of each shot, by id."""

    def __init__(self, name: str, rng: Random):
        self.name, self.rng, self.count = name, rng, 0
        self.shots = [self._new() for _ in range(3)]
        self.style = ""
        self.seen: dict[str, torch.Tensor] = {}

    def edit(self) -> str:
        """Edit the storyboard, and say how."""
        rng = self.rng
        at = rng.randrange(len(self.shots))
        for number, shot in enumerate(self.shots):
            if rng.random() < 0.4 and shot.id in self.seen:
                self.shots[number] = replace(shot, locked=not shot.locked)
        edit = rng.choice(("insert", "delete", "move", "reword", "restyle", "retime"))
        if edit == "insert" and len(self.shots) < 5:
            self.shots.insert(rng.randint(0, len(self.shots)), self._new())
        elif edit == "delete" and len(self.shots) > 2:
            del self.shots[at]
        elif edit == "move":
            self.shots.insert(rng.randrange(len(self.shots)), self.shots.pop(at))
        elif edit == "restyle":
            self.style = rng.choice(STYLES)
        elif edit == "retime" and not self.shots[at].locked:
            self.shots[at] = replace(self.shots[at], seconds=rng.choice(SECONDS))
        else:
            edit = "reword"
            self.shots[at] = replace(self.shots[at], prompt=f"{rng.choice(OBJECTS)} {rng.choice(MOVES)}")
        return f"{edit}, {sum(shot.locked for shot in self.shots)} of {len(self.shots)} locked"

    def prompt(self, base: Prompt, name: str) -> Prompt:
        """The prompt that makes the storyboard as it is now under a run name."""
        board = Storyboard(tuple(self.shots), fps=16.0, width=SIZE, height=SIZE, seed=7, style=self.style)
        return change(change(base, "board", text=board.to_json()), "sample", **{"mode.run_name": name})

    def look(self, latent: torch.Tensor, plan: list[dict]) -> list[str]:
        """Take what a finished video shows, and return the locked shots that it does not show as they were."""
        wrong = []
        for number, shot in enumerate(self.shots):
            own = [chunk for chunk in plan if chunk["shot"] == number]
            shown = torch.cat([latent[:, :, chunk["start"] + chunk["known"] : chunk["end"]] for chunk in own], 2)
            if shot.locked and not torch.equal(shown, self.seen[shot.id]):
                wrong.append(f"locked shot {number + 1} changed")
            self.seen[shot.id] = shown
        return wrong

    def _new(self) -> Shot:
        self.count += 1
        rng = self.rng
        prompt = f"{rng.choice(OBJECTS)} {rng.choice(MOVES)}"
        return Shot(
            prompt, rng.choice(SECONDS), rng.choice(("continue", "cut", "blend")), id=f"{self.name} {self.count}"
        )


class Rounds:
    """Rounds of edit, kill and resume in one output folder; `play` returns a row for each."""

    def __init__(self, base: Path, prompt: Prompt, rng: Random):
        self.base, self.prompt, self.rng = base, prompt, rng
        self.runs = {name: Edited(name, rng) for name in NAMES}

    def play(self, count: int) -> list[list]:
        """Return (what was edited, how it was stopped, chunks on the disk then, what is wrong) of each round."""
        rows, stopped = [], None
        with tempfile.TemporaryDirectory() as copies:
            for number in range(count + 1):
                with ComfyProcess(base=self.base, arguments=("--cache-none",)) as comfy:
                    if number == 0:
                        for run in self.runs.values():
                            self._end(comfy, run)
                    else:
                        rows.append([*stopped[:3], self._resume(comfy, *stopped[3:])])
                    if number < count:
                        run = self.runs[NAMES[number % len(NAMES)]]
                        edited = run.edit()
                        before = Path(copies) / str(number)
                        shutil.copytree(self._folder(comfy, run.name), before)
                        how = self._stop(comfy, run, disk_is_full=number % 4 == 3)
                        left = states(self._folder(comfy, run.name))
                        stopped = [edited, how, len(left), run, before, left, self._other(comfy, run)]
        return rows

    def _stop(self, comfy: ComfyProcess, run: Edited, disk_is_full: bool) -> str:
        """Queue the run's storyboard, and stop it after a random number of new chunks."""
        before = states(self._folder(comfy, run.name)).keys()
        more, seconds = self.rng.randrange(2), self.rng.random() * 0.1

        def wait(comfy: ComfyProcess, clock: Clock) -> None:
            new = lambda: len(states(self._folder(comfy, run.name)).keys() - before)  # noqa: E731
            with contextlib.suppress(ComfyError):
                wait_until(clock, lambda: "sample" in clock.at and new() >= more)
                if disk_is_full:
                    with smallest_files(comfy.process.pid):
                        wait_until(clock, lambda: bool(clock.ended))
            time.sleep(0 if clock.ended else seconds)
            ended.extend(clock.ended)

        ended: list[Exception | None] = []
        kill_while_it_runs(comfy, run.prompt(self.prompt, run.name), wait)
        if not ended:
            return "killed"
        return "made before the kill" if ended[0] is None else "disk full, killed"

    def _resume(self, comfy: ComfyProcess, run: Edited, before: Path, left: dict, other: dict) -> list[str]:
        """End the prompt, and make the same beside it undisturbed; return what is wrong."""
        wrong = []
        resumed, wrong_locks = self._end(comfy, run)
        wrong += wrong_locks
        now = states(self._folder(comfy, run.name))
        wrong += [f"{name} was lost or written again" for name, stat in left.items() if now.get(name) != stat]
        if self._other(comfy, run) != other:
            wrong.append("the other run's folder changed")
        beside = self._folder(comfy, UNDISTURBED)
        shutil.rmtree(beside, ignore_errors=True)
        shutil.copytree(before, beside)
        outputs = comfy.run(run.prompt(self.prompt, UNDISTURBED), 600)
        if not torch.equal(latent_of(comfy, outputs), resumed):
            wrong.append("the latent differs from that of a run that nothing disturbed")
        return wrong

    def _end(self, comfy: ComfyProcess, run: Edited) -> tuple[torch.Tensor, list[str]]:
        latent = latent_of(comfy, comfy.run(run.prompt(self.prompt, run.name), 600))
        plan = json.loads((self._folder(comfy, run.name) / "plan.json").read_text())["chunks"]
        return latent, run.look(latent, plan)

    def _other(self, comfy: ComfyProcess, run: Edited) -> dict:
        return states(self._folder(comfy, NAMES[1 - NAMES.index(run.name)]))

    @staticmethod
    def _folder(comfy: ComfyProcess, name: str) -> Path:
        return comfy.output_path / "longreel" / name


@contextlib.contextmanager
def smallest_files(process: int) -> Iterator[None]:
    """Let a process write no file that is as large as a chunk's, as on a disk that is full."""
    limits = resource.prlimit(process, resource.RLIMIT_FSIZE)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (LARGEST_FILE, limits[1]))
    try:
        yield
    finally:
        resource.prlimit(process, resource.RLIMIT_FSIZE, limits)


def states(folder: Path) -> dict[str, tuple[int, int]]:
    """Return (inode, time of change) of each finished chunk by its name."""
    found = {name: (folder / name).stat() for name in listed(folder) if NAME.fullmatch(name)}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in found.items()}


def latent_of(comfy: ComfyProcess, outputs: dict) -> torch.Tensor:
    """Return the latent that a prompt saved."""
    (file,) = comfy.files({"save": outputs["save"]})
    return load_file(file)["latent_tensor"]
