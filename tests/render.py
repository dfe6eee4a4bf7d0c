"""Makes the videos of a set of storyboards with one workflow, in a real ComfyUI process: `dev.py render`.

    python -m tests.render SET [--workflow FILE.json] [--out FOLDER] [--only IDS]

SET is a set of storyboards/, a storyboard file, or a folder of them. Each storyboard has a run folder of its own below
FOLDER, called by its id: storyboard.json, prompt.json (what was queued), the videos, and finished.json, which is
written last. A run that has it is not made again. Where the workflow's Longreel Sampler is in mode rollout, its chunks
are kept under the same id in FOLDER/comfyui/output/longreel, so a run that was stopped in the middle goes on; in mode
joint nothing is finished before all is, and such a run begins anew. What fails is told at the end, with the reason, and
kept as failed.txt in its run folder.

COMFYUI_PATH names the ComfyUI whose models and input pictures are used. It does not know what the workflow makes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from longreel import dev
from longreel.engine.runs.name import check_run_name
from longreel.engine.storyboard.board import Storyboard
from longreel.engine.storyboard.faults import StoryboardError
from longreel.engine.storyboard.files import EXTENSIONS, read_storyboards
from tests.comfy_process import ARTIFACTS, ComfyError, ComfyProcess, ProgressBar
from tests.ui_to_api import WorkflowError

SETS = dev.ROOT / "storyboards"
WORKFLOW = dev.ROOT / "workflows" / "01_storyboard_to_video.json"
COMFYUI = "comfyui"  # ComfyUI's own folder below the one of the videos; no storyboard is called so
FINISHED, FAILED = "finished.json", "failed.txt"
LONGEST_SECONDS = 30 * 24 * 3600.0  # of one storyboard; whoever wants less stops the command
Prompt = dict[str, dict[str, Any]]


class RenderError(Exception):
    """The set, the workflow or the choice of storyboards is wrong; says what to do."""


@dataclass(frozen=True)
class Run:
    """One storyboard under its id, and the folder of what is made of it."""

    id: str
    board: Storyboard
    folder: Path


def files_of(name: str) -> list[Path]:
    """The storyboard files of a set: its own name, a file, or all files of a folder."""
    path = Path(name)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in EXTENSIONS)
        if not files:
            raise RenderError(f"{path} holds no storyboard; put {', '.join(EXTENSIONS)} files into it")
        return files
    bundled = SETS / f"{name}.jsonl"
    if not path.is_file() and not bundled.is_file():
        known = ", ".join(sorted(file.stem for file in SETS.glob("*.jsonl")))
        raise RenderError(f"there is no set {name}; write {known}, or the path of a storyboard file or folder")
    return [path if path.is_file() else bundled]


def runs_of(files: list[Path], out: Path) -> list[Run]:
    """Every storyboard with its id: its title where that can be a folder's name and no other one has it, else the name
    of its file, with its number where the file holds several.
    """
    found: dict[str, Storyboard] = {}
    for file in files:
        boards = read_storyboards(file)
        for number, board in enumerate(boards):
            name = board.title.strip()
            if not _is_name(name) or name in found:
                name = f"{file.stem}-{number:03}" if len(boards) > 1 else file.stem
            if not _is_name(name) or name in found:
                raise RenderError(f"{file}, video {number}: its id would be {name!r}; give it a short title of its own")
            found[name] = board
    return [Run(name, board, out / name) for name, board in found.items()]


def _is_name(name: str) -> bool:
    try:
        check_run_name(name)
    except ValueError:
        return False
    return name != COMFYUI


def chosen(runs: list[Run], only: str) -> list[Run]:
    """The runs whose id fits one of the words between commas; * stands for anything. All, where nothing is asked."""
    words = [word.strip() for word in only.split(",") if word.strip()]
    for word in words:
        if not any(fnmatchcase(run.id, word) for run in runs):
            raise RenderError(f"--only asks for {word}, and the set has no such id; its first is {runs[0].id}")
    return [run for run in runs if not words or any(fnmatchcase(run.id, word) for word in words)]


def with_storyboard(prompt: Prompt, board: Storyboard, run_name: str) -> Prompt:
    """The prompt with this storyboard in place of its own, and its rollouts kept under `run_name`."""
    made: Prompt = json.loads(json.dumps(prompt))
    holders = [one for one in made.values() if one["class_type"] in ("LongreelStoryboard", "LongreelLoadStoryboard")]
    if len(holders) != 1:
        raise RenderError(
            f"the workflow has {len(holders)} nodes Longreel Storyboard or Longreel Load Storyboard; use one"
        )
    holders[0].update(class_type="LongreelStoryboard", inputs={"text": board.to_json()})
    rollouts = [
        (key, one)
        for key, one in made.items()
        if one["class_type"] == "LongreelSampler" and one["inputs"].get("mode") == "rollout"
    ]
    for key, one in rollouts:
        one["inputs"]["mode.run_name"] = run_name if len(rollouts) == 1 else f"{run_name}-{key}"
    return made


def hash_of(prompt: Prompt) -> str:
    """Tells prompts apart by what is run; titles of nodes do not count."""
    plain = {key: {name: one[name] for name in ("class_type", "inputs")} for key, one in prompt.items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def is_finished(run: Run, prompt: Prompt) -> bool:
    """Whether this very prompt was run to its end here."""
    file = run.folder / FINISHED
    if not file.is_file():
        return False
    kept = json.loads(file.read_text(encoding="utf-8"))
    if kept["prompt_sha256"] != hash_of(prompt):
        raise RenderError(f"{run.folder} holds what another workflow or storyboard made; choose another --out")
    return all((run.folder / name).is_file() for name in kept["files"])


def render(comfy: ComfyProcess, run: Run, prompt: Prompt) -> list[Path]:
    """Run the prompt, keep what it saved in the run folder, and write down that it is finished."""
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / "storyboard.json").write_text(run.board.to_json(), encoding="utf-8")
    (run.folder / "prompt.json").write_text(json.dumps(prompt, indent=1), encoding="utf-8")
    start, bar = time.monotonic(), ProgressBar()
    bar.titles = {key: node.get("_meta", {}).get("title", key) for key, node in prompt.items()}
    try:
        outputs = comfy.run(prompt, timeout=LONGEST_SECONDS, listen=bar)
    finally:
        bar.close()
    saved = [file for file in comfy.files(outputs) if file.is_relative_to(comfy.output_path)]
    if not saved:
        raise ComfyError("the workflow ran, but saved no file; end it with a node that saves")
    kept = [Path(shutil.copy2(file, run.folder / file.name)) for file in saved]
    done = {
        "prompt_sha256": hash_of(prompt),
        "files": [file.name for file in kept],
        "seconds": round(time.monotonic() - start, 1),
    }
    partial = run.folder / f"{FINISHED}.partial"
    partial.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
    partial.replace(run.folder / FINISHED)
    (run.folder / FAILED).unlink(missing_ok=True)
    return kept


def start(out: Path) -> ComfyProcess:
    """A ComfyUI that keeps its folder below `out` and sees the models and pictures of COMFYUI_PATH."""
    external = dev.external_comfyui()
    models, arguments = {}, ()
    if external:
        models = {folder.name: folder for folder in sorted((external / "models").iterdir()) if folder.is_dir()}
        arguments = ("--input-directory", str(external / "input"))
    return ComfyProcess(folder_name="longreel", model_folders=models, arguments=arguments, base=out / COMFYUI)


def render_all(workflow: dict, runs: list[Run], out: Path) -> dict[str, str]:
    """Render what is not finished yet; a ComfyUI that died is started anew. -> why each one failed that did, by id."""
    failed: dict[str, str] = {}
    waiting = list(runs)
    while waiting:
        dev.say("starting ComfyUI")
        with start(out) as comfy:
            prompt = comfy.to_prompt(workflow)
            while waiting and comfy.process is not None and comfy.process.poll() is None:
                run = waiting.pop(0)
                own = with_storyboard(prompt, run.board, run.id)
                if is_finished(run, own):
                    dev.say(f"{run.id} is finished")
                    continue
                dev.say(f"rendering {run.id}, {len(runs) - len(waiting)} of {len(runs)}")
                try:
                    for file in render(comfy, run, own):
                        print(file, flush=True)
                except ComfyError as error:
                    failed[run.id] = str(error)
                    (run.folder / FAILED).write_text(f"{error}\n", encoding="utf-8")
                    dev.say(f"{run.id} failed: {str(error).splitlines()[0]}")
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", help="transitions, demo_world, a storyboard file, or a folder of them")
    parser.add_argument("--workflow", type=Path, default=WORKFLOW, help="as the editor saves it, or in API format")
    parser.add_argument("--out", type=Path, help="folder of the runs; default: tests/artifacts/render/SET")
    parser.add_argument("--only", default="", help="ids between commas; * stands for anything: 'recall-*,motion-01'")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended from outside, the server goes along
    try:
        files = files_of(arguments.set)
        out = (arguments.out or ARTIFACTS / "render" / Path(arguments.set).stem).resolve()
        runs = chosen(runs_of(files, out), arguments.only)
        workflow = json.loads(arguments.workflow.read_text(encoding="utf-8"))
        failed = render_all(workflow, runs, out)
    except (RenderError, StoryboardError, ComfyError, WorkflowError, OSError, json.JSONDecodeError) as error:
        print(f"longreel: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        dev.say("stopped; the same command goes on")
        return 130
    dev.say(f"{len(runs) - len(failed)} of {len(runs)} are finished, in {out}")
    for name, why in failed.items():
        print(f"  {name} failed: {why.splitlines()[0]}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
