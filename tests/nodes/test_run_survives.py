"""A run of Longreel Sampler in a real ComfyUI: killed, interrupted, damaged, refused the disk; what was finished is
kept.

`python dev.py bench kill` kills ComfyUI at as many random moments as it is told.
"""

import os
import resource
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from longreel import dev
from longreel.engine.runs.folder import open_run
from longreel.engine.storyboard.board import Shot, Storyboard
from tests.comfy_process import ComfyError, ComfyProcess
from tests.killed_comfyui import (
    DECODING,
    SAMPLING,
    SAVING,
    Disk,
    after_chunks,
    clear,
    faults,
    finish,
    kill_while_it_runs,
    prompt,
    wait_until,
)
from tests.nodes.graphs import EULER, change, node, sampled
from tests.tiny_models import MODEL_KINDS

SHOTS = (
    Shot("a red circle moves right", 2.0),
    Shot("a red circle moves up", 1.5, "blend"),
    Shot("a red circle moves left", 1.5),
    Shot("a star", 2.0, "cut"),
)

pytestmark = pytest.mark.slow  # ComfyUI processes of their own, or training
UNCACHED = ("--cache-none",)  # every queue goes to the disk, as after a start of ComfyUI
SIZE = 256  # pixels: a chunk's file is larger than ComfyUI's log, and a step takes longer than a message
LARGEST_FILE = 150_000  # bytes, of which the first chunk needs twice as many


class Run:
    """One run of the smallest Wan, by its name."""

    def __init__(self, server: ComfyProcess, tiny, name: str):
        self.server, self.folder = server, server.output_path / "longreel" / name
        base = change(
            sampled(tiny, EULER),
            "sample",
            **{"mode": "rollout", "mode.run_name": name, "mode.remove_old": False, "mode.low_noise_from": 0.875},
        )
        self.prompt = {**base, "say": node("PreviewAny", source=["sample", 1])}

    def queue(
        self, shots: tuple[Shot, ...] = SHOTS, listen: Callable[[str, Any], None] | None = None, steps: int = 2
    ) -> tuple[torch.Tensor, list[str]]:
        """-> latent, and what became of each chunk."""
        board = Storyboard(shots, width=SIZE, height=SIZE, negative="blurry")
        what = change(change(self.prompt, "board", text=board.to_json()), "sigmas", steps=steps)
        outputs = self.server.run(what, listen=listen)
        (file,) = self.server.files({"save": outputs["save"]})
        return load_file(file)["latent_tensor"], outputs["say"]["text"][0].splitlines()

    def files(self) -> dict[Path, tuple[int, int]]:
        """Chunk file -> inode and time of change, in order."""
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in sorted(self.folder.glob("chunk_*"))}


@pytest.fixture(scope="module")
def fresh(tiny_models) -> Iterator[ComfyProcess]:
    """A ComfyUI of its own that remembers no node's output."""
    folder = next(iter(tiny_models.values())).folder
    with ComfyProcess(
        packs={"tiny_nodes": dev.ROOT / "tests" / "tiny_nodes"},
        arguments=UNCACHED,
        model_folders={kind: folder / kind for kind in MODEL_KINDS},
    ) as process:
        yield process


@pytest.fixture
def run(fresh, tiny_models, request) -> Run:
    return Run(fresh, tiny_models["wan21"], request.node.name)


def changed(shots: tuple[Shot, ...], number: int, **fields) -> tuple[Shot, ...]:
    return (*shots[:number], replace(shots[number], **fields), *shots[number + 1 :])


def of_shot(report: list[str]) -> dict[int, set[str]]:
    """Shot, from 1 -> what became of its chunks."""
    found: dict[int, set[str]] = {}
    for line in report:
        place, said = line.split("): ", 1)
        found.setdefault(int(place.split("(shot ")[1]), set()).add(said)
    return found


def test_a_killed_comfyui_loses_no_chunk_and_ends_with_the_same_bits(tmp_path):
    """One run, killed while a chunk is sampled or saved, as soon as one is finished, and while the video is decoded."""
    what, wrecks = prompt(steps=2), []
    aims = [
        after_chunks(3, 0.05),
        after_chunks(7),
        lambda comfy, clock: wait_until(clock, lambda: Disk.of(comfy).half_videos),
    ]
    for aim in aims:
        with ComfyProcess(base=tmp_path, arguments=UNCACHED) as comfy:
            if not wrecks:
                whole, _ = finish(comfy, what)
                clear(comfy)
            wrecks.append(kill_while_it_runs(comfy, what, aim))
    with ComfyProcess(base=tmp_path, arguments=UNCACHED) as comfy:
        resumed, _ = finish(comfy, what)
    assert faults(wrecks[-1], resumed, whole) == []
    for before, after in pairwise(wrecks):
        assert before.chunks.items() <= after.chunks.items(), "lost or written again"
    phases = [wreck.phase for wreck in wrecks]
    assert set(phases[:2]) <= {SAMPLING, SAVING} and phases[2] == DECODING
    assert len(wrecks[0].chunks) >= 3 and len(wrecks[1].chunks) >= 7


def test_a_changed_shot_and_what_continues_from_it_are_made_again_and_named(run):
    first, _ = run.queue()
    before = run.files()
    latent, report = run.queue(changed(SHOTS, 2, prompt="a red circle moves down"))
    said = of_shot(report)
    assert said[1] == said[2] == said[4] == {"reused"}
    assert {line.split(",")[0] for line in said[3]} == {"made again: the prompt changed"}
    after = run.files()
    assert before.items() < after.items() and len(after) == len(before) + sum("(shot 3)" in line for line in report)
    assert not torch.equal(latent, first)
    _, report = run.queue(changed(SHOTS, 0, prompt="a red circle moves down"))
    said = of_shot(report)
    assert said[4] == {"reused"} and "reused" not in said[1] | said[2] | said[3]
    assert any("the chunk before changed" in line for line in said[3])


