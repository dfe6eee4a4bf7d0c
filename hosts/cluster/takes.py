"""Have the missing takes of a rollout made by the workers of a cluster, and keep their chunks in the run folder.

    find what the run folder has -> order each take that lacks something -> collect chunks as they are finished

The longest take is begun first, each by the worker that is free first (engine/plan/takes.py), so a slow worker holds
nobody back. Ray gives the take of a worker that died to the one that takes its place; what was collected of it before
is kept. Whatever a worker sends is checked as a file from a disk is, and only what was asked for is kept. A Cancel in
ComfyUI reaches every worker.
"""

import io
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import comfy.model_management
import comfy.utils
from comfy.cli_args import args

from ...engine.plan.rollout_chunks import Chunk
from ...engine.plan.takes import begin_order, speed_up
from ...engine.runs.chunk_file import chunk_bytes, parse_chunk
from ..sampling.rollout_dependencies import ChunkRun
from ..sampling.rollout_locks import locked_frames
from ..sampling.rollout_take import TakeOrder
from ..sampling.rollout_task import RolloutTask
from ..windows.progress import ProgressText
from . import pool as pools
from .prompt import for_worker
from .settings import ClusterError, ClusterSettings

POLL_SECONDS = 0.25
PREVIEW_PIXELS = 512


@dataclass
class Under:
    """This is a take under way: who makes it, what Ray answers with, and what was heard of it."""

    take: int
    worker: int
    order_id: str
    result: Any
    report: Any = None
    value: int = 0
    text: str = ""
    preview: bytes = b""
    lost: bool = False


@dataclass
class Takes:
    """These make the takes of one sampler's rollout elsewhere (hosts/sampling/rollout.Elsewhere).

    prompt: the graph that the user queued; node_id: of the sampler in it. After the call, `note` says for people who
    made what. lost: when a worker was found to be gone, in seconds of time.monotonic.
    """

    settings: ClusterSettings
    prompt: Mapping[str, Mapping[str, Any]]
    node_id: str
    note: str = ""
    lost: list[float] = field(default_factory=list)
    made_by: dict[int, str] = field(default_factory=dict)

    def __call__(self, task: RolloutTask, kept: ChunkRun) -> dict[int, torch.Tensor]:
        """Return the new frames [B, C, F, H, W] of all chunks, by number. Raises ClusterError."""
        made: dict[int, torch.Tensor] = {}
        for chunk in task.chunks:
            found = kept.find(chunk)
            if found is None:
                kept.expect(chunk)
            else:
                made[chunk.number] = found
        missing = {chunk.take for chunk in task.chunks if chunk.number not in made}
        if not missing:
            return made
        graph = for_worker(self.prompt, self.node_id)
        pool = pools.pool_of(self.settings)
        try:
            pool.check_files(graph)
            with pool.cards():
                _Run(self, task, kept, pool, graph, made).make(missing)
        finally:
            if not self.settings.keep:
                pools.close()
        return made


