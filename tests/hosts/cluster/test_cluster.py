"""The takes of a rollout on real workers: the same bits, and a killed worker costs what it had not finished."""

import contextlib
import os
import re
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch

import comfy.model_management
import folder_paths

from longreel.engine.plan.takes import begin_order
from longreel.engine.runs.folder import open_run
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.hosts.cluster import pool
from longreel.hosts.cluster.settings import ClusterError, ClusterSettings
from longreel.hosts.cluster.takes import Takes
from longreel.hosts.sampling import rollout
from longreel.hosts.sampling.settings import Sampling
from tests import killed_comfyui
from tests.hosts.cluster.ray_cluster import evaluate, ray_at_hand
from tests.nodes.graphs import change, node

COLOURS = ("red", "blue", "pink")
BOARD = Storyboard(
    tuple(Shot(f"a big {colour} circle moves right on a teal background", 2.2, "cut") for colour in COLOURS),
    fps=16.0,
    width=64,
    height=64,
    seed=7,
)
TWO = ClusterSettings(workers=2)
NOTICED_SECONDS = 5.0
WOULD_BE = r"^take \d on worker \d \(.*\): Longreel Sampler: chunk \d of shot \d would be another one here"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def base():
    """The base folder of two workers, which all tests of this file share."""
    with ray_at_hand() as folder:
        yield folder


def prompt_of(steps: int) -> dict:
    """Three takes of the demo model, with memories that begin anew in each, behind Longreel Cluster."""
    prompt = killed_comfyui.prompt(steps)
    settings = {"anchor": "take", "frames": 1, "placement": "before", "strength": 1.0, "layers": "first 1"}
    prompt["long"] = node("LongreelLongMemory", model=["demo", 0], **settings, statistics=0.5)
    prompt["cluster"] = node("LongreelCluster", address="", workers=2, keep_workers=True)
    prompt = change(prompt, "board", text=BOARD.to_json())
    return change(prompt, "sample", model=["long", 0], cluster=["cluster", 0])


PROMPT = prompt_of(steps=4)


def run(prompt: dict, folder: Path, elsewhere=None) -> tuple[bytes, dict[str, bytes], list[str]]:
    """A rollout of the prompt's sampler in this process: its latent's bytes, its run folder's files, its report."""
    known: dict[str, tuple] = {}
    given = {
        name: evaluate(prompt, value[0], known)[value[1]]
        for name, value in prompt["sample"]["inputs"].items()
        if isinstance(value, list) and name != "cluster"
    }
    model, timeline, latent = (given.pop(name) for name in ("model", "timeline", "latent"))
    sampling = Sampling(cfg=4.0, seed=4, **given)
    with torch.inference_mode(), open_run(folder) as opened:
        out, report = rollout.sample_rollout(
            model, timeline, latent, sampling, run=opened, node_id="sample", elsewhere=elsewhere
        )
    files = {path.name: path.read_bytes() for path in folder.glob("chunk_*.safetensors")}
    return out["samples"].numpy().tobytes(), files, report.splitlines()


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What a rollout without a cluster makes."""
    return run(PROMPT, tmp_path_factory.mktemp("alone"))


def _listening() -> set[str]:
    """The addresses at which this process, Ray and the workers answer."""
    found = set()
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            found |= {one.laddr.ip for one in process.net_connections("tcp") if one.status == "LISTEN"}
    return {ip.removeprefix("::ffff:") for ip in found}


def test_two_workers_make_the_bits_of_none(base, alone, tmp_path):
    takes = Takes(TWO, PROMPT, "sample")
    assert run(PROMPT, tmp_path / "two", takes) == alone
    assert sorted(takes.made_by) == [0, 1, 2] and len(set(takes.made_by.values())) == 2 and not takes.lost
    assert re.match(r"made on 2 workers, at most 1\.\d times as fast as on one: take 1 on worker \d \(", takes.note)
    assert _listening() == {"127.0.0.1"}
    takes = Takes(TWO, PROMPT, "sample")
    assert run(PROMPT, tmp_path / "two", takes)[:2] == alone[:2]
    assert not takes.made_by  # all was found


def test_cancel_reaches_the_workers(base, tmp_path):
    many = prompt_of(steps=2000)
    begun = time.monotonic()

    def cancel() -> None:
        comfy.model_management.interrupt_current_processing(True)

    timer = threading.Timer(2.0, cancel)
    timer.start()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        run(many, tmp_path / "cancelled", Takes(TWO, many, "sample"))
    assert time.monotonic() - begun < 30  # 2000 steps of one chunk take longer
    assert not list((tmp_path / "cancelled").glob("chunk_*"))


def test_a_worker_that_stands_still_holds_nobody_up_and_killed_costs_its_own_take(base, alone, tmp_path):
    """It stands still from the beginning, and is killed when all other takes are there."""
    victim, takes = pool.pool_of(TWO).about[0]["pid"], Takes(TWO, PROMPT, "sample")
    killed: list[float] = []
    before: dict[str, int] = {}

    def elsewhere(task, kept):
        frames = [sum(chunk.new_frames for chunk in task.chunks if chunk.take == take) for take in range(3)]
        first = begin_order(frames)[0]  # of the first worker
        others = sum(chunk.take != first for chunk in task.chunks)
        save, saved = kept.save, []

        def saving(chunk, new):
            written = save(chunk, new)
            saved.append(chunk.take)
            if len(saved) == others:
                before.update({path.name: path.stat().st_mtime_ns for path in kept.folder.path.glob("chunk_*")})
                os.kill(victim, signal.SIGKILL)
                killed.append(time.monotonic())
            return written

        kept.save = saving
        made = takes(task, kept)
        assert saved == sorted(saved, key=lambda take: take == first)
        return made

    os.kill(victim, signal.SIGSTOP)
    assert run(PROMPT, tmp_path / "killed", elsewhere) == alone
    assert len(takes.lost) == 1 and 0 < takes.lost[0] - killed[0] < NOTICED_SECONDS
    assert "workers lost and started again: 1" in takes.note
    assert {name: (tmp_path / "killed" / name).stat().st_mtime_ns for name in before} == before


def test_files_that_a_worker_lacks_or_has_otherwise_are_refused_by_name(base, tmp_path, monkeypatch):
    ours, theirs = tmp_path / "loras", base / "models" / "loras"
    ours.mkdir()
    theirs.mkdir(exist_ok=True)
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras", ([str(ours)], {".safetensors"}))
    graph = {"lora": node("LoraLoaderModelOnly", lora_name="style.safetensors")}
    (ours / "style.safetensors").write_bytes(b"a style")
    workers = pool.pool_of(TWO)
    with pytest.raises(ClusterError, match=r"^worker 1 \(.*\) has no loras/style.safetensors; copy the file there"):
        workers.check_files(graph)
    (theirs / "style.safetensors").write_bytes(b"another")
    with pytest.raises(ClusterError, match=r"^worker 1 \(.*\) has another loras/style.safetensors: sha256 \w+ there"):
        workers.check_files(graph)
    (theirs / "style.safetensors").write_bytes(b"a style")
    workers.check_files(graph)


def test_what_stops_on_a_worker_is_said_as_it_would_be_here(base, tmp_path):
    """Both workers stop; whichever is heard first."""
    wrong = change(PROMPT, "board", text=PROMPT["board"]["inputs"]["text"].replace("red circle", "green star"))
    with pytest.raises(ClusterError, match=WOULD_BE):
        run(PROMPT, tmp_path / "other", Takes(TWO, wrong, "sample"))