def test_a_locked_shot_stays_whatever_changed(run):
    first, report = run.queue()
    locked = changed(changed(SHOTS, 1, prompt="a blue square", locked=True), 0, prompt="a green star")
    latent, report = run.queue(locked)
    said = of_shot(report)
    assert said[2] == {"locked"} and said[4] == {"reused"} and "reused" not in said[1]
    same = [bool(torch.equal(first[:, :, frame], latent[:, :, frame])) for frame in range(first.shape[2])]
    assert not same[0] and all(same[first.shape[2] // 2 :])


def test_two_samplers_with_one_name_in_one_graph_keep_each_others_chunks(run):
    other = Storyboard(SHOTS[2:], width=64, height=64, negative="blurry").to_json()
    what = change(run.prompt, "board", text=Storyboard(SHOTS[:2], width=64, height=64, negative="blurry").to_json())
    what = change(what, "sample", **{"mode.remove_old": True})
    for name in ("board", "plan", "encode", "sample", "say"):
        renamed = {
            key: [f"other {value[0]}", value[1]] if isinstance(value, list) and value[0] in what else value
            for key, value in what[name]["inputs"].items()
        }
        shared = {key: what[name]["inputs"][key] for key in ("model", "clip", "sampler", "sigmas") if key in renamed}
        what = {**what, f"other {name}": node(what[name]["class_type"], **{**renamed, **shared})}
    what = change(what, "other board", text=other)
    reports = []
    for _ in range(2):
        outputs = run.server.run(what)
        reports.append([outputs[name]["text"][0].splitlines() for name in ("say", "other say")])
    assert all(line.endswith("made: new") for said in reports[0] for line in said)
    assert all(line.endswith("reused") for said in reports[1] for line in said)
    assert len(run.files()) == sum(len(said) for said in reports[0])


def test_an_interrupt_acts_within_a_step_and_the_run_goes_on_after_it(run):
    steps, shots, seen = 5, SHOTS[:2], []

    def listen(kind, data):
        if kind == "progress" and data["node"] == "sample":
            seen.append(data["value"])
            if data["value"] == steps + 3:  # in the second chunk
                run.server.interrupt()

    with pytest.raises(ComfyError, match="interrupted in LongreelSampler"):
        run.queue(shots, listen, steps)
    assert seen[-1] <= steps + 4
    kept = run.files()
    assert len(kept) == 1
    latent, report = run.queue(shots, steps=steps)
    assert report[0] == "chunk 1 (shot 1): reused" and {line.split("): ")[1] for line in report[1:]} == {"made: new"}
    assert kept.items() < run.files().items()
    run.folder.rename(run.folder.with_name("moved away"))
    assert torch.equal(latent, run.queue(shots, steps=steps)[0])


def test_a_truncated_and_a_tampered_chunk_are_made_again_alone(run):
    first, _ = run.queue()
    before = run.files()
    short, other = list(before)[1], list(before)[3]
    os.truncate(short, short.stat().st_size // 2)
    content = bytearray(other.read_bytes())
    content[-10] ^= 1
    other.write_bytes(content)
    latent, report = run.queue()
    assert torch.equal(latent, first)
    damaged = {number: line for number, line in enumerate(report) if not line.endswith("reused")}
    assert set(damaged) == {1, 3}
    assert short.name in damaged[1] and other.name in damaged[3] and "its numbers were changed" in damaged[3]
    after = run.files()
    assert list(after) == list(before)
    assert [after[path] == before[path] for path in before] == [number not in (1, 3) for number in range(len(before))]


def test_a_run_that_another_process_holds_is_refused_and_goes_on_when_it_ends(run):
    with (
        open_run(run.folder),
        pytest.raises(ComfyError, match=f"is held by process {os.getpid()} since .* another run name"),
    ):
        run.queue()
    assert of_shot(run.queue()[1])[1] == {"made: new"}


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="uses a folder in which nobody, root included, makes files"
)
def test_a_read_only_folder_is_refused_before_anything_is_sampled(run):
    started = []
    run.folder.parent.mkdir(exist_ok=True)
    run.folder.symlink_to("/sys/kernel")
    with pytest.raises(
        ComfyError, match=r"cannot be opened for writing .* make it writable, or use another output folder"
    ):
        run.queue(listen=lambda kind, data: started.append(kind))
    assert "progress" not in started


@pytest.mark.skipif(
    not hasattr(resource, "prlimit"), reason="sets a limit of a running process, which Linux alone does"
)
def test_a_disk_that_fills_up_stops_the_run_with_the_remedy_and_keeps_what_was_finished(run):
    process = run.server.process.pid
    limits = resource.prlimit(process, resource.RLIMIT_FSIZE)
    assert run.server.log_path.stat().st_size < LARGEST_FILE

    def fill(kind, data):
        if kind == "progress" and run.files():
            resource.prlimit(process, resource.RLIMIT_FSIZE, (LARGEST_FILE, limits[1]))

    try:
        with pytest.raises(
            ComfyError,
            match=r"chunk_\w+\.safetensors needs [\d,]+ bytes, and writing stopped .* with [\d,]+ "
            r"bytes free in .*; free space there .* what was finished is kept",
        ):
            run.queue(listen=fill, steps=4)
    finally:
        resource.prlimit(process, resource.RLIMIT_FSIZE, limits)
    kept = run.files()
    assert 0 < len(kept) < 5
    _, report = run.queue(steps=4)
    assert [line.endswith("): reused") for line in report] == [number < len(kept) for number in range(len(report))]
    assert kept.items() < run.files().items()