class _Run:
    """This is one run of a cluster: the takes that wait, those under way, and the chunks that are there."""

    def __init__(
        self,
        takes: Takes,
        task: RolloutTask,
        kept: ChunkRun,
        pool: pools.Pool,
        graph: dict[str, dict[str, Any]],
        made: dict[int, torch.Tensor],
    ):
        self.takes, self.task, self.kept, self.pool, self.graph, self.made = takes, task, kept, pool, graph, made
        self.wanted = {chunk.number: chunk for chunk in task.chunks if chunk.number not in made}
        self.steps = max(1, len(task.sampling.sigmas) - 1)
        self.bar = comfy.utils.ProgressBar(self.steps * len(self.wanted))
        self.text = ProgressText()
        self.under: list[Under] = []

    def make(self, missing: set[int]) -> None:
        ray = self.pool.ray
        waiting = self._in_order(missing)
        frames = [self._frames(take) for take in waiting]
        idle = list(range(len(self.pool.actors)))
        try:
            while waiting or self.under:
                comfy.model_management.throw_exception_if_processing_interrupted()
                while idle and waiting and (begun := self._may_begin(waiting)) is not None:
                    waiting.remove(begun)
                    self._begin(begun, idle.pop(0))
                references = [one.result for one in self.under] + [one.report for one in self.under if one.report]
                ray.wait(references, num_returns=1, timeout=POLL_SECONDS)
                for one in list(self.under):
                    self._hear(one)
                    if ray.wait([one.result], timeout=0)[0]:
                        self._end(one)
                        idle.append(one.worker)
                self._show()
                time.sleep(POLL_SECONDS / 5)
        except BaseException:
            for one in self.under:  # they stop after the step that they are in
                self.pool.actors[one.worker].cancel.remote(one.order_id)
            raise
        self.takes.note = self._note(frames)

    def _in_order(self, missing: set[int]) -> list[int]:
        takes = sorted(missing)
        ordered = [takes[number] for number in begin_order([self._frames(take) for take in takes])]
        return sorted(ordered, key=lambda take: take != 0) if self.task.reads_video else ordered

    def _frames(self, take: int) -> int:
        return sum(chunk.new_frames for chunk in self.wanted.values() if chunk.take == take)

    def _may_begin(self, waiting: Sequence[int]) -> int | None:
        """Return the take to begin; None while all of them wait for the video's first chunk."""
        first_is_there = not self.task.reads_video or 0 in self.made
        return next((take for take in waiting if first_is_there or take == 0), None)

    def _begin(self, take: int, worker: int) -> None:
        order_id = str(uuid.uuid4())
        graph = {name: {**node, "inputs": dict(node["inputs"])} for name, node in self.graph.items()}
        graph[self.takes.node_id]["inputs"]["order"] = order_id  # so that no earlier take is answered from a cache
        own = {chunk.number: chunk for chunk in self.task.chunks if chunk.take == take}
        read = set(own) | ({0} if self.task.reads_video else set())
        given = {
            number: chunk_bytes(self.kept.keys[number], {"samples": self.made[number].contiguous()})
            for number in read & self.made.keys()
        }
        order = TakeOrder(
            take=take,
            chunks=len(self.task.chunks),
            hashes=dict(self.kept.hashes),
            wanted={number: dict(self.kept.keys[number].dependencies) for number in own if number in self.wanted},
            given=given,
            kept=locked_frames(self.kept.locked),
            folder=str(self.kept.folder.path.resolve()),
        )
        sent = {
            "id": order_id,
            "node_id": self.takes.node_id,
            "prompt": graph,
            "preview_method": args.preview_method.value,
            "take": order.to_plain(),
        }
        self.under.append(Under(take, worker, order_id, self.pool.actors[worker].make.remote(sent)))

    def _hear(self, one: Under) -> None:
        """Take in what a worker reports, and ask again; a worker that is gone is said once."""
        ray, actor = self.pool.ray, self.pool.actors[one.worker]
        if one.report is None:
            known = [self.kept.keys[number].file_name for number in self.made if number in self.kept.keys]
            one.report = actor.report.options(max_task_retries=0).remote(one.order_id, known)
        if not ray.wait([one.report], timeout=0)[0]:
            return
        reference, one.report = one.report, None
        try:
            said = ray.get(reference)
        except ray.exceptions.RayError as error:
            if not one.lost:
                one.lost = True
                self.takes.lost.append(time.monotonic())
                logging.warning(
                    "Longreel Cluster: %s is gone (%s); Ray starts another one, which makes take %d",
                    self.pool.name(one.worker),
                    type(error).__name__,
                    one.take + 1,
                )
            one.value, one.text = 0, f"take {one.take + 1}: its worker is gone, Ray starts another one"
            return
        one.lost = False
        one.value, one.preview = said["value"], said["preview"]
        one.text = said["text"] or one.text
        self._keep(one, said["chunks"])

    def _end(self, one: Under) -> None:
        """Keep what a finished take brought. Raises ClusterError for one that could not be made."""
        self.under.remove(one)
        result = self.pool.get(one.result)
        if "error" in result:
            raise ClusterError(f"take {one.take + 1} on {self.pool.name(one.worker)}: {result['error']}")
        self._keep(one, result["chunks"])
        if lacking := [n for n, chunk in self.wanted.items() if chunk.take == one.take and n not in self.made]:
            raise ClusterError(
                f"take {one.take + 1} on {self.pool.name(one.worker)} ended without chunk {lacking[0] + 1}; look at "
                f"the log of its Ray session"
            )
        self.takes.made_by[one.take] = self.pool.name(one.worker)

    def _keep(self, one: Under, chunks: Mapping[str, bytes]) -> None:
        """Write chunks into the run folder, those that were asked for and are whole. Raises ClusterError for others."""
        wanted = {self.kept.keys[n].file_name: chunk for n, chunk in self.wanted.items() if chunk.take == one.take}
        for name, data in chunks.items():
            chunk = wanted.get(name)
            if chunk is None:
                raise ClusterError(f"{self.pool.name(one.worker)} sent {name!r}, which nobody asked it for")
            if chunk.number in self.made:
                continue  # sent again by a take that was begun again
            self.made[chunk.number] = self.kept.save(chunk, self._checked(one, chunk, name, data))

    def _checked(self, one: Under, chunk: Chunk, name: str, data: bytes) -> torch.Tensor:
        """Return the new frames that a worker sent. Raises ClusterError for what no chunk of the rollout is."""
        try:
            found = parse_chunk(Path(name), data)
        except ValueError as error:
            raise ClusterError(f"{self.pool.name(one.worker)} sent a damaged chunk: {error}") from error
        samples, start = found.tensors.get("samples"), self.task.start
        shape = (*start.shape[:2], chunk.new_frames, *start.shape[3:])
        if found.hash != self.kept.keys[chunk.number].hash or samples is None or samples.shape != shape:
            raise ClusterError(f"{self.pool.name(one.worker)} sent {name!r} with other frames than were asked for")
        return samples

    def _show(self) -> None:
        """Show one bar over all missing chunks, a text of each worker, and the newest preview."""
        done = sum(number in self.made for number in self.wanted) * self.steps
        done += sum(one.value % self.steps for one in self.under)
        preview = next((one.preview for one in self.under if one.preview), b"")
        picture = None
        if preview:
            picture = ("JPEG", Image.open(io.BytesIO(preview)), PREVIEW_PIXELS)
            for one in self.under:
                one.preview = b""
        self.bar.update_absolute(done, preview=picture)
        self.text.show("\n".join(f"worker {one.worker + 1}: {one.text or 'loading'}" for one in self.under))

    def _note(self, frames: Sequence[int]) -> str:
        count = len(self.pool.actors)
        takes = ", ".join(f"take {take + 1} on {who}" for take, who in sorted(self.takes.made_by.items()))
        first = self.task.chunks[0].new_frames if self.task.reads_video and 0 in self.wanted else 0
        lost = f"; workers lost and started again: {len(self.takes.lost)}" if self.takes.lost else ""
        most = speed_up(frames, count, first)
        where = f"{count} workers, at most {most:.1f} times as fast as on one" if count > 1 else "one worker"
        return f"made on {where}: {takes}{lost}"
